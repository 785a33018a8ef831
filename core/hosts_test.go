package core_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/policy"
	"bursar/pay/paytest"
)

// otherSpellings are those of 127.0.0.1, of localhost and of [::1] that some client, resolver or browser takes; %s is a port.
var otherSpellings = []string{
	"http://127.0.0.1:0%s/", "http://127.0.0.1:000000000000000000000000%s/", "http://127.0.0.1.:%s/", "http://127.0.0.1..:%s/", "http://127。0。0。1:%s/",
	"http://127.0.0.1。:%s/", "http://127.0.0.1｡:%s/", "http://127.0.0.1．:%s/", "http://①②⑦.0.0.1:%s/", "http://１２７.0.0.1:%s/", "http://%%EF%%BC%%91２７.0.0.1:%s/",
	"http://[::ffff:127.0.0.1]:%s/", "http://[::FFFF:7f00:1]:%s/", "http://[0:0:0:0:0:ffff:127.0.0.1]:0%s/", "http://[127.0.0.1]:%s/", "HTTP://127.0.0.1:%s/",
	"http://LOCALHOST:%s/", "http://localhost.:%s/", "http://LocalHost。:0%s/", "http://ⓛocalhost:%s/", "http://local\u00adhost:%s/", "http://ｌｏｃａｌｈｏｓｔ｡:%s/",
	"http://[localhost]:%s/", "http://.localhost:%s/", "http://localhost。。:%s/", "http://xn--localhost-:%s/", "http://xn--localhost:%s/", "http://loc%%C2%%ADalhost:%s/",
	"http://[0:0:0:0:0:0:0:1]:%s/", "http://[::0001]:0%s/", "http://[0000::0.0.0.1]:%s/",
	"http://127.1:%s/", "http://127.0.1:%s/", "http://2130706433:%s/", "http://0x7f000001:%s/", "http://0X7F.1:%s/", "http://0x7f.0.0.0x1:%s/", "http://0177.0.0.1:%s/",
	"http://017700000001:%s/", "http://127.0.0.01:%s/", "http://127.000.000.001:%s/", "http://127.0.0.1.0x:%s/", "http://0x:%s/", "http://0:%s/", "http://127.0.0.0x１:%s/",
	"http://127.0.0.1:+%s/", "http://127.0.0.1: %s/", "http://127.0.0.1:%s\t/", "http://127.0.0.1:\n%s/", "http://127.0.0.1\t:%s/", "http://127.0.0.1:%%30%s/", "http://127.0.0.1:０%s/",
	"http://127.0.0.1::%s/", "http://127.0.0.1:%s:/", "http://%%31%%32%%37.0.0.1:%s/", "http://127.0.0.1:0x%s/", "http://127.0.0.1:%s%%00/", "http://127.0.0.1:0/?%s", "http://127.0.0.1:65536/?%s",
	"http://127.0.0.1:18446744073709551617/?%s", "http://0.0.0.0:%s/", "http://[::]:%s/", "http://[::127.0.0.1]:%s/", "http://[::1%%25lo]:%s/", "http://[::1%%2525lo]:%s/", "http://[::ffff:127.1]:%s/",
	"http://user@127.0.0.1:%s/", "//127.0.0.1:%s/", " http://127.0.0.1:%s/",
}

// TestOneSpellingOfAHost: what a policy blocks is not called by another spelling. Each that reaches the server hits the block
// of the plain one, and each other is refused.
func TestOneSpellingOfAHost(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "open", 0)
	held := w.Agent(p, "held", 0)
	var calls atomic.Int64
	server := w.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	u, err := url.Parse(server)
	must(w, err)
	port := u.Port()
	setPolicy(w, p, held.ID, core.PolicyInput{BlockedServices: &[]string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port}})
	reached := 0
	for _, spelling := range otherSpellings {
		link := fmt.Sprintf(spelling, port)
		before := calls.Load()
		_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "open", URL: link, Timeout: 2e9})
		if c := code(err); err != nil && c != core.InvalidRequest && c != core.ServiceFailed {
			t.Errorf("%q: %v", link, err)
		}
		came := calls.Load() != before
		if came {
			reached++
		}
		before = calls.Load()
		r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "held", URL: link, Timeout: 2e9})
		var d *policy.Denial
		if blocked := errors.As(err, &d) && d.Rule == policy.RuleBlocked; err == nil || calls.Load() != before || (came && !blocked) {
			t.Errorf("%q is not blocked: %+v %v", link, r, err)
		}
	}
	if reached < 15 {
		t.Errorf("%d spellings reached the server: the others show nothing", reached)
	}
}

