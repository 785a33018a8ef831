package core

import (
	"testing"

	"pgregory.net/rapid"

	"bursar/core/policy"
)

// TestEntriesAreSpelledAsHosts: whatever is written as a host, the entry of a policy and the URL of a call are spelled alike, once
// and for all, and the entry names the call.
func TestEntriesAreSpelledAsHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{
			"a", "B", "exa", "Exa", "ai", "com", "example", "localhost", "127", "0", "1", "00", "0x7f", "0X1", "xn--", "bcher-kva", "bücher", "BÜCHER", "STRAẞE", "straße", "İ", "ı", "ς", "Σ",
			"\u212a", "①", "１", "é", "e\u0301", "\u00ad", "\u200d", "\u200c", "ﬀ", "א", "-", "_", "*", ".", ".", ".", "。", "．", "｡", ":", "::", "[", "]", "ffff", "%", "%E2%91%A0", "%61", "\\", "\t",
		})
		text := ""
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			text += piece.Draw(t, "piece")
		}
		port := rapid.SampledFrom([]string{":8402", ":08402", ":443", ":0443", ":80", ":0", ":65536", ":", ""}).Draw(t, "port")
		entry, ok := serviceRule(text + port)
		if again, still := serviceRule(entry); ok && (!still || again != entry) {
			t.Fatalf("%q is %q, and that is %q", text+port, entry, again)
		}
		for _, scheme := range []string{"http", "https"} {
			call, err := parseTarget(scheme + "://" + text + port + "/v1")
			if err != nil {
				continue
			}
			if again, err := parseTarget(scheme + "://" + call.host); err != nil || again.host != call.host || again.service != call.service {
				t.Fatalf("%q is %q, and that is %q: %v", text+port, call.host, again.host, err)
			}
			if !ok || !policy.Matches(entry, call.host, call.service) {
				t.Fatalf("%q is the host %q, and the entry %q (%v)", text+port, call.host, entry, ok)
			}
			if plain, ok := serviceRule(call.host); !ok || !policy.Matches(plain, call.host, call.service) {
				t.Fatalf("%q is the host %q, whose entry is %q (%v)", text+port, call.host, plain, ok)
			}
		}
	})
}
