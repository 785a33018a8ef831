package agnic_test

import (
	"bytes"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"bursar/core"
	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// TestIdempotencyKey: a repeat is the first answer, status, header and body, and pays nothing; the target sees the
// key, too.
func TestIdempotencyKey(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 5*money.One, core.TokenInput{})
	send := func(target, key string) *reply {
		return l.send("POST", "/api/x402/fetch?url="+url.QueryEscape(target), "", "X-Agnic-Token", p.token, "Idempotency-Key", key)
	}
	for target, status := range map[string]int{
		"https://api.example.com/data":             http.StatusOK,
		l.seller.Link(2, paytest.FailAfter, 0):     http.StatusInternalServerError,
		l.seller.Link(2, paytest.Reset, 0):         http.StatusBadGateway,
		l.Serve(&target{}) + "/binary":             http.StatusTeapot,
		l.Serve(&target{}) + "/untyped":            http.StatusOK,
		l.seller.Link(1, paytest.Serve, money.One): http.StatusOK,
	} {
		key := "key of " + target
		first := send(target, key)
		if first.status != status {
			t.Fatalf("%s: %d %s", target, first.status, first.body)
		}
		l.Settle()
		again := send(target, key)
		for _, own := range []string{"X-Request-Id"} { // each request has its own
			first.header.Del(own)
			again.header.Del(own)
		}
		if again.status != first.status || !bytes.Equal(again.body, first.body) || !maps.EqualFunc(again.header, first.header, slices.Equal) {
			t.Errorf("%s again: %d %v %q\nfirst: %v %q", target, again.status, again.header, again.body, first.header, first.body)
		}
		l.refused(send(target+"?x", key), http.StatusConflict, "conflict", "another request")
	}
	seen := l.seller.Seen()
	if len(seen) != 4 {
		t.Errorf("%d proofs", len(seen))
	}
	for _, s := range seen {
		if s.Header.Get("Idempotency-Key") == "" {
			t.Errorf("the target did not see the key: %v", s.Header)
		}
	}
	l.refused(send("https://api.example.com/data", ""), http.StatusBadRequest, "invalid_request", "idempotency key")
	two := l.send("POST", "/api/x402/fetch?url=https://api.example.com/data", "", "X-Agnic-Token", p.token, "Idempotency-Key", "a", "Idempotency-Key", "b")
	l.refused(two, http.StatusBadRequest, "invalid_request", "once")
	l.Balanced()
}
