package indiegent_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/money"
	"bursar/rest"
	"bursar/rest/indiegent"
)

const nowhere = "019ab3a0-0000-7000-8000-000000000000"

// refused fails the test unless a request gets a status, and an error that has the text in it.
func (l *lab) refused(a *answer, what string, status int, text string) {
	l.t.Helper()
	if a.Status != status || !strings.Contains(a.text("error"), text) {
		l.t.Errorf("%s: %d %s, want %d %q", what, a.Status, a.Raw, status, text)
	}
}

// TestAmounts: every place that takes an amount refuses what is no plain amount, by the field's name.
func TestAmounts(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 0)
	bad := []string{`-1`, `-0.5`, `1e3`, `1E3`, `0.0000001`, `"5"`, `"x"`, `true`, `[]`, `{}`, `1000000001`, `99999999999999999999999999`}
	dollars := append([]string{`null`}, bad...)
	atomic := append([]string{`1.0`, `0.5`, `5e7`, `1000000000000001`}, bad[:len(bad)-2]...)
	text := []string{`null`, `25`, `"-1"`, `"1.0"`, `"1e3"`, `""`, `"x"`, `" 1"`, `true`, `"1000000000000001"`}
	for _, c := range []struct {
		method, path, field, body string
		values                    []string
	}{
		{"POST", "/sessions", "deposit_amount", `{"agent_wallet_id":"` + agent + `","deposit_amount":VALUE}`, dollars},
		{"POST", "/external/fetch", "max_cost", `{"url":"https://api.exa.ai/search","max_cost":VALUE}`, dollars},
		{"POST", "/agents", "spending_cap", `{"name":"x","spending_cap":VALUE}`, atomic},
		{"PUT", "/agents/" + agent, "spending_cap", `{"spending_cap":VALUE}`, atomic},
		{"PUT", "/agents/" + agent, "auto_topup_threshold", `{"auto_topup_threshold":VALUE}`, atomic},
		{"PUT", "/agents/" + agent, "auto_topup_amount", `{"auto_topup_amount":VALUE}`, atomic},
		{"PUT", "/agents/" + agent + "/policy", "spending_cap", `{"spending_cap":VALUE}`, atomic},
		{"PUT", "/agents/" + agent + "/policy", "daily_limit", `{"daily_limit":VALUE}`, atomic},
		{"PUT", "/agents/" + agent + "/policy", "monthly_limit", `{"monthly_limit":VALUE}`, atomic},
		{"PUT", "/agents/" + agent + "/policy", "per_call_max", `{"per_call_max":VALUE}`, atomic},
		{"POST", "/departments", "budget_limit", `{"name":"x","budget_limit":VALUE}`, atomic},
		{"POST", "/agents/" + agent + "/fund", "amount", `{"tx_hash":"0x` + strings.Repeat("0", 64) + `","amount":VALUE}`, text},
	} {
		for _, value := range c.values {
			body := strings.ReplaceAll(c.body, "VALUE", value)
			l.refused(l.as(p, c.method, c.path, body), c.method+" "+c.path+" "+body, http.StatusBadRequest, c.field)
		}
		l.refused(l.as(p, c.method, c.path, strings.ReplaceAll(c.body, "VALUE", "NaN")), c.path+" NaN", http.StatusBadRequest, "not valid JSON")
	}
	if l.Seller.Asked() != 0 {
		t.Error("a refused call reached the service")
	}
	l.refused(l.as(p, "POST", "/sessions", `{"agent_wallet_id":"`+agent+`"}`), "no deposit", http.StatusBadRequest, "deposit_amount is required")
	l.refused(l.as(p, "POST", "/sessions", `{"agent_wallet_id":"`+agent+`","deposit_amount":0}`), "no deposit", http.StatusBadRequest, "deposit_amount")
	l.refused(l.as(p, "POST", "/sessions", `{"agent_wallet_id":"`+agent+`","deposit_amount":1}`), "no money", http.StatusPaymentRequired, "")
}

// TestNullClears: null empties a limit, and an absent field keeps it.
func TestNullClears(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 0)
	l.must(p, "PUT", "/agents/"+agent+"/policy", `{"daily_limit":1,"monthly_limit":900719925474099,"per_call_max":3}`)
	l.must(p, "PUT", "/agents/"+agent, `{"spending_cap":4,"auto_topup_threshold":5,"auto_topup_amount":6,"auto_topup_source":"`+owner+`"}`)
	a := l.must(p, "PUT", "/agents/"+agent+"/policy", `{"daily_limit":null,"unknown":1}`)
	for field, want := range map[string]any{"daily_limit": nil, "per_call_max": json.Number("3"), "spending_cap": json.Number("4")} {
		if got := a.at("policy", field); got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	a = l.must(p, "PUT", "/agents/"+agent, `{"spending_cap":null,"auto_topup_threshold":null,"auto_topup_source":null}`)
	for field, want := range map[string]any{"spending_cap": nil, "auto_topup_threshold": nil, "auto_topup_source": nil, "auto_topup_amount": json.Number("6"), "name": "Research Bot"} {
		if got := a.at("agent", field); got != want || a.at(field) != want {
			t.Errorf("%s is %v and %v, want %v", field, got, a.at(field), want)
		}
	}
}

