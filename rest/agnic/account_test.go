package agnic_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/rest"
	"bursar/rest/agnic"
)

func TestHistory(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 10*money.One, core.TokenInput{})
	other := l.person("b@example.com", money.One, core.TokenInput{})
	agent := l.Agent(p.Principal, "Bot", money.One) // of the other dialect: not in this history
	if _, err := l.app.Payments.Fetch(l.Ctx, p.Principal, core.FetchInput{Agent: agent.ID.String(), URL: "https://api.example.com/data"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/data", "/v2/serve%3Fprice=1", "/v1/serve%3Fprice=1000000"} {
		l.buy(p, path)
	}
	l.buy(other, "/data")
	list := func(query string) *reply {
		t.Helper()
		a := l.send("GET", "/api/transactions?"+query, "", "X-Agnic-Token", p.token)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		return a
	}
	if a := list("status=pending"); figures(a) != "3 of 3, page 1 of 1, spent 0.00, rate 0.0, next false" {
		t.Error(figures(a))
	}
	l.Settle()
	today, tomorrow := time.Now().UTC().Format(time.DateOnly), time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for query, want := range map[string]string{
		"":                      "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"page=&limit=":          "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"limit=1":               "1 of 3, page 1 of 3, spent 1.250001, rate 100.0, next true",
		"limit=2&page=2":        "1 of 3, page 2 of 2, spent 1.250001, rate 100.0, next false",
		"limit=2&page=3":        "0 of 3, page 3 of 2, spent 1.250001, rate 100.0, next false",
		"limit=1000":            "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"status=success":        "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"status=pending":        "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"status=failed":         "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"search=V1/SERVE":       "1 of 1, page 1 of 1, spent 1.00, rate 100.0, next false",
		"search=%25":            "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"search=_ata":           "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"network=base-sepolia":  "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"network=base":          "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"startDate=" + today:    "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"startDate=" + tomorrow: "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"endDate=" + tomorrow:   "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"endDate=2020-01-01":    "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"endDate=" + soon:       "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
		"startDate=2020-01-01T00:00:00.000Z&endDate=2020-01-02T00:00:00+02:00": "0 of 0, page 1 of 0, spent 0.00, rate 0, next false",
		"startDate=2020-01-01T00:00:00":                                        "3 of 3, page 1 of 1, spent 1.250001, rate 100.0, next false",
	} {
		if a := list(query); figures(a) != want {
			t.Errorf("%s: %s, want %s", query, figures(a), want)
		}
	}
	first, _ := list("limit=1").json["transactions"].([]any)[0].(map[string]any)
	if first["amount_usd"] != json.Number("1.00") || first["status"] != "success" || !strings.HasSuffix(first["endpoint"].(string), "/v1/serve") {
		t.Errorf("newest first: %v", first)
	}
	l.Balanced()
}

func figures(a *reply) string {
	p, s := a.json["pagination"].(map[string]any), a.json["stats"].(map[string]any)
	return fmt.Sprintf("%d of %v, page %v of %v, spent %v, rate %v, next %v", len(a.json["transactions"].([]any)), p["totalCount"],
		p["currentPage"], p["totalPages"], s["totalSpent"], s["successRate"], p["hasNextPage"])
}

func TestAccountRefuses(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	for target, want := range map[string]string{
		"/api/transactions?page=0":                            "page must be",
		"/api/transactions?page=-1":                           "page must be",
		"/api/transactions?page=1.5":                          "page",
		"/api/transactions?page=one":                          "page",
		"/api/transactions?page=1000001":                      "page must be",
		"/api/transactions?page=9223372036854775808":          "page",
		"/api/transactions?page=1&page=2":                     "page",
		"/api/transactions?limit=0":                           "limit must be",
		"/api/transactions?limit=-5":                          "limit must be",
		"/api/transactions?limit=1e2":                         "limit",
		"/api/transactions?status=unknown":                    "status must be",
		"/api/transactions?status=Success":                    "status must be",
		"/api/transactions?startDate=yesterday":               "startDate must be",
		"/api/transactions?startDate=2026-02-30":              "startDate must be",
		"/api/transactions?endDate=1700000000":                "endDate must be",
		"/api/transactions?endDate=2026-01-01T25:00Z":         "endDate must be",
		"/api/balance?network=mainnet":                        "network must be base, base-sepolia, solana",
		"/api/balance?network=BASE":                           "network must be",
		"/api/balance?network=" + url.QueryEscape("<script>"): "network must be",
	} {
		l.refused(l.send("GET", target, "", "X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", want)
		l.refused(l.send("GET", target, ""), http.StatusUnauthorized, "unauthorized", "") // before anything else is looked at
	}
}

// A server's own network is one that may be asked for, and is named where the contract does not know it.
func TestOwnNetworkIsNamed(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("a@example.com")
	token, err := w.Core.APIKeys.CreateToken(w.Ctx, p, core.TokenInput{Label: "token"})
	if err != nil {
		t.Fatal(err)
	}
	mux, own := http.NewServeMux(), w.Core.Network().Name
	agnic.Mount(mux, w.Core, rest.Options{Log: slog.New(slog.DiscardHandler), Clock: w.Clock.Now})
	for asked, want := range map[string]string{"mars": "network must be " + own + ", base, base-sepolia", own: `"usdcBalance"`} {
		r := httptest.NewRequest(http.MethodGet, "/api/balance?network="+asked, nil)
		r.Header.Set("X-Agnic-Token", token.Secret)
		answer := httptest.NewRecorder()
		if mux.ServeHTTP(answer, r); !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%s: %d %s", asked, answer.Code, answer.Body)
		}
	}
}

