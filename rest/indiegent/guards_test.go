package indiegent_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/core/pricing"
	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// TestNoGuardIsDropped: what a caller meant as a limit is obeyed or refused, and never passed over.
func TestNoGuardIsDropped(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", 10*money.One)
	link := `{"url":"` + l.Seller.Link(2, paytest.Serve, 0) + `"`
	for more, want := range map[string]string{
		`,"max_cost":0.001,"max_cost":5`:      `"max_cost" is given twice`,
		`,"max_cost":0.001,"MAX_COST":5`:      `"MAX_COST" is given twice`,
		`,"max_co\u017ft":0.001,"max_cost":5`: `"max_cost" is given twice`,
		`,"dry_run":true,"dry_run":false`:     `"dry_run" is given twice`,
		`,"dry_run":null`:                     "dry_run must be a boolean",
		`,"url":"http://127.0.0.1/"`:          `"url" is given twice`,
		`,"headers":{"X-A":"1","x-a":"2"}`:    `"x-a" is given twice`,
		`,"maxcost":0.001`:                    `unknown field "maxcost": did you mean max_cost`,
		`,"maxCost":0.001`:                    `unknown field "maxCost": did you mean max_cost`,
		`,"Max-Cost":0.001`:                   `unknown field "Max-Cost": did you mean max_cost`,
		`,"maxValue":1000`:                    `unknown field "maxValue": did you mean max_cost`,
		`,"dryRun":true`:                      `unknown field "dryRun": did you mean dry_run`,
		`,"spendingCap":1`:                    `unknown field "spendingCap": it is set by PUT /agents/{id}/policy`,
		`,"daily_limit":1`:                    `unknown field "daily_limit": it is set by PUT /agents/{id}/policy`,
		`,"per_call_max":1`:                   `unknown field "per_call_max": it is set by PUT /agents/{id}/policy`,
		`,"a":1,"a":2`:                        `"a" is given twice`,
	} {
		l.refused(l.fetch(p, link+more+`}`), more, http.StatusBadRequest, want)
	}
	for query, want := range map[string]string{
		"?%": "query", "?a;b": "query", "?max_cost=0.001": `unknown parameter "max_cost": it is a field of POST /external/fetch`,
		"?maxValue=1": `unknown parameter "maxValue"`, "?dry_run=true": `unknown parameter "dry_run"`,
	} {
		l.refused(l.as(p, "POST", "/external/fetch"+query, link+`}`), query, http.StatusBadRequest, want)
	}
	if l.Seller.Asked() != 0 {
		t.Errorf("the seller was asked %d times", l.Seller.Asked())
	}
	twice := `,"method":"POST","body":{"max_cost":1,"max_cost":2,"daily_limit":3}`
	if a := l.fetch(p, link+`,"max_cost":0.01,"note":{"a":1,"a":2}`+twice+`}`); a.Status != http.StatusOK || a.text("_indiegent", "cost") != "$0.0100" {
		t.Errorf("the service's own body, and what nobody reads: %d %s", a.Status, a.Raw)
	}
}

