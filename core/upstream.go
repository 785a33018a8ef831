package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/net/http/httpguts"

	"bursar/pay"
)

// Bounds of a call to a paid service.
const (
	dialTimeout     = 10 * time.Second
	defaultTimeout  = 30 * time.Second
	minTimeout      = time.Second
	maxTimeout      = 60 * time.Second
	challengeTime   = 10 * time.Second // for the body of a 402, once its head is here
	maxUpstreamBody = 10 << 20         // bytes of an answer that is handed on whole
	maxFirstRead    = 64 << 10         // bytes made ready for a body because the service says that it has so many
	maxUpstreamHead = 64 << 10         // bytes of an answer's header
	maxURLLength    = 2048
	maxHostLength   = 255 // with a port; names of DNS have 253 characters at most
	maxIdlePerHost  = 512 // a burst of callers must not make and drop a connection for each call
)

// NewUpstream makes the client that reaches paid services: public addresses only, judged at the moment of the
// dial so that a name cannot change in between; no proxy from the environment; redirects are never followed,
// because a proof of payment must not reach a stranger; nothing is packed or unpacked on the way. allow lists address:port pairs that may be dialled
// although they are private (the demo service, tests).
func NewUpstream(allow []netip.AddrPort) *http.Client {
	guard := newGuard(allow)
	dialer := &net.Dialer{Timeout: dialTimeout, Control: func(network, address string, _ syscall.RawConn) error {
		return guard.judge(network, address)
	}}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: maxIdlePerHost, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxUpstreamHead,
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard judges addresses that would be dialled.
type guard struct {
	public *ssrf.Guardian
	allow  []netip.AddrPort // although they are private; port 0: all of an address's
}

func newGuard(allow []netip.AddrPort) *guard { return &guard{ssrf.New(ssrf.WithAnyPort()), allow} }

func (g *guard) judge(network, address string) error {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		for _, a := range g.allow {
			if a.Addr().Unmap() == ap.Addr().Unmap() && (a.Port() == 0 || a.Port() == ap.Port()) {
				return nil
			}
		}
	}
	return g.public.Safe(network, address, nil)
}

// judgeTarget refuses a target by an address that would not be dialled. What a name leads to shows at the dial only.
func (g *guard) judgeTarget(t target) error {
	addr, err := netip.ParseAddr(t.url.Hostname())
	if err != nil {
		return nil
	}
	port, network := ownPort(t.url.Scheme), "tcp6"
	if t.url.Port() != "" {
		port, _ = strconv.ParseUint(t.url.Port(), 10, 16) // normalHost has read it
	}
	if addr.Is4() {
		network = "tcp4"
	}
	return g.judge(network, netip.AddrPortFrom(addr, uint16(port)).String())
}

// target is a checked URL and what policies and history call it.
type target struct {
	url     *url.URL
	host    string // with the port when it is not the scheme's own
	service string // registrable domain, or the host itself

	// business is the path of a business of the catalogue by its name, as gateway/name/path. It stands for the URL, which is
	// between the business and its server: others must not read it, nor take its host for whom they pay. Empty: there is none.
	business string
}

func parseTarget(text string) (target, error) {
	if text == "" {
		return target{}, E(InvalidRequest, "url is required")
	}
	if len(text) > maxURLLength {
		return target{}, E(InvalidRequest, "url is longer than %d characters", maxURLLength)
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Opaque != "" {
		return target{}, E(InvalidRequest, "url must be an absolute http or https URL")
	}
	if u.User != nil {
		return target{}, E(InvalidRequest, "url must not carry credentials")
	}
	u.Fragment = ""
	if err := normalHost(u); err != nil {
		return target{}, err
	}
	t := target{url: u, host: u.Host}
	switch {
	case len(t.host) > maxHostLength:
		return target{}, E(InvalidRequest, "url has no valid host")
	case len(t.endpoint()) > maxURLLength:
		return target{}, E(InvalidRequest, "url is longer than %d characters", maxURLLength)
	}
	t.service = domainOf(t.host)
	return t, nil
}

// endpoint is the target as history keeps it: without the query, which may hold secrets.
func (t target) endpoint() string {
	if t.business != "" {
		return t.business
	}
	return t.url.Scheme + "://" + t.host + t.url.EscapedPath()
}

// paid is who is paid there: the host, or the business by its name, since anybody may say to sell a host.
func (t target) paid() string {
	if t.business != "" {
		return t.service
	}
	return t.host
}

// hopByHop are the headers that belong to one connection (RFC 9110 section 7.6.1), and those that are ours to
// set. They are removed in both directions.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Host", "Content-Length",
}

