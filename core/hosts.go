package core

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"bursar/core/policy"
)

// How hosts are spelled. Policies, the memory, the catalogue and history compare them as texts, so each has one spelling here,
// and what a resolver may read as another's address is no host at all.

const maxLabel = 63 // bytes between the dots of a name (RFC 1035)

// normalHost gives a host its one spelling, so that a policy cannot be passed by another: an address as netip writes it, a name
// in lower-case ASCII as it will be looked up (IDNA) and without a trailing dot; the port as a plain number, and none when it is
// the scheme's own. Without a scheme every port is kept.
func normalHost(u *url.URL) error {
	name, ok := hostName(u.Hostname())
	six := strings.Contains(name, ":")
	if !ok || (strings.HasPrefix(u.Host, "[") && !strings.Contains(u.Hostname(), ":")) {
		return E(InvalidRequest, "url has no valid host")
	}
	if six {
		name = "[" + name + "]"
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return E(InvalidRequest, "url has no valid port: it is a number from 1 to 65535")
		}
		if ownPort(u.Scheme) != n {
			name += ":" + strconv.FormatUint(n, 10)
		}
	}
	u.Host = name
	return nil
}

// ownPort is the one that a URL of the scheme means when it names none.
func ownPort(scheme string) uint64 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}

// hostName is a name or an address, without brackets, in its one spelling.
func hostName(text string) (string, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap().String(), addr.Zone() == ""
	}
	name, err := idna.Lookup.ToASCII(text)
	if err != nil || !utf8.ValidString(text) {
		return "", false
	}
	name = strings.ToLower(strings.TrimRight(name, ".")) // after the mapping, which makes dots of other signs
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.String(), true
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > maxLabel {
			return "", false
		}
	}
	return name, !number(labels[len(labels)-1])
}

// number reports whether a label is one, decimal or hexadecimal. No name ends in one; some resolvers read a text that does as
// an address: 127.1, 0x7f000001 and 0177.0.0.1 are this machine's.
func number(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	return !strings.ContainsFunc(digits, func(r rune) bool { return (r < '0' || r > '9') && (!hex || r < 'a' || r > 'f') })
}

// domainOf is the registrable domain of a host, or the host itself.
func domainOf(host string) string {
	name := (&url.URL{Host: host}).Hostname()
	if _, err := netip.ParseAddr(name); err == nil {
		return host
	}
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return domain
	}
	return host
}

// serviceRule brings an entry of a policy's lists into the spelling of what it is compared with: a short name of the catalogue,
// gateway/ and one, or a host with or without a port. It reports false for what no service is called.
func serviceRule(text string) (string, bool) {
	text = strings.TrimSpace(text)
	low := strings.ToLower(text)
	ascii := len(low) == len(text) // for a short name: other letters with a lower case in ASCII have more bytes, and IDNA maps them otherwise
	if policy.Strange(low) {
		return low, ascii && isSlug(strings.TrimPrefix(low, policy.StrangerName("")))
	}
	if ascii && isSlug(low) {
		return low, true
	}
	if addr, err := netip.ParseAddr(text); err == nil { // an IPv6 address needs no brackets here
		return addr.Unmap().String(), addr.Zone() == ""
	}
	if !strings.Contains(text, "://") {
		if strings.HasPrefix(text, "/") {
			return "", false
		}
		text = "//" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.User != nil || u.Hostname() == "" || strings.ContainsAny(text, "?#") || (u.Path != "" && u.Path != "/"):
		return "", false
	case u.Scheme != "" && ownPort(u.Scheme) == 0:
		return "", false
	case normalHost(u) != nil || len(u.Host) > maxServiceName:
		return "", false
	case u.Port() == "":
		return u.Hostname(), true
	}
	return u.Host, true
}

func isSlug(text string) bool {
	return text != "" && len(text) <= maxSlug && text == serviceSlug(text)
}

// serviceRules are stored entries in the same spelling. Some are older than it: what cannot match stays as it is.
func serviceRules(stored []string) []string {
	for i, text := range stored {
		if plainRule(text) {
			continue
		}
		if rule, ok := serviceRule(text); ok && rule != text {
			stored = slices.Clone(stored)
			stored[i] = rule
		}
	}
	return stored
}

// plainRule recognises most entries that are spelled as they should be, since each call asks.
func plainRule(text string) bool {
	return !strings.HasSuffix(text, ".") && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}
