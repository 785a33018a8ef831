package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

// TestEveryCode: no code of core is without a row, in either dialect.
func TestEveryCode(t *testing.T) {
	type spelled struct {
		indieGent, agnic int
		code             string
	}
	want := map[core.Code]spelled{
		core.InvalidRequest: {400, 400, "invalid_request"}, core.Unauthorized: {401, 401, "unauthorized"},
		core.Forbidden: {403, 403, "insufficient_scope"}, core.InsufficientBalance: {402, 402, "insufficient_balance"},
		core.SpendingLimit: {402, 402, "spending_limit_exceeded"}, core.CostExceedsMax: {422, 402, "payment_exceeds_max"},
		core.ApprovalRequired: {202, 202, "approval_required"},
		core.NotFound:         {404, 404, "not_found"}, core.Conflict: {409, 409, "conflict"}, core.RateLimited: {429, 429, "rate_limited"},
		core.ServiceFailed: {502, 502, "upstream_error"}, core.Timeout: {504, 504, "timeout"}, core.ServerError: {500, 500, "server_error"},
	}
	for _, code := range core.Codes() {
		w, ok := want[code]
		if !ok {
			t.Errorf("%s has no row", code)
			continue
		}
		status, body := written(t, rest.IndieGent, core.E(code, "Some text"))
		text := "Some text"
		if code == core.ServerError {
			text = "Internal server error"
		}
		plain := map[string]any{"error": text}
		if code == core.ApprovalRequired { // no error there
			plain = map[string]any{"status": "approval_required"}
		}
		if status != w.indieGent || !reflect.DeepEqual(body, plain) {
			t.Errorf("%s in IndieGent: %d %v", code, status, body)
		}
		status, body = written(t, rest.Agnic, core.E(code, "Some text"))
		if status != w.agnic || !reflect.DeepEqual(body, map[string]any{"error": w.code, "error_description": text}) {
			t.Errorf("%s in Agnic: %d %v", code, status, body)
		}
	}
}

func written(t *testing.T, d rest.Dialect, e *core.Error) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	d.Write(w, e)
	return w.Code, object(t, w.Body.Bytes())
}

func object(t *testing.T, b []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

// TestFinerCases: the rows that depend on more than the code.
func TestFinerCases(t *testing.T) {
	closed := &core.Error{Code: core.Conflict, Message: "Session is closed", Closed: true}
	if status, _ := written(t, rest.IndieGent, closed); status != 400 {
		t.Errorf("a closed session is %d in IndieGent", status)
	}
	if status, _ := written(t, rest.Agnic, closed); status != 409 {
		t.Errorf("a closed session is %d in Agnic", status)
	}
	limit := &core.Error{Code: core.SpendingLimit, Message: "Daily limit exceeded", Limit: &core.LimitDetail{
		Rule: "token_daily", Current: 9_500_000, Requested: money.One, Max: 10 * money.One,
	}}
	_, body := written(t, rest.Agnic, limit)
	want := map[string]any{
		"error": "spending_limit_exceeded", "error_description": "Daily limit exceeded", "limit": "daily",
		"current": json.Number("9.50"), "requested": json.Number("1.00"), "max": json.Number("10.00"),
	}
	if !reflect.DeepEqual(body, want) {
		t.Errorf("limit detail %v", body)
	}
	for rule, name := range map[string]string{"org_daily": "daily", "org_monthly": "monthly", "org_cap": "spending_cap", "department_budget": "department_budget"} {
		limit.Limit.Rule = rule
		if _, body := written(t, rest.Agnic, limit); body["limit"] != name {
			t.Errorf("%s is %v", rule, body["limit"])
		}
	}
	paid := &core.Error{Code: core.Timeout, Message: "x", Payment: "1"}
	if _, body := written(t, rest.IndieGent, paid); body["transaction_id"] != "1" {
		t.Errorf("payment %v", body)
	}
	if _, body := written(t, rest.Agnic, paid); body["transaction_id"] != "tx_1" {
		t.Errorf("payment %v", body)
	}
	for _, d := range []rest.Dialect{rest.IndieGent, rest.Agnic} {
		w := httptest.NewRecorder()
		d.Write(w, &core.Error{Code: core.Conflict, Message: "x", RetryAfter: 1500 * time.Millisecond})
		if w.Code != 409 || w.Header().Get("Retry-After") != "2" {
			t.Errorf("retry after: %d %v", w.Code, w.Header())
		}
		dearer := &core.Error{Code: core.Conflict, Message: "x", Offer: &core.TracedOffer{Protocol: "x402-v2", Amount: 2 * money.One, PayTo: "0x1"}}
		if _, body := written(t, d, dearer); fmt.Sprint(body["offer"]) != "map[amount:2.000000 asset: network: pay_to:0x1 protocol:x402-v2 scheme:]" {
			t.Errorf("what a service asks now: %v", body)
		}
		w = httptest.NewRecorder()
		if d.Write(w, core.E(core.Conflict, "x")); w.Header().Get("Retry-After") != "" {
			t.Errorf("no retry: %v", w.Header())
		}
	}
	if status, body := written(t, rest.Agnic, core.E("new_code", "secret")); status != 500 || strings.Contains(fmt.Sprint(body), "secret") {
		t.Errorf("unknown code: %d %v", status, body)
	}
}

// served runs one handler behind a door without core.
func served(t *testing.T, h http.HandlerFunc) (url string, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	now := time.Unix(1_760_000_000, 0)
	clock := func() time.Time { now = now.Add(7 * time.Millisecond); return now }
	door := rest.NewDoor(rest.Agnic, nil, rest.Options{Log: slog.New(slog.NewTextHandler(log, nil)), Clock: clock})
	routes := http.NewServeMux()
	routes.HandleFunc("GET /x", func(w http.ResponseWriter, r *http.Request) {
		if h != nil {
			h(w, r)
		} else {
			door.Fail(w, r, fmt.Errorf("reading: %w", errors.New("the secret cause")))
		}
	})
	s := httptest.NewServer(door.Handler(routes))
	t.Cleanup(s.Close)
	return s.URL, log
}

func get(t *testing.T, method, url string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return resp, b
}

// TestServerErrors: a cause is logged and does not leave the process; a panic is an answer.
func TestServerErrors(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"error": nil,
		"panic": func(http.ResponseWriter, *http.Request) { panic("the secret cause") },
	} {
		url, log := served(t, h)
		resp, body := get(t, "GET", url+"/x")
		if resp.StatusCode != http.StatusInternalServerError || string(body) != `{"error":"server_error","error_description":"Internal server error"}`+"\n" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		if id := resp.Header.Get("X-Request-Id"); !strings.Contains(log.String(), "the secret cause") || !strings.Contains(log.String(), "request_id="+id) {
			t.Errorf("%s: log %s", name, log)
		}
	}
	url, _ := served(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic("late")
	})
	if resp, _ := get(t, "GET", url+"/x"); resp != nil {
		t.Errorf("an answer cut by a panic looks whole: %d", resp.StatusCode)
	}
}