// TestHostsAreToldInOneSpelling: what is remembered of a call names its host in the spelling of all others.
func TestHostsAreToldInOneSpelling(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	setPolicy(w, p, a.ID, core.PolicyInput{AllowedServices: &[]string{"nobody"}})
	for link, want := range map[string]string{
		"https://api.example.com:0443/x": "example.com", "http://api.example.com:00080/x": "example.com", "https://Api.Example.com.:/x": "example.com",
		"https://203.0.113.7:0443/": "203.0.113.7", "https://203.0.113.7:08402/": "203.0.113.7:8402", "http://203.0.113.7:443/": "203.0.113.7:443",
		"https://[2001:DB8::0001]:0443/": "[2001:db8::1]", "https://[2001:db8:0::1]:065535/": "[2001:db8::1]:65535",
		"https://bücher.example:0443/": "xn--bcher-kva.example", "https://BÜCHER。example。/": "xn--bcher-kva.example",
	} {
		_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: link})
		if code(err) != core.Forbidden {
			t.Errorf("%s: %v", link, err)
			continue
		}
		traces, err := w.Core.Traces.List(w.Ctx, p, core.TraceFilter{Limit: 1})
		if err != nil || len(traces.Items) != 1 || traces.Items[0].Service != want || !strings.HasSuffix(traces.Items[0].Host, want) {
			t.Errorf("%s: %+v %v", link, traces, err)
		}
	}
	for _, link := range []string{
		"https://example.com:0/", "https://example.com:65536/", "https://example.com:99999999999999999999/", "https://a..example.com/", "https://.example.com/",
		"https://" + strings.Repeat("a", 64) + ".example.com/", "https://example.0x7f/", "https://example.1/", "https://[example.com]/", "https://1.2.3.4.5/",
	} {
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: link}); code(err) != core.InvalidRequest {
			t.Errorf("%s: %v", link, err)
		}
	}
}

// TestOtherSpellingsAreTheSamePayee: who was paid at a host has been paid at its other spellings, and what the catalogue bills there
// is billed.
func TestOtherSpellingsAreTheSamePayee(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w, func(a *api) core.ServiceInput { return a.perCall("search") })
	other := func(link string) string { return strings.Replace(link, "127.0.0.1:", "[::ffff:127.0.0.1]:00", 1) }
	if r := fetch(w, m.p, core.FetchInput{Agent: "bot", URL: other(m.api.URL + "/v1/find")}); r.Method != "metered" || r.Service != "search" {
		t.Errorf("the catalogue was gone around: %+v", r)
	}
	link := w.Seller(cent).Link(2, paytest.Serve, 0)
	fetch(w, m.p, core.FetchInput{Agent: "bot", URL: link})
	refuse, percent := core.RefuseIt, int64(100)
	setPolicy(w, m.p, m.agent.ID, core.PolicyInput{NewPayee: &refuse, PriceJump: &refuse, PriceJumpPercent: &percent})
	fetch(w, m.p, core.FetchInput{Agent: "bot", URL: other(link)})
	if r, err := w.Core.Payments.Fetch(w.Ctx, m.p, core.FetchInput{Agent: "bot", URL: other(link) + "?price=20000"}); code(err) != core.SpendingLimit && code(err) != core.Forbidden {
		t.Errorf("a price that jumps at another spelling: %+v %v", r, err)
	}
}