// TestLimitsAreTakenOrRefused: a limit that a route does not take changes nothing, and so is refused.
func TestLimitsAreTakenOrRefused(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 10*money.One)
	before := l.must(p, "GET", "/agents", "").Raw
	policy := l.must(p, "GET", "/agents/"+agent+"/policy", "").Raw
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/agents", `{"name":"x","daily_limit":1}`, `unknown field "daily_limit": it is set by PUT /agents/{id}/policy`},
		{"POST", "/agents", `{"name":"x","spendingCap":1}`, `unknown field "spendingCap": did you mean spending_cap`},
		{"POST", "/agents", `{"name":"x","name":"y"}`, `"name" is given twice`},
		{"PUT", "/agents/" + agent, `{"spending_cap":1,"Spending_Cap":null}`, `"Spending_Cap" is given twice`},
		{"PUT", "/agents/" + agent, `{"monthly-limit":1}`, `unknown field "monthly-limit": it is set by PUT /agents/{id}/policy`},
		{"PUT", "/agents/" + agent + "/policy", `{"dailyLimit":1}`, `unknown field "dailyLimit": did you mean daily_limit`},
		{"PUT", "/agents/" + agent + "/policy", `{"perTransaction":1}`, `unknown field "perTransaction": did you mean per_call_max`},
		{"PUT", "/agents/" + agent + "/policy", `{"max_per_transaction":1}`, `did you mean per_call_max`},
		{"PUT", "/agents/" + agent + "/policy", `{"requireSession":true}`, `did you mean require_session`},
		{"PUT", "/agents/" + agent + "/policy", `{"blockedServices":["exa"]}`, `did you mean blocked_services`},
		{"PUT", "/agents/" + agent + "/policy", `{"daily_limit":1,"daily_limit":null}`, `"daily_limit" is given twice`},
		{"PUT", "/agents/" + agent + "/policy", `{"budget_limit":1}`, `unknown field "budget_limit": it is set by POST /departments`},
		{"POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":1,"max_cost":1}`, `unknown field "max_cost": it is a field of POST /external/fetch`},
		{"POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":1,"deposit_amount":2}`, `twice`},
		{"POST", "/departments", `{"name":"x","budgetLimit":1}`, `did you mean budget_limit`},
	} {
		l.refused(l.as(p, c.method, c.path, c.body), c.method+" "+c.path+" "+c.body, http.StatusBadRequest, c.want)
	}
	if after := l.must(p, "GET", "/agents", "").Raw; string(after) != string(before) {
		t.Errorf("agents were %s and are %s", before, after)
	}
	if after := l.must(p, "GET", "/agents/"+agent+"/policy", "").Raw; string(after) != string(policy) {
		t.Errorf("the policy was %s and is %s", policy, after)
	}
	l.must(p, "PUT", "/agents/"+agent, `{"active":false,"limit":1,"wallet_address":"x"}`)
	l.must(p, "PUT", "/agents/"+agent+"/policy", `{"DAILY_LIMIT":7}`)
	if a := l.must(p, "GET", "/agents/"+agent+"/policy", ""); a.at("policy", "daily_limit") != json.Number("7") {
		t.Errorf("a field in another letter case: %s", a.Raw)
	}
}

// TestMalformedQueries: a route refuses a query that it would read only in part; a service's own is not read here.
func TestMalformedQueries(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", money.One)
	for _, route := range []string{
		"GET /transactions?limit=1%", "GET /agents/" + agent + "/transactions?offset=1;", "GET /agents?%zz", "POST /sessions?;", "GET /agents/" + agent + "/env?include=api_key%",
		"POST /auth/login?%", "POST /gateway/verify?%",
	} {
		method, path, _ := strings.Cut(route, " ")
		l.refused(l.as(p, method, path, `{}`), route, http.StatusBadRequest, "query")
	}
	saw := ""
	l.catalogue("any", pricing.Price{PerCall: cent}, func(w http.ResponseWriter, r *http.Request) {
		saw = r.URL.RawQuery
		exaAnswer(w, r)
	})
	if l.raw("POST", "/services/any/search?q=50%;max_cost=1&q=%zz", http.Header{"Authorization": {"Bearer " + p.Key}}); saw != "q=50%;max_cost=1&q=%zz" {
		t.Errorf("the service's own query came as %q", saw)
	}
}

// raw sends over a socket with header lines as they are, and follows nothing.
func (l *lab) raw(method, path string, header http.Header) (*http.Response, string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.Ctx, method, l.URL+path, strings.NewReader(`{"url":"`+l.Seller.Link(2, paytest.Serve, 0)+`"}`))
	l.no(err)
	r.Header = header
	resp, err := http.DefaultTransport.RoundTrip(r)
	l.no(err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	l.no(err)
	return resp, string(b)
}

