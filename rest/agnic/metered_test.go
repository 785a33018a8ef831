package agnic_test

import (
	"io"
	"net/http"
	"testing"

	"bursar/core"
	"bursar/core/pricing"
	"bursar/ent/service"
	"bursar/money"
	"bursar/rest"
)

// TestMetered: a URL of a service of the catalogue is billed by it, and its answer passes unchanged.
func TestMetered(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 5*money.One, core.TokenInput{})
	wallet, err := l.app.Agents.Default(l.Ctx, p.Principal)
	l.no(err)
	s, err := l.app.Sessions.Open(l.Ctx, p.Principal, core.OpenSessionInput{AgentID: wallet.ID, Deposit: money.One})
	l.no(err)
	l.Settle()
	url := l.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "the service's own" || r.Header.Get("X-Agnic-Token") != "" || r.Header.Get("X-Session-Id") != "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, `{"a":1}`)
	}))
	l.no(l.app.Services.Install(l.Ctx, []core.ServiceInput{{
		Name: "Any", BaseURL: url, Price: pricing.Price{PerCall: quarter},
		Credential: &core.ServiceCredential{In: service.CredentialInHeader, Name: "X-Key", Secret: "the service's own"},
	}}))
	for _, c := range []struct {
		session, path, paid, amount string
		status                      int
	}{
		{s.ID.String(), "/data", "true", "0.25", 200},
		{"", "/data", "true", "0.25", 200},
		{s.ID.String(), "/fail", "false", "", 500},
		{"", "/fail", "false", "", 500},
	} {
		header := []string{"X-Agnic-Token", p.token}
		if c.session != "" {
			header = append(header, "X-Session-Id", c.session)
		}
		a := l.send("POST", "/api/x402/fetch?url="+url+c.path, "", header...)
		if a.status != c.status || string(a.body) != `{"a":1}` || a.header.Get("X-Agnic-Paid") != c.paid || a.header.Get("X-Agnic-Amount") != c.amount {
			t.Errorf("%+v: %d %s %v", c, a.status, a.body, a.header)
		}
		if c.amount != "" && a.header.Get("X-Agnic-Scheme") != "per_call" {
			t.Errorf("%+v: %v", c, a.header)
		}
	}
	l.refused(l.send("POST", "/api/x402/fetch?maxValue=249999&url="+url+"/data", "", "X-Agnic-Token", p.token),
		http.StatusPaymentRequired, "payment_exceeds_max", "Payment exceeds maximum allowed value")
	l.Settle()
	l.Balanced()
	if got := l.Net.Balance(l.Platform); got != money.One+quarter {
		t.Errorf("the platform has %s", got)
	}
}
