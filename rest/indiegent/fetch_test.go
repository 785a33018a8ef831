package indiegent_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

func (l *lab) fetch(p *person, body string, header ...string) *answer {
	l.t.Helper()
	return l.send("POST", "/external/fetch", body, append([]string{"X-API-Key", p.Key}, header...)...)
}

// TestEnvelope: the service's answer stands in the envelope as it came.
func TestEnvelope(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", 0)
	const odd = " { \"b\" : 1.50, \"a\":[1e400, 12345678901234567890,\"<&>\\u2028\"] ,\"a\":null}\n"
	for _, c := range []struct {
		kind, body, embedded, encoding string
	}{
		{"application/json", odd, odd, ""},
		{"application/json; charset=utf-8", `[]`, `[]`, ""},
		{"application/problem+json", `{"x":1}`, `{"x":1}`, ""},
		{"application/json", `null`, `null`, ""},
		{"application/json", `{"x":`, `"{\"x\":"`, ""},
		{"application/json", ``, `""`, ""},
		{"text/plain", `{"x":1}`, `"{\"x\":1}"`, ""},
		{"", "h\u00e9 <b>\n", `"h` + "\u00e9" + ` <b>\n"`, ""},
		{"image/png", "\x89PNG\xff", `"` + base64.StdEncoding.EncodeToString([]byte("\x89PNG\xff")) + `"`, "base64"},
		{"application/json", "\"\xff\"", `"` + base64.StdEncoding.EncodeToString([]byte("\"\xff\"")) + `"`, "base64"},
	} {
		url := l.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{c.kind}
			w.Header()["X-Many"] = []string{"a", "b"}
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, c.body)
		}))
		a := l.fetch(p, `{"url":"`+url+`"}`)
		if a.Status != http.StatusOK || a.at("status") != json.Number("418") || a.text("headers", "X-Many") != "a, b" {
			t.Errorf("%q: %d %s", c.body, a.Status, a.Raw)
		}
		if !bytes.Contains(a.Raw, []byte(`,"body":`+c.embedded+`,"`)) || a.text("encoding") != c.encoding {
			t.Errorf("%s %q: %s", c.kind, c.body, a.Raw)
		}
	}
}

// TestForwarded: what goes to the service is what the agent wrote, without what is ours.
func TestForwarded(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", 0)
	var got *http.Request
	var body string
	url := l.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
	}))
	for _, c := range []struct{ in, method, body, kind string }{
		{`"method":"POST","body":{"a": 1.0,"b":12345678901234567890}`, "POST", `{"a": 1.0,"b":12345678901234567890}`, "application/json"},
		{`"method":"put","body":[1, 2]`, "PUT", `[1, 2]`, "application/json"},
		{`"method":"POST","body":"a=b","headers":{"content-type":"application/x-www-form-urlencoded"}`, "POST", "a=b", "application/x-www-form-urlencoded"},
		{`"method":"DELETE","body":null`, "DELETE", "", ""},
		{`"headers":{"X-A":"1"}`, "GET", "", ""},
	} {
		a := l.fetch(p, `{"url":"`+url+`",`+c.in+`}`)
		if a.Status != http.StatusOK || got.Method != c.method || body != c.body || got.Header.Get("Content-Type") != c.kind {
			t.Errorf("%s: %d, service saw %s %q %q", c.in, a.Status, got.Method, body, got.Header.Get("Content-Type"))
		}
	}
	l.fetch(p, `{"url":"`+url+`","headers":{"Authorization":"Bearer `+p.Key+`","X-Payment":"x","PAYMENT-SIGNATURE":"x","X-Payment-Tx":"x","Host":"evil.example","X-Kept":"y"}}`)
	for _, name := range []string{"Authorization", "X-Payment", "Payment-Signature", "X-Payment-Tx", "X-Api-Key"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("the service saw %s: %s", name, v)
		}
	}
	if got.Header.Get("X-Kept") != "y" || got.Host == "evil.example" {
		t.Errorf("the service saw %v of %s", got.Header, got.Host)
	}
}

