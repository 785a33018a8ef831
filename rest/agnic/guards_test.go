package agnic_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bursar/core"
	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// unpaid fails the test unless nobody was asked for anything and no payment is recorded.
func (l *lab) unpaid(p *person, s interface{ Asked() int }) {
	l.t.Helper()
	history := l.send("GET", "/api/transactions", "", "X-Agnic-Token", p.token)
	if s.Asked() != 0 || !strings.Contains(string(history.body), `"transactions":[]`) {
		l.t.Errorf("the seller was asked %d times: %s", s.Asked(), history.body)
	}
}

// TestNoGuardIsDropped: what a caller meant as a limit is obeyed or refused, and never passed over.
func TestNoGuardIsDropped(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	s := l.World.Seller(10_000)
	base := "/api/x402/fetch?url=" + url.QueryEscape(s.Link(2, paytest.Serve, 0))
	for more, want := range map[string]string{
		"&maxValue=100%":                 "query",
		"&maxValue=100;":                 "query",
		"&maxValue=100%zz":               "query",
		"&dry_run=true%":                 "query",
		"&dry_run=true;x":                "query",
		"&%":                             "query",
		"&maxValue=":                     "maxValue must be",
		"&maxValue":                      "maxValue must be",
		"&dry_run=":                      "dry_run must be",
		"&dry_run":                       "dry_run must be",
		"&maxValue=20000&maxValue=100":   "maxValue must be sent once",
		"&maxValue=20000&maxValue=20000": "maxValue must be sent once",
		"&dry_run=false&dry_run=true":    "dry_run must be sent once",
		"&url=https://api.example.com/":  "url must be sent once",
		"&method=GET&method=POST":        "method must be sent once",
		"&timeout=60000&timeout=1000":    "timeout must be sent once",
		"&approvalWait=0&approvalWait=9": "approvalWait must be sent once",
		"&maxvalue=100":                  `unknown parameter "maxvalue": did you mean maxValue`,
		"&max_value=100":                 `unknown parameter "max_value": did you mean maxValue`,
		"&maxCost=100":                   `unknown parameter "maxCost": did you mean maxValue`,
		"&dryRun=true":                   `unknown parameter "dryRun": did you mean dry_run`,
		"&dailyLimit=1":                  `unknown parameter "dailyLimit": it is set by POST /api/generate-n8n-token`,
	} {
		l.refused(l.send("POST", base+more, "", "X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", want)
	}
	for _, header := range [][]string{
		{"X-Session-Id", ""},
		{"X-Session-Id", "  "},
		{"X-Session-Id", "", "X-Session-Id", ""},
		{"X-Session-Id", "019ab3a0-0000-7000-8000-000000000000", "X-Session-Id", "019ab3a0-0000-7000-8000-000000000001"},
		{"X-Session-Id", "019ab3a0-0000-7000-8000-000000000000", "X-Session-Id", ""},
		{"X-Approval-Id", "019ab3a0-0000-7000-8000-000000000000", "X-Approval-Id", "019ab3a0-0000-7000-8000-000000000001"},
	} {
		a := l.send("POST", base, "", append([]string{"X-Agnic-Token", p.token}, header...)...)
		l.refused(a, http.StatusBadRequest, "invalid_request", header[0])
	}
	l.unpaid(p, s)
	if a := l.send("POST", base+"&maxValue=10000&unknown=1&unknown=2", "", "X-Agnic-Token", p.token); a.header.Get("X-Agnic-Paid") != "true" {
		t.Errorf("without a fault: %d %s", a.status, a.body)
	}
}

// TestMalformedQueries: every route refuses a query that it would read only in part.
func TestMalformedQueries(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	for _, route := range []string{
		"GET /api/balance?network=solana%", "GET /api/transactions?status=failed;", "GET /api/tokens?%", "POST /api/sign-payment?approvalWait=1%",
		"POST /api/generate-n8n-token?;", "POST /api/revoke-token?%zz", "GET /.well-known/openapi.yaml?%",
	} {
		method, target, _ := strings.Cut(route, " ")
		l.refused(l.send(method, target, `{}`, "Authorization", "Bearer "+p.login), http.StatusBadRequest, "invalid_request", "query")
	}
}

// TestBodiesHaveOneMeaning: a field that comes twice is refused, and so is a limit under a name that nobody reads.
func TestBodiesHaveOneMeaning(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	for body, want := range map[string]string{
		`{"dailyLimit":1,"dailyLimit":100}`:           `"dailyLimit" is given twice`,
		`{"dailyLimit":1,"DAILYLIMIT":100}`:           `"DAILYLIMIT" is given twice`,
		`{"label":"a","label":"b"}`:                   `"label" is given twice`,
		`{"daily_limit":1}`:                           `unknown field "daily_limit": did you mean dailyLimit`,
		`{"daily-limit":1}`:                           `unknown field "daily-limit": did you mean dailyLimit`,
		`{"perTransaction":1}`:                        `unknown field "perTransaction": did you mean maxPerTransaction`,
		`{"per_call_max":1}`:                          `unknown field "per_call_max": did you mean maxPerTransaction`,
		`{"maxValue":1}`:                              `unknown field "maxValue": it is a parameter of POST /api/x402/fetch`,
		`{"maxPerTransaction":1,"month_ly-Limit":10}`: `unknown field "month_ly-Limit": did you mean monthlyLimit`,
	} {
		a := l.send("POST", "/api/generate-n8n-token", body, "Authorization", "Bearer "+p.login)
		l.refused(a, http.StatusBadRequest, "invalid_request", want)
	}
	l.refused(l.send("POST", "/api/revoke-token", `{"tokenId":"a","tokenid":"b"}`, "Authorization", "Bearer "+p.login), http.StatusBadRequest, "invalid_request", "twice")
	tokens := l.send("GET", "/api/tokens", "", "Authorization", "Bearer "+p.login)
	if n, _ := tokens.json["tokens"].([]any); len(n) != 1 {
		t.Errorf("a refused token was made: %s", tokens.body)
	}
	if a := l.send("POST", "/api/generate-n8n-token", `{"note":1,"limit":"x","dailylimit":1}`, "Authorization", "Bearer "+p.login); a.status != http.StatusOK {
		t.Errorf("unknown fields: %d %s", a.status, a.body)
	}
}

// TestSessionsCannotSign: a proof is paid by the wallet, so a call that names a session is refused.
func TestSessionsCannotSign(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	n := l.Net.Client.Network()
	offer := `{"scheme":"exact","network":"` + n.Name + `","maxAmountRequired":"250000","maxTimeoutSeconds":60,"resource":"https://api.example.com/data","asset":"` +
		n.USDC.Hex() + `","payTo":"` + l.seller.PayTo.Hex() + `","extra":{"name":"USDC","version":"2"}}`
	sign := func(query, requirements, more string, header ...string) *reply {
		return l.send("POST", "/api/sign-payment"+query, `{"paymentRequirements":`+requirements+`,"requestData":{"url":"https://api.example.com/data","method":"get"}`+more+`}`,
			append([]string{"X-Agnic-Token", p.token}, header...)...)
	}
	good := `{"accepts":[` + offer + `]}`
	for _, session := range []string{"019ab3a0-0000-7000-8000-000000000000", ""} {
		l.refused(sign("", good, "", "X-Session-Id", session), http.StatusBadRequest, "invalid_request", "session cannot sign")
	}
	for _, c := range []struct{ query, requirements, more, want string }{
		{"?maxValue=100", good, "", `unknown parameter "maxValue"`},
		{"?approvalWait=1&approvalWait=2", good, "", "approvalWait"},
		{"?dry_run=true", good, "", `unknown parameter "dry_run"`},
		{"", good, `,"maxValue":100`, `unknown field "maxValue"`},
		{"", good, `,"requestData":{"url":"https://api.example.com/data"}`, `"requestData" is given twice`},
		{"", `{"accepts":[],"accepts":[` + offer + `]}`, "", "paymentRequirements"},
		{"", `{"accepts":[` + strings.Replace(offer, `"maxAmountRequired":"250000"`, `"maxAmountRequired":"1","maxAmountRequired":"250000"`, 1) + `]}`, "", "twice"},
	} {
		l.refused(sign(c.query, c.requirements, c.more), http.StatusBadRequest, "invalid_request", c.want)
	}
	l.refused(l.send("POST", "/api/sign-payment", `{"paymentRequirements":`+good+`,"requestData":{"url":"https://api.example.com/a","URL":"https://api.example.com/data"}}`,
		"X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", `"URL" is given twice`)
	l.unpaid(p, l.seller)
	if a := sign("", good, ""); a.status != http.StatusOK {
		t.Errorf("without a fault: %d %s", a.status, a.body)
	}
}

// TestNoRedirects: a path that is spelled otherwise than a route is answered in the dialect, and sends nobody elsewhere.
func TestNoRedirects(t *testing.T) {
	l := newLab(t, rest.Options{})
	for _, path := range []string{"/api//balance", "/api/x/../balance", "/api/./balance", "/api/x402/../x402/fetch?url=x", "/api/balance/", "/api/..", "/v1//x"} {
		for _, method := range []string{"GET", "POST"} {
			r, err := http.NewRequestWithContext(l.Ctx, method, l.url+path, nil)
			l.no(err)
			resp, err := http.DefaultTransport.RoundTrip(r)
			l.no(err)
			b, err := io.ReadAll(resp.Body)
			l.no(err)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound || string(b) != `{"error":"not_found","error_description":"Not found"}`+"\n" {
				t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, b)
			}
		}
	}
}
