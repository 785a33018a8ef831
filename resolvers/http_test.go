package resolvers_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bursar/core"
	"bursar/ent/apikey"
)

const meQuery = `{ me { user { email } org { id } role credential } }`

// TestCredentials calls with every kind of credential, and without.
func TestCredentials(t *testing.T) {
	d := open(t)
	p, l := d.User("dev@example.com")
	key, err := d.Core.APIKeys.Create(d.Ctx, p, "key")
	if err != nil {
		t.Fatal(err)
	}
	token, err := d.Core.APIKeys.CreateToken(d.Ctx, p, core.TokenInput{Label: "token"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		header http.Header
		kind   string
	}{
		{bearer(l.Token), "LOGIN"},
		{http.Header{"Authorization": {"bearer  " + key.Secret}}, "API_KEY"},
		{http.Header{"X-Api-Key": {key.Secret}}, "API_KEY"},
		{http.Header{"X-Agnic-Token": {token.Secret}}, "AGNIC_TOKEN"},
	} {
		a := d.do(c.header, meQuery, nil)
		if a.str("me.credential") != c.kind || a.str("me.user.email") != "dev@example.com" || a.str("me.role") != "OWNER" {
			t.Error(a.text)
		}
		if a.header.Get("Cache-Control") != "no-store" {
			t.Error("an answer may be cached")
		}
	}
	if err := d.Core.APIKeys.Revoke(d.Ctx, p, apikey.KindAPIKey, key.ID); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Header{
		"none": nil, "of another scheme": {"Authorization": {"Basic YTpi"}}, "bad": bearer("bad"),
		"revoked": bearer(key.Secret), "two": {"Authorization": {"Bearer " + l.Token}, "X-Api-Key": {token.Secret}},
	} {
		a := d.ask(h, meQuery, nil)
		if a.status != http.StatusUnauthorized || a.code() != "UNAUTHORIZED" || a.Data != nil || a.header.Get("WWW-Authenticate") != "Bearer" ||
			!strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %d %v %s", name, a.status, a.header, a.text)
		}
	}
}

// TestWithoutCredential may register, sign in and look at the schema, and nothing else, however it is put.
func TestWithoutCredential(t *testing.T) {
	d := open(t)
	in := map[string]any{"in": map[string]any{"email": "new@example.com", "password": "correct horse"}}
	a := d.do(nil, `mutation($in: PasswordInput!) { register(input: $in) { token expiresAt user { id email } } }`, in)
	if a.str("register.user.email") != "new@example.com" {
		t.Error(a.text)
	}
	d.do(bearer(a.str("register.token")), meQuery, nil)
	d.ask(nil, `mutation($in: PasswordInput!) { register(input: $in) { token } }`, in).refused("CONFLICT")
	d.do(nil, `mutation($in: PasswordInput!) { login(input: $in) { token } __typename }`, in)
	d.do(nil, `{ __typename __type(name: "Agent") { name } }`, nil)
	d.ask(nil, `mutation { login(input: {email: "new@example.com", password: "wrong one"}) { token } }`, nil).refused("UNAUTHORIZED")

	for _, query := range []string{
		`{ network { name } }`, `{ a: agents { id } }`, `{ ... { agents { id } } }`, `{ ...f } fragment f on Query { ...g } fragment g on Query { me { role } }`,
		`mutation { createAgent(input: {name: "x"}) { id } }`,
		`mutation { login(input: {email: "new@example.com", password: "correct horse"}) { token } createAgent(input: {name: "x"}) { id } }`,
		`query A { __typename } query B { me { role } }`,
	} {
		body := strings.NewReader(`{"operationName": ` + map[bool]string{true: `"B"`, false: `null`}[strings.Contains(query, " B ")] + `, "query": ` + quote(query) + `}`)
		if a := d.send(http.MethodPost, "/graphql", nil, body); a.status != http.StatusUnauthorized || a.code() != "UNAUTHORIZED" {
			t.Errorf("%s: %d %s", query, a.status, a.text)
		}
	}
	both := `{"operationName": "A", "query": "query A { __typename } query B { me { role } }"}`
	if a := d.send(http.MethodPost, "/graphql", nil, strings.NewReader(both)); a.status != http.StatusOK || len(a.Errors) > 0 {
		t.Errorf("the operation that runs needs no credential: %s", a.text)
	}
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }

