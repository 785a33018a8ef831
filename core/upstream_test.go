package core_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
)

// TestCredentialsStayHere: no credential of this server, and no payment of the agent's own making, reaches a service.
func TestCredentialsStayHere(t *testing.T) {
	w := coretest.New(t)
	p, login := w.User("dev@example.com")
	w.Agent(p, "bot", 0)
	key, err := w.Core.APIKeys.Create(w.Ctx, p, "key")
	if err != nil {
		t.Fatal(err)
	}
	var seen http.Header
	url := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		_, _ = io.WriteString(rw, "ok")
	}))
	h := http.Header{
		"Authorization": {"Bearer " + login.Token}, "X-Api-Key": {key.Secret}, "X-Other": {key.Secret}, "X-Payment": {"x"},
		"Payment-Signature": {"x"}, "X-Payment-Tx": {"x"}, "Connection": {"X-Hop"}, "X-Hop": {"1"}, "X-Mine": {"kept"}, "Cookie": {"token=" + key.Secret}, "X-Auth": {"Token " + login.Token}, "x-lower": {key.Secret},
	}
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url, Header: h}); err != nil {
		t.Fatal(err)
	}
	for name, values := range seen {
		for _, v := range values {
			if strings.Contains(v, login.Token) || strings.Contains(v, key.Secret) || v == "x" || name == "X-Hop" {
				t.Errorf("%s: %s was forwarded", name, v)
			}
		}
	}
	if seen.Get("X-Mine") != "kept" {
		t.Error("the agent's own header was lost")
	}
	h = http.Header{"Authorization": {"Bearer sk-of-the-service"}}
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url, Header: h}); err != nil || seen.Get("Authorization") != "Bearer sk-of-the-service" {
		t.Errorf("the service's own credential was lost: %v %v", seen, err)
	}
}