// TestEntriesOfPoliciesNameSomething: an entry is kept in the spelling that hosts have, and one that could not match is refused.
func TestEntriesOfPoliciesNameSomething(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	for entry, want := range map[string]string{
		"http://127.0.0.1:8402/": "127.0.0.1:8402", "HTTP://127.0.0.1:8402": "127.0.0.1:8402", "127.0.0.1:08402": "127.0.0.1:8402", "127.0.0.1:8402/": "127.0.0.1:8402",
		"Localhost.": "localhost", " Exa ": "exa", "EXA.ai": "exa.ai", "https://Api.Exa.ai:443/": "api.exa.ai", "https://api.exa.ai": "api.exa.ai", "api.exa.ai:443": "api.exa.ai:443",
		"http://api.exa.ai:443": "api.exa.ai:443", "api.exa.ai:": "api.exa.ai", "::1": "::1", "[::1]": "::1", "[0:0::1]:080": "[::1]:80", "http://[::1]/": "::1", "[::ffff:127.0.0.1]": "127.0.0.1",
		"::FFFF:127.0.0.1": "127.0.0.1", "Bücher.example": "xn--bcher-kva.example", "bücher": "xn--bcher-kva", "com": "com", "１２７.0.0.1:8402": "127.0.0.1:8402", "exa.ai。": "exa.ai",
		"gateway/weather": "gateway/weather", "GATEWAY/Weather": "gateway/weather", "demo-proverbs": "demo-proverbs", "2024": "2024", "0x7f": "0x7f",
	} {
		got, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{BlockedServices: &[]string{entry}, AllowedServices: &[]string{entry}})
		if err != nil || got.BlockedServices[0] != want || got.AllowedServices[0] != want {
			t.Errorf("%q: %+v %v", entry, got, err)
			continue
		}
		again, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{BlockedServices: &got.BlockedServices})
		if err != nil || again.BlockedServices[0] != want {
			t.Errorf("%q again: %+v %v", entry, again, err)
		}
	}
	setPolicy(w, p, a.ID, core.PolicyInput{BlockedServices: &[]string{"kept.example"}, AllowedServices: &[]string{}})
	for _, entry := range []string{
		"", " ", "*", "*.0.0.1", "*.exa.ai", ".exa.ai", "exa..ai", "exa.ai/v1", "https://exa.ai/v1", "https://exa.ai/?q=1", "https://exa.ai?", "https://exa.ai/#x", "https://u:p@exa.ai/", "u@exa.ai",
		"ftp://exa.ai/", "https://", "exa ai", "api.exa.ai api.openai.com", "exa.ai,openai.com", "exa.ai:0", "exa.ai:65536", "exa.ai:http", "exa.ai:*", "127.1", "0x7f.0.0.1", "127.0.0.0/8",
		"[::1", "fe80::1%lo", "[fe80::1%25lo]", "gateway/", "gateway/*", "gateway/a b", "gateway/a/b", "//exa.ai/", "exa_ai", "exa.ai\\", "exa%2eai", "\x00", "xn--a.example",
	} {
		for list, in := range map[string]core.PolicyInput{"blocked": {BlockedServices: &[]string{entry}}, "allowed": {AllowedServices: &[]string{"exa", entry}}} {
			if got, err := w.Core.Policies.Update(w.Ctx, p, a.ID, in); code(err) != core.InvalidRequest {
				t.Errorf("%s %q: %+v %v", list, entry, got, err)
			}
			if _, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Draft: in, Days: 1}); code(err) != core.InvalidRequest {
				t.Errorf("%s %q in a draft: %v", list, entry, err)
			}
		}
	}
	if got, err := w.Core.Policies.Get(w.Ctx, p, a.ID); err != nil || got.BlockedServices[0] != "kept.example" {
		t.Errorf("%+v %v", got, err)
	}
}

// TestEntriesBlockWhatTheyName: also those that were let in before entries were checked.
func TestEntriesBlockWhatTheyName(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		db := raw(t, w)
		forbidden := func(how, entry, link string) {
			t.Helper()
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: link}); code(err) != core.Forbidden {
				t.Errorf("%s %q: %s: %v", how, entry, link, err)
			}
		}
		for _, c := range []struct{ entry, link string }{
			{"http://203.0.113.7:8402/", "http://203.0.113.7:8402/v1/weather"},
			{"HTTP://203.0.113.7:8402", "http://203.0.113.7:08402/"},
			{"203.0.113.7:08402", "https://203.0.113.7:8402/"},
			{"Example.com.", "https://api.example.com/"},
			{"https://example.com:443/", "https://example.com/"},
			{"example.com:443", "https://example.com/"},
			{"example.com:80", "http://example.com/"},
			{"[2001:db8::1]:443", "https://[2001:db8::1]/"},
			{"[2001:db8::1]", "https://[2001:db8::1]:8402/"},
			{"Bücher", "https://bücher.example/"},
			{"example", "https://example.com:8402/"},
		} {
			setPolicy(w, p, a.ID, core.PolicyInput{BlockedServices: &[]string{c.entry}, AllowedServices: &[]string{}})
			forbidden("new", c.entry, c.link)
			exec(t, db, fmt.Sprintf(`UPDATE spending_policies SET version = version + 1, blocked_services = '["*.old", %q]' WHERE agent_id = '%s'`, c.entry, a.ID))
			forbidden("stored", c.entry, c.link)
		}
		setPolicy(w, p, a.ID, core.PolicyInput{BlockedServices: &[]string{"example.com:443"}})
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: "http://example.com:8402/", Timeout: 2e9}); code(err) == core.Forbidden {
			t.Error("an entry with a port blocks another:", err)
		}
	})
}
