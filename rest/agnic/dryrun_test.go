package agnic_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bursar/core"
	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// TestDryRun: 200 with the verdict, whatever it is, and nothing paid.
func TestDryRun(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	s := l.World.Seller(10_000)
	ask := func(more string) *reply {
		return l.send("POST", "/api/x402/fetch?url="+url.QueryEscape(s.Link(2, paytest.Serve, 0))+more, "", "X-Agnic-Token", p.token)
	}
	for more, want := range map[string]string{"&dry_run=true": `"allowed":true`, "&dry_run=true&maxValue=1": `"code":"cost_exceeds_max"`} {
		if a := ask(more); a.status != http.StatusOK || !strings.Contains(string(a.body), want) || !strings.Contains(string(a.body), `"price":"0.010000"`) {
			t.Errorf("%s: %d %s", more, a.status, a.body)
		}
	}
	if a := ask("&dry_run=perhaps"); a.status != http.StatusBadRequest {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := len(s.Seen()); n != 0 {
		t.Errorf("%d proofs were sent", n)
	}
}