// TestBadInput: what is malformed is a bad request that names what is wrong.
func TestBadInput(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 0)
	fetch := func(rest string) string { return `{"url":"https://api.exa.ai/search"` + rest + `}` }
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/agents", ``, "name"},
		{"POST", "/agents", `{}`, "name"},
		{"POST", "/agents", `{"name":""}`, "name"},
		{"POST", "/agents", `{"name":7}`, "name must be a string"},
		{"POST", "/agents", `{"name":"` + strings.Repeat("x", 101) + `"}`, "name"},
		{"POST", "/agents", `[]`, "must be a JSON object"},
		{"POST", "/agents", `null`, "must be a JSON object"},
		{"POST", "/agents", `{"name":"x"} {}`, "not valid JSON"},
		{"POST", "/agents", `{"name":"x"`, "not valid JSON"},
		{"POST", "/agents", "{\"name\":\"\xff\"}", "not valid JSON"},
		{"POST", "/agents", `{"name":"` + strings.Repeat("x", rest.MaxBody) + `"}`, "larger than 1048576 bytes"},
		{"POST", "/agents", `{"name":"x","department_id":7}`, "department_id"},
		{"PUT", "/agents/" + agent, `{"name":null}`, "name"},
		{"PUT", "/agents/" + agent, `{"auto_topup_source":"0x12"}`, "address"},
		{"PUT", "/agents/" + agent, `{"auto_topup_source":5}`, "auto_topup_source"},
		{"PUT", "/agents/" + agent + "/policy", `{"allowed_services":"exa"}`, "allowed_services must be a list"},
		{"PUT", "/agents/" + agent + "/policy", `{"blocked_services":[""]}`, "service name"},
		{"PUT", "/agents/" + agent + "/policy", `{"require_session":"yes"}`, "require_session must be a boolean"},
		{"POST", "/agents/" + agent + "/fund", `{"tx_hash":"0x12","amount":"1"}`, "tx_hash"},
		{"POST", "/agents/" + agent + "/fund", `{"tx_hash":"0x` + strings.Repeat("0", 64) + `","amount":"1"}`, "not confirmed"},
		{"POST", "/agents/" + agent + "/fund", `{"tx_hash":"0x` + strings.Repeat("0", 64) + `"}`, "amount is required"},
		{"POST", "/agents/" + agent + "/drain", ``, "wallet address"},
		{"GET", "/transactions?limit=-1", ``, "limit"},
		{"GET", "/transactions?limit=NaN", ``, "limit"},
		{"GET", "/transactions?offset=-1", ``, "offset"},
		{"GET", "/transactions?offset=1.5", ``, "offset"},
		{"POST", "/sessions", `{"deposit_amount":1}`, "agent_wallet_id is required"},
		{"POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":1,"duration":0}`, "duration"},
		{"POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":1,"duration":86401}`, "duration"},
		{"POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":1,"duration":"60"}`, "duration"},
		{"POST", "/sessions", `{"agent_wallet_id":"` + agent + `","deposit_amount":1,"duration":1.5}`, "duration"},
		{"POST", "/api-keys", `{}`, "name"},
		{"POST", "/departments", `{}`, "name"},
		{"POST", "/external/fetch", `{}`, "url"},
		{"POST", "/external/fetch", `{"url":7}`, "url must be a string"},
		{"POST", "/external/fetch", `{"url":"file:///etc/passwd"}`, "url"},
		{"POST", "/external/fetch", `{"url":"http://10.0.0.1/"}`, "private"},
		{"POST", "/external/fetch", `{"url":"http://169.254.169.254/latest/meta-data"}`, "private"},
		{"POST", "/external/fetch", `{"url":"http://[::ffff:10.0.0.1]/"}`, "private"},
		{"POST", "/external/fetch", fetch(`,"method":"PATCH"`), "method"},
		{"POST", "/external/fetch", fetch(`,"method":"CONNECT"`), "method"},
		{"POST", "/external/fetch", fetch(`,"headers":{"X-A":1}`), "headers"},
		{"POST", "/external/fetch", fetch(`,"headers":{"X-A":null}`), "headers"},
		{"POST", "/external/fetch", fetch(`,"headers":["X-A"]`), "headers must be an object"},
		{"POST", "/external/fetch", fetch(`,"headers":{"X-A":"b\r\nX-B: c"}`), "headers"},
		{"POST", "/external/fetch", fetch(`,"headers":{"X A":"b"}`), "headers"},
		{"POST", "/auth/register", `{"email":"x","password":"long enough"}`, "email"},
		{"POST", "/auth/register", `{"email":"a@example.com","password":"short"}`, "Password"},
		{"POST", "/auth/register", `{"email":"a@example.com","password":12345678}`, "password must be a string"},
	} {
		what := c.method + " " + c.path + " " + c.body[:min(len(c.body), 80)]
		l.refused(l.as(p, c.method, c.path, c.body), what, http.StatusBadRequest, c.want)
	}
}

// TestOthersAreNotFound: what belongs to others answers as what does not exist, on every route with an id.
func TestOthersAreNotFound(t *testing.T) {
	l := newLab(t, rest.Options{})
	alice, mallory := l.person("alice@example.com"), l.person("mallory@example.com")
	v := vars{"agent": l.agent(alice, "Research Bot", 10*money.One)}
	l.session(alice, v)
	mine := l.agent(mallory, "Mine", 10*money.One)
	key := l.must(alice, "POST", "/api-keys", `{"name":"x"}`).text("id")
	department := l.must(alice, "POST", "/departments", `{"name":"x"}`).text("department", "id")
	for _, id := range []string{v["agent"], nowhere, "no-id", "00000000-0000-0000-0000-000000000000", "{" + v["agent"] + "}"} {
		for _, c := range []struct{ method, path, body string }{
			{"GET", "", ""},
			{"PUT", "", `{"name":"y"}`},
			{"DELETE", "", ""},
			{"GET", "/policy", ""},
			{"PUT", "/policy", `{}`},
			{"POST", "/key", ""},
			{"GET", "/env", ""},
			{"POST", "/fund", `{"tx_hash":"0x` + strings.Repeat("0", 64) + `","amount":"1"}`},
			{"POST", "/drain", ""},
			{"GET", "/transactions", ""},
		} {
			path := "/agents/" + id + c.path
			l.refused(l.as(mallory, c.method, path, c.body), c.method+" "+path, http.StatusNotFound, "not found")
		}
		l.refused(l.as(mallory, "POST", "/sessions", `{"agent_wallet_id":"`+id+`","deposit_amount":1}`), "session of "+id, http.StatusNotFound, "not found")
		l.refused(l.send("POST", "/external/fetch", `{"url":"https://api.exa.ai/search"}`, "X-API-Key", mallory.Key, "X-Agent-Wallet", id),
			"fetch by "+id, http.StatusNotFound, "Agent wallet not found")
	}
	for _, id := range []string{v["session"], nowhere, "no-id"} {
		l.refused(l.as(mallory, "GET", "/sessions/"+id, ""), "session "+id, http.StatusNotFound, "not found")
		l.refused(l.as(mallory, "POST", "/sessions/"+id+"/close", ""), "close "+id, http.StatusNotFound, "not found")
		l.refused(l.send("POST", "/external/fetch", `{"url":"https://api.exa.ai/search"}`, "X-API-Key", mallory.Key, "X-Agent-Wallet", mine, "X-Session-Id", id),
			"fetch from "+id, http.StatusNotFound, "Session not found")
	}
	for _, id := range []string{key, nowhere, "no-id"} {
		l.refused(l.as(mallory, "DELETE", "/api-keys/"+id, ""), "key "+id, http.StatusNotFound, "not found")
	}
	l.refused(l.as(mallory, "PUT", "/agents/"+mine, `{"department_id":"`+department+`"}`), "department", http.StatusNotFound, "not found")
	for _, path := range []string{"/agents", "/balance", "/transactions?limit=100", "/sessions", "/departments", "/api-keys"} {
		if a := l.must(mallory, "GET", path, ""); strings.Contains(string(a.Raw), v["agent"]) || strings.Contains(string(a.Raw), v["session"]) || strings.Contains(string(a.Raw), department) {
			t.Errorf("GET %s shows what is another's: %s", path, a.Raw)
		}
	}
	if l.Seller.Asked() != 0 {
		t.Error("a refused call reached the service")
	}
}

// TestCredentials: who may call what.
func TestCredentials(t *testing.T) {
	l := newLab(t, rest.Options{})
	p, other := l.person("dev@example.com"), l.person("other@example.com")
	agent := l.agent(p, "Research Bot", 0)
	revoked := l.must(p, "POST", "/api-keys", `{"name":"x"}`)
	l.must(p, "DELETE", "/api-keys/"+revoked.text("id"), "")
	for name, header := range map[string][]string{
		"none":         nil,
		"bad jwt":      {"Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."},
		"tampered jwt": {"Authorization", "Bearer " + p.Token + "x"},
		"basic":        {"Authorization", "Basic " + p.Token},
		"no scheme":    {"Authorization", p.Key},
		"unknown key":  {"X-API-Key", "ig_test_" + strings.Repeat("0", 64)},
		"revoked key":  {"X-API-Key", revoked.text("key")},
		"two people":   {"Authorization", "Bearer " + p.Token, "X-API-Key", other.Key},
		"two and one":  {"Authorization", "Bearer " + p.Key, "X-API-Key", "ig_test_x"},
	} {
		for _, path := range []string{"/agents", "/balance", "/sessions", "/agents/" + nowhere} {
			l.refused(l.send("GET", path, "", header...), name+" "+path, http.StatusUnauthorized, "")
		}
		l.refused(l.send("POST", "/external/fetch", `{"url":"https://api.exa.ai/search"}`, header...), name+" fetch", http.StatusUnauthorized, "")
	}
	for name, header := range map[string][]string{
		"jwt": {"Authorization", "Bearer " + p.Token}, "lower case": {"Authorization", "bearer " + p.Token},
		"bearer key": {"Authorization", "Bearer " + p.Key}, "header key": {"X-API-Key", p.Key},
		"the same twice": {"Authorization", "Bearer " + p.Key, "X-API-Key", p.Key},
	} {
		if a := l.send("GET", "/agents/"+agent, "", header...); a.Status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/agents/" + agent + "/key", ""},
		{"GET", "/agents/" + agent + "/env", ""},
		{"GET", "/agents/" + agent + "/env?include=api_key", ""},
		{"GET", "/api-keys", ""},
		{"POST", "/api-keys", `{"name":"x"}`},
		{"DELETE", "/api-keys/" + nowhere, ""},
	} {
		l.refused(l.send(c.method, c.path, c.body, "X-API-Key", p.Key), c.method+" "+c.path, http.StatusForbidden, "login")
	}
	l.refused(l.send("POST", "/auth/login", `{"email":"dev@example.com","password":"wrong horse"}`), "wrong password", http.StatusUnauthorized, "Invalid email or password")
	l.refused(l.send("POST", "/auth/login", `{"email":"nobody@example.com","password":"wrong horse"}`), "unknown address", http.StatusUnauthorized, "Invalid email or password")
	l.refused(l.send("POST", "/auth/register", `{"email":"DEV@example.com","password":"correct horse"}`), "taken", http.StatusConflict, "already")
	l.refused(l.as(p, "POST", "/agents", `{"name":"research bot"}`), "same name", http.StatusConflict, "")
}

// TestNoRoute: what no route takes is answered in the dialect's shape.
func TestNoRoute(t *testing.T) {
	l := newLab(t, rest.Options{})
	for _, path := range []string{"/", "/nothing", "/agents/", "/agents/x/y/z", "/external", "/org"} {
		l.refused(l.send("GET", path, ""), path, http.StatusNotFound, "Not found")
	}
	for path, allow := range map[string]string{"/agents": "GET, HEAD, POST", "/auth/login": "POST", "/external/fetch": "POST", "/sessions/x/close": "POST"} {
		a := l.send("PATCH", path, "")
		l.refused(a, path, http.StatusMethodNotAllowed, "Method not allowed")
		if got := a.Header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q, want %q", path, got, allow)
		}
	}
}

// TestDocument: the contract is there for everybody, as it is.
func TestDocument(t *testing.T) {
	l := newLab(t, rest.Options{})
	resp, err := http.Get(l.URL + "/openapi.yaml")
	l.no(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	l.no(err)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/yaml" || !bytes.Equal(text, indiegent.Spec) {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestRateLimits: too many requests are told when to come back, and one caller does not use up another's.
func TestRateLimits(t *testing.T) {
	l := newLab(t, rest.Options{KeyPerMinute: 3, AddressPerMinute: 2})
	p, other := l.person("dev@example.com"), l.person("other@example.com")
	for i := range 5 {
		a := l.send("GET", "/balance", "", "X-API-Key", p.Key)
		if i < 3 && a.Status != http.StatusOK {
			t.Errorf("request %d: %d", i, a.Status)
		}
		if i >= 3 {
			l.refused(a, "too many", http.StatusTooManyRequests, "Too many requests")
			if a.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		}
	}
	if a := l.send("GET", "/balance", "", "X-API-Key", other.Key); a.Status != http.StatusOK {
		t.Errorf("another's key: %d", a.Status)
	}
	if a := l.as(p, "GET", "/balance", ""); a.Status != http.StatusOK {
		t.Errorf("the same person's login: %d", a.Status)
	}
	for i := range 4 {
		a := l.send("POST", "/auth/login", `{}`, "X-Forwarded-For", "1.2.3."+string(rune('0'+i)))
		if want := []int{401, 401, 429, 429}[i]; a.Status != want {
			t.Errorf("sign-in %d: %d, want %d", i, a.Status, want)
		}
	}
}