// TestWhoPaysIsSaidOnce: a header that names who pays is not empty, and has one value.
func TestWhoPaysIsSaidOnce(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	v := vars{"agent": l.agent(p, "Research Bot", 10*money.One)}
	l.session(p, v)
	calls := 0
	l.catalogue("any", pricing.Price{PerCall: cent}, func(w http.ResponseWriter, r *http.Request) {
		calls++
		exaAnswer(w, r)
	})
	for _, path := range []string{"/external/fetch", "/services/any/search"} {
		for name, values := range map[string][]string{
			"X-Session-Id":    {""},
			"x-session-id":    {v["session"], ""},
			"X-Session-ID":    {v["session"], nowhere},
			"X-Agent-Wallet":  {v["agent"], "sales-bot"},
			"x-agent-wallet":  {v["agent"], ""},
			"X-Approval-Id":   {nowhere, v["agent"]},
			"X-Session-Id\t2": {" ", "\t"},
		} {
			name, _, _ = strings.Cut(name, "\t")
			resp, body := l.raw("POST", path, http.Header{"Authorization": {"Bearer " + p.Key}, name: values})
			if resp.StatusCode != http.StatusBadRequest || !strings.HasPrefix(body, `{"error":"`+http.CanonicalHeaderKey(name)) {
				t.Errorf("%s %s %q: %d %s", path, name, values, resp.StatusCode, body)
			}
		}
	}
	if l.Seller.Asked() != 0 || calls != 0 {
		t.Errorf("the sellers were asked %d and %d times", l.Seller.Asked(), calls)
	}
	resp, body := l.raw("POST", "/external/fetch", http.Header{
		"Authorization": {"Bearer " + p.Key}, "X-Session-Id": {v["session"], v["session"]}, "X-Agent-Wallet": {v["agent"], v["agent"]},
	})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"payment_method":"session"`) {
		t.Errorf("the same twice: %d %s", resp.StatusCode, body)
	}
}

// TestServicePaths: what is no call of a service is refused in the dialect: nothing is redirected, called or charged.
func TestServicePaths(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 10*money.One)
	calls := 0
	l.catalogue("any", pricing.Price{PerCall: cent}, func(w http.ResponseWriter, r *http.Request) {
		calls++
		exaAnswer(w, r)
	})
	before := l.must(p, "GET", "/transactions", "").Raw
	header := func() http.Header { return http.Header{"Authorization": {"Bearer " + p.Key}} }
	for _, path := range []string{
		"/services/any", "/services/any?q=1", "/services/any/../any/search", "/services/any//search", "/services//any/search", "/services/any/./search", "//services/any/search",
		"/services/any/..", "/./services/any/search", "/../services/any/search", "//agents", "/agents/../agents", "/agents/" + agent + "/", "/api/../agents", "/graphql/../agents",
	} {
		for _, method := range []string{"GET", "POST"} {
			resp, body := l.raw(method, path, header())
			if resp.StatusCode != http.StatusNotFound || body != `{"error":"Not found"}`+"\n" {
				t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, body)
			}
		}
	}
	for _, method := range []string{"HEAD", "OPTIONS", "TRACE", "PROPFIND"} {
		resp, body := l.raw(method, "/services/any/search", header())
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, POST, PUT, PATCH, DELETE" ||
			resp.Header.Get("Content-Type") != "application/json; charset=utf-8" || method != "HEAD" && body != `{"error":"Method not allowed"}`+"\n" {
			t.Errorf("%s: %d %v %s", method, resp.StatusCode, resp.Header, body)
		}
	}
	if after := l.must(p, "GET", "/transactions", "").Raw; calls != 0 || string(after) != string(before) {
		t.Errorf("%d calls, the history was %s and is %s", calls, before, after)
	}
	if resp, body := l.raw("POST", "/services/any/search", header()); resp.StatusCode != http.StatusOK || calls != 1 {
		t.Errorf("%d calls, %d %s", calls, resp.StatusCode, body)
	}
}