func TestNoRoute(t *testing.T) {
	url, _ := served(t, nil)
	if resp, body := get(t, "GET", url+"/y"); resp.StatusCode != http.StatusNotFound || object(t, body)["error"] != "not_found" {
		t.Errorf("404: %d %s", resp.StatusCode, body)
	}
	resp, body := get(t, "POST", url+"/x")
	if resp.StatusCode != http.StatusMethodNotAllowed || object(t, body)["error"] != "method_not_allowed" || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("405: %d %s %v", resp.StatusCode, body, resp.Header)
	}
}

func TestCredentials(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        core.Credentials
	}{
		{"Authorization", "Bearer x", core.Credentials{Bearer: "x"}},
		{"Authorization", "bearer  x ", core.Credentials{Bearer: "x"}},
		{"Authorization", "Basic x", core.Credentials{}},
		{"Authorization", "x", core.Credentials{}},
		{"Authorization", "Bearer", core.Credentials{}},
		{"X-API-Key", " k ", core.Credentials{APIKey: "k"}},
		{"X-Agnic-Token", "t", core.Credentials{AgnicToken: "t"}},
	} {
		h := http.Header{}
		h.Set(c.name, c.value)
		if got := rest.Credentials(h); got != c.want {
			t.Errorf("%s %q: %+v", c.name, c.value, got)
		}
	}
}

func TestNumbers(t *testing.T) {
	if v, err := rest.Dollars("a", nil); v != nil || err != nil {
		t.Error("absent dollars")
	}
	if v, err := rest.Dollars("a", json.RawMessage("5.00")); err != nil || *v != 5*money.One {
		t.Error(v, err)
	}
	if o, err := rest.Atomic("a", nil); o.Set || err != nil {
		t.Error("absent atomic")
	}
	if o, err := rest.Atomic("a", json.RawMessage("null")); !o.Set || o.Value != nil || err != nil {
		t.Error("null atomic")
	}
	if o, err := rest.Atomic("a", json.RawMessage("1000000000000000")); err != nil || *o.Value != money.Max {
		t.Error(o, err)
	}
	if v, err := rest.AtomicText("a", json.RawMessage(`"25000000"`)); err != nil || v != 25*money.One {
		t.Error(v, err)
	}
	for raw, ok := range map[string]bool{"1": true, "9": true, "0": false, "10": false, "1.0": false, "1e0": false, `"1"`: false, "true": false} {
		if _, err := rest.Integer("a", json.RawMessage(raw), 1, 9); (err == nil) != ok {
			t.Errorf("Integer(%s): %v", raw, err)
		}
	}
	if v, err := rest.Integer("a", json.RawMessage("null"), 1, 9); v != nil || err != nil {
		t.Error("null integer")
	}
}

// FuzzDecode: whatever comes, the answer is a value or a bad request.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":"x"}{`, `[]`, "\xff", ``, `{"a":{"b":[null]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v struct {
			A string          `json:"a"`
			B json.RawMessage `json:"b"`
		}
		if err := rest.Agnic.Decode(b, &v); err != nil && core.AsError(err).Code != core.InvalidRequest {
			t.Error(err)
		}
		if _, err := rest.Dollars("b", v.B); err != nil && core.AsError(err).Code != core.InvalidRequest {
			t.Error(err)
		}
	})
}