// cleanRequestHeader is what of the agent's header goes to the service: never a proof of payment of its own
// making, nor a credential for this server.
func cleanRequestHeader(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h { // a caller may have filled the map by hand, in any letter case
		if slices.ContainsFunc(values, ours) {
			continue
		}
		for _, v := range values {
			out.Add(name, v)
		}
	}
	dropConnectionHeaders(out)
	pay.StripPaymentHeaders(out)
	if out.Get("User-Agent") == "" {
		out.Set("User-Agent", "bursar")
	}
	return out
}

// checkHeader refuses what HTTP cannot send, before anything is reserved for it.
func checkHeader(h http.Header) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) || !allOf(values, httpguts.ValidHeaderFieldValue) {
			return E(InvalidRequest, "The header %q cannot be sent", name)
		}
	}
	return nil
}

func allOf(values []string, valid func(string) bool) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return !valid(v) })
}

// ours reports whether a header's value holds a credential of this server, wherever in it.
func ours(value string) bool {
	for _, prefix := range []string{prefixLive, prefixTest, prefixAgnic, prefixGateway, "agnic_at_"} {
		if strings.Contains(value, prefix) {
			return true
		}
	}
	return slices.ContainsFunc(strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" ,;=\"", r) }), ownLogin)
}

// ownLogin recognises a login of this server without judging it: its issuer is enough to keep it here.
func ownLogin(token string) bool {
	if strings.Count(token, ".") != 2 { // three parts, as every one of ours
		return false
	}
	var claims jwt.RegisteredClaims
	_, _, err := jwt.NewParser().ParseUnverified(token, &claims)
	return err == nil && claims.Issuer == loginIssuer
}

func dropConnectionHeaders(h http.Header) {
	for _, named := range h.Values("Connection") {
		for name := range strings.SplitSeq(named, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

// send makes one request. Its errors are *Error; a failure says nothing about whether the service acted. The exchange is
// the caller's to end, and ends with ctx.
func (s *store) send(ctx context.Context, r *pay.Request, patience time.Duration) (*exchange, error) {
	return s.roundTrip(ctx, r, bytes.NewReader(r.Body), patience)
}

// sendOnce is send for a request that carries a proof. net/http repeats a request by itself when a reused connection
// breaks, if its method or a header says that it may and its body can be had again; so the proof leaves at most once.
func (s *store) sendOnce(ctx context.Context, r *pay.Request, patience time.Duration) (*exchange, error) {
	if len(r.Body) > 0 || r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return s.roundTrip(ctx, r, struct{ io.Reader }{bytes.NewReader(r.Body)}, patience) // cannot be had again
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} { // net/http knows them in this spelling only
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values
		}
	}
	return s.roundTrip(ctx, r, http.NoBody, patience) // sent without chunks
}

func upstreamError(err error) error {
	var timeout net.Error
	var where *url.Error
	if errors.As(err, &where) {
		err = where.Err // without the URL, whose query may hold a secret
	}
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedPort), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return &Error{Code: InvalidRequest, Message: "url points at a private or reserved address", Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Code: Timeout, Message: "The service did not answer in time", Err: err}
	}
	return &Error{Code: ServiceFailed, Message: "The service could not be reached", Err: fmt.Errorf("upstream: %w", err)}
}