func TestCredentials(t *testing.T) {
	l := newLab(t, rest.Options{})
	p, q := l.person("a@example.com", 0, core.TokenInput{}), l.person("b@example.com", 0, core.TokenInput{})
	key, err := l.app.APIKeys.Create(l.Ctx, p.Principal, "key")
	l.no(err)
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"token":             {[]string{"X-Agnic-Token", p.token}, 200},
		"token as bearer":   {[]string{"Authorization", "Bearer " + p.token}, 200},
		"login":             {[]string{"Authorization", "Bearer " + p.login}, 200},
		"key as bearer":     {[]string{"Authorization", "Bearer " + key.Secret}, 200},
		"token twice":       {[]string{"X-Agnic-Token", p.token, "Authorization", "Bearer " + p.token}, 200},
		"two people":        {[]string{"X-Agnic-Token", p.token, "Authorization", "Bearer " + q.token}, 401},
		"none":              {nil, 401},
		"empty":             {[]string{"X-Agnic-Token", ""}, 401},
		"unknown token":     {[]string{"X-Agnic-Token", "agnic_tok_sk_live_x"}, 401},
		"unknown oauth":     {[]string{"Authorization", "Bearer agnic_at_x"}, 401},
		"basic":             {[]string{"Authorization", "Basic " + p.token}, 401},
		"login, cut":        {[]string{"Authorization", "Bearer " + p.login[:len(p.login)-2]}, 401},
		"in the query only": {nil, 401},
	} {
		if a := l.send("GET", "/api/balance", "", c.header...); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		} else if c.status == 401 {
			l.refused(a, 401, "unauthorized", "")
		}
	}
}

func TestNoRoute(t *testing.T) {
	l := newLab(t, rest.Options{})
	for _, target := range []string{"/api", "/api/", "/api/nothing", "/oauth", "/oauth/authorize", "/v1", "/v1/chat/completions", "/api/x402", "/api/balance/"} {
		l.refused(l.send("GET", target, ""), http.StatusNotFound, "not_found", "Not found")
		l.refused(l.send("POST", target, "{}"), http.StatusNotFound, "not_found", "Not found")
	}
	for target, c := range map[string]struct{ method, allow string }{
		"/api/balance": {"POST", "GET, HEAD"}, "/api/tokens": {"DELETE", "GET, HEAD"}, "/api/revoke-token": {"GET", "POST"},
		"/api/generate-n8n-token": {"PUT", "POST"}, "/.well-known/openapi.yaml": {"POST", "GET, HEAD"},
	} {
		a := l.send(c.method, target, "")
		l.refused(a, http.StatusMethodNotAllowed, "method_not_allowed", "")
		if a.header.Get("Allow") != c.allow {
			t.Errorf("%s: %q", target, a.header.Get("Allow"))
		}
	}
}

func TestCORS(t *testing.T) {
	l := newLab(t, rest.Options{})
	for _, target := range []string{"/api/balance", "/api/x402/fetch", "/v1/chat/completions", "/.well-known/openapi.yaml"} {
		a := l.send("OPTIONS", target, "", "Origin", "https://page.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-agnic-token")
		allowed := a.header.Get("Access-Control-Allow-Headers")
		if a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" ||
			!strings.Contains(allowed, "X-Agnic-Token") || !strings.Contains(allowed, "Authorization") || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST") {
			t.Errorf("%s: %d %v", target, a.status, a.header)
		}
	}
	a := l.send("GET", "/api/balance", "", "Origin", "https://page.example") // errors must be readable, too
	if a.status != http.StatusUnauthorized || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a = l.send("GET", "/api/balance", ""); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", a.header)
	}
	if a = l.send("OPTIONS", "/api/balance", "", "Origin", "https://page.example"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("no preflight: %d", a.status)
	}
}

func TestRateLimit(t *testing.T) {
	l := newLab(t, rest.Options{KeyPerMinute: 3})
	p := l.person("a@example.com", 0, core.TokenInput{})
	for range 3 {
		if a := l.send("GET", "/api/balance", "", "X-Agnic-Token", p.token); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	a := l.send("GET", "/api/balance", "", "X-Agnic-Token", p.token)
	l.refused(a, http.StatusTooManyRequests, "rate_limited", "Too many requests")
	if a.header.Get("Retry-After") == "" || a.header.Get("X-RateLimit-Limit") != "3" || a.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("%v", a.header)
	}
	l.refused(l.send("POST", "/api/x402/fetch?url=https://api.example.com/free", "", "X-Agnic-Token", p.token), http.StatusTooManyRequests, "rate_limited", "")
	if a := l.send("GET", "/api/balance", "", "Authorization", "Bearer "+p.login); a.status != http.StatusOK {
		t.Errorf("another credential: %d", a.status)
	}
}