// TestOutcomes: what the envelope says of a payment, and which refusals cost nothing.
func TestOutcomes(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 10*money.One)
	call := func(b paytest.Behaviour, more string, header ...string) *answer {
		return l.fetch(p, `{"url":"`+l.Seller.Link(2, b, 0)+`"`+more+`}`, header...)
	}
	paid := func(what string, a *answer, status int, method, state string) {
		t.Helper()
		if a.Status != 200 || a.at("status") != json.Number(fmt.Sprint(status)) || a.text("_indiegent", "payment_method") != method ||
			a.text("_indiegent", "payment_status") != state || a.text("_indiegent", "cost") != "$0.0100" || a.text("_indiegent", "transaction_id") == "" {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	paid("served", call(paytest.Serve, ""), 200, "x402", "pending")
	a := call(paytest.AskAgain, "")
	paid("402 after payment", a, 402, "x402", "unknown")
	if !l.Log.has("transaction_id=" + a.text("_indiegent", "transaction_id")) {
		t.Error("the request's log line lacks the transaction")
	}
	a = call(paytest.FailAfter, "")
	paid("500 after payment", a, 500, "x402", "unknown")
	proofs := l.Seller.Seen()
	end := json.Number(fmt.Sprint(proofs[len(proofs)-1].Proof.Authorization.ValidBefore))
	record := l.must(p, "GET", "/transactions?limit=1", "")
	if item := record.at("transactions").([]any)[0].(map[string]any); a.at("_indiegent", "decided_by") != end || item["decided_by"] != end ||
		item["status"] != "unknown" || !strings.Contains(item["reason"].(string), "answered 500") {
		t.Errorf("unknown until %s: %s %s", end, a.Raw, record.Raw)
	}
	a = call(paytest.Reset, "")
	l.refused(a, "cut after payment", http.StatusBadGateway, "unknown")
	if a.text("transaction_id") == "" {
		t.Errorf("an error after payment does not name it: %s", a.Raw)
	}
	a = call(paytest.PayToken, "")
	if a.Status != 200 || a.at("status") != json.Number("402") || a.text("_indiegent", "unpayable") == "" || a.text("_indiegent", "payment_method") != "none" {
		t.Errorf("unpayable: %d %s", a.Status, a.Raw)
	}
	l.refused(call(paytest.Serve, `,"max_cost":0.009999`), "too dear", http.StatusUnprocessableEntity, "exceeds")
	l.refused(l.fetch(p, `{"url":"http://127.0.0.1:1/"}`), "nobody there", http.StatusBadGateway, "")

	v := vars{"agent": agent}
	l.session(p, v)
	a = call(paytest.Serve, "", "X-Session-Id", v["session"], "X-Agent-Wallet", "Research Bot")
	paid("session", a, 200, "session", "success")
	if a.text("_indiegent", "session_remaining") != "$4.9900" {
		t.Errorf("remaining: %s", a.Raw)
	}
	a = l.fetch(p, `{"url":"`+l.Seller.URL+`/free"}`, "X-Session-Id", v["session"])
	if a.text("_indiegent", "payment_method") != "none" || a.text("_indiegent", "cost") != "$0.0000" || a.text("_indiegent", "session_remaining") != "$4.9900" {
		t.Errorf("free in a session: %s", a.Raw)
	}
	l.refused(l.fetch(p, `{"url":"`+l.Seller.Link(2, paytest.Serve, 6*money.One)+`"}`, "X-Session-Id", v["session"]), "more than is left", http.StatusPaymentRequired, "")

	set := func(policy string) { l.must(p, "PUT", "/agents/"+agent+"/policy", policy) }
	set(`{"per_call_max":9999}`)
	l.refused(call(paytest.Serve, ""), "per call", http.StatusPaymentRequired, "")
	set(`{"per_call_max":null,"daily_limit":0}`)
	l.refused(call(paytest.Serve, ""), "daily", http.StatusPaymentRequired, "")
	set(`{"daily_limit":null,"require_session":true}`)
	l.refused(call(paytest.Serve, ""), "no session", http.StatusForbidden, "session")
	set(`{"require_session":false,"blocked_services":["127.0.0.1"]}`)
	set(`{"blocked_services":["` + strings.TrimPrefix(l.Seller.URL, "http://") + `"]}`)
	l.refused(call(paytest.Serve, ""), "blocked", http.StatusForbidden, "blocked")
	set(`{"blocked_services":[],"allowed_services":["exa"]}`)
	l.refused(call(paytest.Serve, ""), "not allowed", http.StatusForbidden, "allowed")
	set(`{"allowed_services":[]}`)

	closed := l.must(p, "POST", "/sessions/"+v["session"]+"/close", "")
	l.refused(call(paytest.Serve, "", "X-Session-Id", v["session"]), "closed session", http.StatusBadRequest, "Session is closed")
	again := l.must(p, "POST", "/sessions/"+v["session"]+"/close", "")
	if closed.text("session", "refund_tx_hash") != again.text("session", "refund_tx_hash") || again.at("session", "refunded") != json.Number("4990000") {
		t.Errorf("closed twice: %s and %s", closed.Raw, again.Raw)
	}
	l.Balanced()
}

// TestWithoutAgentHeader: the header may be missing with exactly one active agent.
func TestWithoutAgentHeader(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	body := `{"url":"` + l.Seller.URL + `/free"}`
	l.refused(l.fetch(p, body), "none", http.StatusBadRequest, "X-Agent-Wallet")
	first := l.agent(p, "Research Bot", 0)
	if a := l.fetch(p, body); a.Status != 200 || a.text("_indiegent", "agent") != "research-bot" {
		t.Errorf("one: %d %s", a.Status, a.Raw)
	}
	l.agent(p, "Sales Bot", 0)
	l.refused(l.fetch(p, body), "two", http.StatusBadRequest, "X-Agent-Wallet")
	for _, ref := range []string{first, "Research Bot", "research-bot"} {
		if a := l.fetch(p, body, "X-Agent-Wallet", ref); a.Status != 200 {
			t.Errorf("%s: %d %s", ref, a.Status, a.Raw)
		}
	}
	gone := l.must(p, "DELETE", "/agents/"+first, "")
	if gone.at("drained") != false || gone.text("amount") != "0" || gone.at("tx_hash") != nil {
		t.Errorf("deleted without money: %s", gone.Raw)
	}
	l.refused(l.fetch(p, body, "X-Agent-Wallet", first), "deactivated", http.StatusBadRequest, "Agent is deactivated")
	if again := l.must(p, "DELETE", "/agents/"+first, ""); again.at("deleted") != true {
		t.Errorf("deleted again: %s", again.Raw)
	}
	if a := l.must(p, "GET", "/agents/"+first, ""); a.at("active") != false {
		t.Errorf("after deletion: %s", a.Raw)
	}
}

// TestHistory: sessions appear under the published types, and pages hold together.
func TestHistory(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	v := vars{"agent": l.agent(p, "Research Bot", 10*money.One)}
	l.session(p, v)
	l.exaCall(p, v)
	l.must(p, "POST", "/sessions/"+v["session"]+"/close", "")
	v["session"] = ""
	l.exaCall(p, v)
	l.gasArrived(p)
	kinds := map[string]int{}
	seen := map[string]bool{}
	var total json.Number
	for offset := 0; offset < 10; offset += 2 {
		a := l.must(p, "GET", fmt.Sprintf("/agents/%s/transactions?limit=2&offset=%d", v["agent"], offset), "")
		total, _ = a.at("total").(json.Number)
		rows, _ := a.at("transactions").([]any)
		for _, row := range rows {
			r := row.(map[string]any)
			seen[r["id"].(string)] = true
			_, inSession := r["session_id"]
			kinds[fmt.Sprint(r["type"], " ", r["token"], " ", r["amount"], " ", inSession)]++
		}
	}
	want := map[string]int{
		"fund USDC 10000000 false": 1, "gas_sponsor ETH 30000000000000 false": 1, "payment USDC 5000000 true": 1,
		"payment USDC 10000 true": 1, "fund USDC 4990000 true": 1, "payment USDC 10000 false": 1,
	}
	if fmt.Sprint(kinds) != fmt.Sprint(want) || len(seen) != 6 || total != "6" {
		t.Errorf("history %v of %s, want %v", kinds, total, want)
	}
}

// TestLog: one line per request, and no secret in it.
func TestLog(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 0)
	a := l.send("GET", "/agents/"+agent, "", "X-API-Key", p.Key, "X-Request-Id", "my-request.1")
	if a.Header.Get("X-Request-Id") != "my-request.1" {
		t.Error("the request's id does not come back")
	}
	if !l.Log.has(`msg=request request_id=my-request.1 method=GET route="GET /agents/{id}" status=200`) || !l.Log.has("principal_id="+p.UserID.String()) {
		t.Errorf("log: %s", l.Log)
	}
	a = l.send("POST", "/agents/"+agent+"/key", "", "Authorization", "Bearer "+p.Token, "X-Request-Id", "forged\tmsg=x")
	if a.Header.Get("X-Request-Id") == "forged\tmsg=x" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.Header)
	}
	l.send("POST", "/auth/login", `{"email":"dev@example.com","password":"correct horse"}`)
	if !l.Log.has(`route="POST /auth/login"`) {
		t.Error("no line for the sign-in")
	}
	for _, secret := range []string{p.Key, p.Token, a.text("private_key"), "correct horse"} {
		if strings.Contains(l.Log.String(), secret) {
			t.Errorf("a secret is in the log: %s", l.Log)
		}
	}
}
