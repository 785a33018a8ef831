package indiegent_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// TestIdempotencyKey: every route that moves money answers a repeat byte for byte, and moves money once.
func TestIdempotencyKey(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.wallet(p)
	agent := l.agent(p, "Research Bot", 10*money.One)
	hash := l.fund(l.must(p, "GET", "/agents/"+agent, "").text("agent", "wallet_address"), money.One)
	l.Settle()
	session := ""
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"open", "POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":5.00}`, http.StatusCreated},
		{"fetch", "POST", "/external/fetch", `{"url":"https://api.exa.ai/search","method":"POST","body":{"query":"x"}}`, http.StatusOK},
		{"fetch cut", "POST", "/external/fetch", `{"url":"` + l.Seller.Link(2, paytest.Reset, 0) + `"}`, http.StatusBadGateway},
		{"close", "POST", "/sessions/SESSION/close", ``, http.StatusOK},
		{"fund", "POST", "/agents/" + agent + "/fund", `{"tx_hash":"` + hash + `","amount":"1000000"}`, http.StatusOK},
		{"drain", "POST", "/agents/" + agent + "/drain", `{}`, http.StatusOK},
		{"delete", "DELETE", "/agents/" + agent, ``, http.StatusOK},
	} {
		send := func(key string) *answer {
			header := []string{"Authorization", "Bearer " + p.Token, "Idempotency-Key", key}
			if c.path == "/external/fetch" {
				header = append(header, "X-Session-Id", session)
			}
			return l.send(c.method, strings.ReplaceAll(c.path, "SESSION", session), c.body, header...)
		}
		first := send(c.name)
		if first.Status != c.status {
			t.Fatalf("%s: %d %s", c.name, first.Status, first.Raw)
		}
		l.Settle()
		again := send(c.name)
		if again.Status != first.Status || !bytes.Equal(again.Raw, first.Raw) {
			t.Errorf("%s again: %d\n%s\nfirst\n%s", c.name, again.Status, again.Raw, first.Raw)
		}
		if c.name == "open" {
			session = first.text("session", "id")
		} else {
			l.refused(send("open"), c.name+" under another's key", http.StatusConflict, "another request")
		}
		l.refused(send(""), c.name+" under no key", http.StatusBadRequest, "idempotency key")
		l.refused(send(strings.Repeat("x", 256)), c.name+" under a long key", http.StatusBadRequest, "idempotency key")
	}
	if n := len(l.Seller.Seen()); n != 2 {
		t.Errorf("%d proofs", n)
	}
	if a := l.must(p, "GET", "/sessions", ""); len(a.at("sessions").([]any)) != 1 {
		t.Errorf("%s", a.Raw)
	}
	l.Settle()
	l.Balanced()
}

// TestKeyOnce: of two keys none is the request's.
func TestKeyOnce(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 0)
	for path, body := range map[string]string{"/external/fetch": `{"url":"` + l.Seller.URL + `/free"}`, "/agents/" + agent + "/drain": "{}"} {
		req, err := http.NewRequestWithContext(l.Ctx, http.MethodPost, l.URL+path, strings.NewReader(body))
		l.no(err)
		req.Header = http.Header{"X-Api-Key": {p.Key}, "Idempotency-Key": {"a", "b"}}
		resp, err := http.DefaultClient.Do(req)
		l.no(err)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// TestKeyOfTheService: what stands in the body's headers is the service's, and no key of ours.
func TestKeyOfTheService(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", 0)
	var got []string
	url := l.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = append(got, r.Header.Get("Idempotency-Key")) }))
	body := `{"url":"` + url + `","headers":{"Idempotency-Key":"theirs"}}`
	for range 2 {
		l.fetch(p, body)
	}
	l.fetch(p, body, "Idempotency-Key", "ours")
	l.fetch(p, body, "Idempotency-Key", "ours")
	if strings.Join(got, " ") != "theirs theirs theirs" {
		t.Errorf("the service saw %q", got)
	}
}

// TestStillRunning: a repeat of a request under way is told when to come again.
func TestStillRunning(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", money.One)
	inside, gate := make(chan struct{}), make(chan struct{})
	url := l.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-gate
	}))
	done := make(chan error)
	key := "one"
	go func() {
		_, err := l.App.Payments.Fetch(l.Ctx, p.Principal, core.FetchInput{URL: url, Method: "GET", IdempotencyKey: &key, Timeout: time.Minute})
		done <- err
	}()
	<-inside
	a := l.fetch(p, `{"url":"`+url+`"}`, "Idempotency-Key", "one")
	l.refused(a, "still running", http.StatusConflict, "still running")
	if a.Header.Get("Retry-After") != "5" {
		t.Errorf("%v", a.Header)
	}
	close(gate)
	l.no(<-done)
	if a := l.fetch(p, `{"url":"`+url+`"}`, "Idempotency-Key", "one"); a.Status != http.StatusOK { // the same call by another door
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}