// TestHTTP goes through the shapes of GraphQL over HTTP.
func TestHTTP(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	with := func(name, value string) http.Header {
		h := me.Clone()
		h.Set(name, value)
		return h
	}
	const modern = "application/graphql-response+json"
	get := func(query string) string { return "/graphql?query=" + url.QueryEscape(query) }
	mutation := `mutation { createDepartment(input: {name: "Ops"}) { id } }`
	for name, c := range map[string]struct {
		method, path string
		header       http.Header
		body         string
		status       int
		kind, code   string
	}{
		"POST":                   {"POST", "/graphql", me, `{"query":"{me{role}}"}`, 200, "application/json", ""},
		"modern":                 {"POST", "/graphql", with("Accept", modern+", application/json;q=0.9"), `{"query":"{me{role}}"}`, 200, modern, ""},
		"GET":                    {"GET", get("query($n: String!) { __type(name: $n) { name } }") + `&variables={"n":"Agent"}`, me, "", 200, "application/json", ""},
		"GET, read in part":      {"GET", get("{ __typename }") + `&operationName=x%`, me, "", 400, "application/json", "INVALID_REQUEST"},
		"GET, half after a sign": {"GET", get("{ __typename }") + `&variables={"n":1};`, me, "", 400, "application/json", "INVALID_REQUEST"},
		"GET that changes":       {"GET", get(mutation), me, "", 405, "application/json", "INVALID_REQUEST"},
		"PUT":                    {"PUT", "/graphql", me, `{"query":"{me{role}}"}`, 405, "application/json", "INVALID_REQUEST"},
		"text":                   {"POST", "/graphql", with("Content-Type", "text/plain"), `{"query":"{me{role}}"}`, 415, "application/json", "INVALID_REQUEST"},
		"form":                   {"POST", "/graphql", with("Content-Type", "application/x-www-form-urlencoded"), `query={me{role}}`, 415, "application/json", "INVALID_REQUEST"},
		"no JSON":                {"POST", "/graphql", me, `{"query":`, 400, "application/json", "INVALID_REQUEST"},
		"a list":                 {"POST", "/graphql", me, `[{"query":"{me{role}}"}]`, 400, "application/json", "INVALID_REQUEST"},
		"two values":             {"POST", "/graphql", me, `{"query":"{me{role}}"}{}`, 400, "application/json", "INVALID_REQUEST"},
		"too large":              {"POST", "/graphql", me, `{"query":"{me{role}}","variables":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`, 413, "application/json", "INVALID_REQUEST"},
		"empty":                  {"POST", "/graphql", me, `{}`, 200, "application/json", "GRAPHQL_VALIDATION_FAILED"},
		"syntax":                 {"POST", "/graphql", me, `{"query":"{"}`, 200, "application/json", "GRAPHQL_PARSE_FAILED"},
		"syntax, modern":         {"POST", "/graphql", with("Accept", modern), `{"query":"{"}`, 400, modern, "GRAPHQL_PARSE_FAILED"},
		"unknown field, modern":  {"POST", "/graphql", with("Accept", modern), `{"query":"{me{passwordHash}}"}`, 400, modern, "GRAPHQL_VALIDATION_FAILED"},
		"bad variable":           {"POST", "/graphql", me, `{"query":"query($n: Int!) { transactions(limit: $n) { total } }","variables":{"n":"x"}}`, 200, "application/json", "GRAPHQL_VALIDATION_FAILED"},
		"unreadable id":          {"POST", "/graphql", me, `{"query":"{agent(id: \"7\") {id}}"}`, 200, "application/json", "INVALID_REQUEST"},
		"unreadable amount":      {"POST", "/graphql", me, `{"query":"mutation{createAgent(input:{name:\"x\",spendingCap:\"1.5\"}){id}}"}`, 200, "application/json", "INVALID_REQUEST"},
		"unreadable moment":      {"POST", "/graphql", me, `{"query":"{transactions(filter:{from:\"today\"}){total}}"}`, 200, "application/json", "INVALID_REQUEST"},
		"subscription over HTTP": {"POST", "/graphql", me, `{"query":"subscription { paymentSettled { id } }"}`, 400, "application/json", "INVALID_REQUEST"},
	} {
		a := d.send(c.method, c.path, c.header, strings.NewReader(c.body))
		if a.status != c.status || a.code() != c.code || !strings.HasPrefix(a.header.Get("Content-Type"), c.kind+";") || (c.code == "") != (a.Errors == nil) {
			t.Errorf("%s: %d %s %.300s", name, a.status, a.header.Get("Content-Type"), a.text)
		}
	}
	if n := len(d.do(me, `{ departments { id } }`, nil).at("departments").([]any)); n != 0 {
		t.Error("a GET has changed something")
	}
	if d.log.Len() != 0 {
		t.Errorf("the callers' mistakes are logged as ours: %s", d.log)
	}
}

// TestPage is the page for trying the API: nothing of it comes from elsewhere.
func TestPage(t *testing.T) {
	d := open(t)
	a := d.send(http.MethodGet, "/graphiql", nil, nil)
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") ||
		bytes.Contains([]byte(a.text), []byte("//cdn")) || strings.Contains(a.text, "src=") || strings.Contains(a.text, "https://") {
		t.Errorf("%d %v", a.status, a.header)
	}
}
