package indiegent_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/core"
	"bursar/core/pricing"
	"bursar/ent/service"
	"bursar/money"
	"bursar/rest"
)

// catalogue installs a service of the operator's that answers by f.
func (l *lab) catalogue(slug string, price pricing.Price, f http.HandlerFunc) {
	l.t.Helper()
	l.no(l.App.Services.Install(l.Ctx, []core.ServiceInput{{
		Slug: slug, Name: slug, BaseURL: l.Serve(f), Price: price,
		Credential: &core.ServiceCredential{In: service.CredentialInHeader, Name: "X-Service-Key", Secret: "the service's own key"},
	}}))
}

func exaAnswer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/search" || r.Header.Get("X-Service-Key") == "" {
		w.WriteHeader(http.StatusBadRequest)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"results": [1.0, 12345678901234567890, "<b>"]}`)
}

// TestServiceAnswers: what a service answers passes as it is, with the receipt in it or beside it.
func TestServiceAnswers(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("somebody@example.com")
	v := vars{"agent": l.agent(p, "Research Bot", 25*money.One)}
	l.session(p, v)
	var seen *http.Request
	var sent string
	kind, answer, status := "", "", 200
	l.catalogue("any", pricing.Price{PerCall: cent}, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, sent = r, string(b)
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Indiegent-Cost", "$0.0000")
		w.Header().Set("Etag", `"x"`)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("X-Request-Id", "theirs")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	})
	remaining := 5 * money.One
	for _, c := range []struct {
		kind, answer string
		status       int
		merged       bool
	}{
		{"application/json", `{"a":1.0}`, 200, true},
		{"application/json; charset=utf-8", " {\"b\" : [ ] }\n", 201, true},
		{"application/problem+json", `{}`, 200, true},
		{"application/json", `{"a":1,"a":2}`, 200, true},
		{"application/json", `{"_indiegent":{"cost":"$0.0000"}}`, 200, false},
		{"application/json", `[1,2]`, 200, false},
		{"application/json", `null`, 200, false},
		{"application/json", `{"a":`, 200, false},
		{"text/html", `{"a":1}`, 200, false},
		{"application/octet-stream", "\x00\xff{}", 200, false},
		{"", "", 204, false},
		{"application/json", `{"error":"no"}`, 404, true},
		{"text/plain", `no`, 503, false},
	} {
		kind, answer, status = c.kind, c.answer, c.status
		method, path := http.MethodPut, "/services/any/a%2Fb/c?q=%20&x"
		req, err := http.NewRequestWithContext(l.Ctx, method, l.URL+path, strings.NewReader("\x00bytes"))
		l.no(err)
		for name, value := range map[string]string{
			"Authorization": "Bearer " + p.Key, "X-Session-Id": v["session"], "X-Agent-Wallet": "research-bot", "Cookie": "secret=1", "X-Own": "1",
			"Accept-Encoding": "identity",
		} {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		l.no(err)
		got, err := io.ReadAll(resp.Body)
		l.no(err)
		_ = resp.Body.Close()
		cost := cent
		if c.status >= 400 {
			cost = 0
		}
		remaining -= cost
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.kind || resp.Header.Get("Set-Cookie") != "" ||
			fmt.Sprint(resp.Header["Cache-Control"]) != "[no-store]" || resp.Header.Get("X-Request-Id") == "theirs" {
			t.Errorf("%q: %d %v", c.answer, resp.StatusCode, resp.Header)
		}
		if !c.merged {
			if string(got) != c.answer || resp.Header.Get("X-Indiegent-Cost") != cost.CostUSD() || resp.Header.Get("X-Indiegent-Session-Remaining") != remaining.RemainingUSD() {
				t.Errorf("%q: %q %v", c.answer, got, resp.Header)
			}
		} else {
			var merged struct {
				Receipt struct {
					Cost      string `json:"cost"`
					Remaining string `json:"session_remaining"`
				} `json:"_indiegent"`
			}
			l.no(json.Unmarshal(got, &merged))
			prefix := strings.TrimSuffix(strings.TrimSpace(c.answer), "}")
			if !strings.HasPrefix(string(got), prefix) || merged.Receipt.Cost != cost.CostUSD() || merged.Receipt.Remaining != remaining.RemainingUSD() {
				t.Errorf("%q: %s", c.answer, got)
			}
			if len(resp.Header["X-Indiegent-Cost"])+len(resp.Header["Etag"]) != 0 {
				t.Errorf("%q: %v", c.answer, resp.Header)
			}
		}
		if seen.Method != method || seen.URL.RequestURI() != "/a%2Fb/c?q=%20&x" || sent != "\x00bytes" {
			t.Errorf("%s %s %q", seen.Method, seen.URL.RequestURI(), sent)
		}
		if h := fmt.Sprint(seen.Header); strings.Contains(h, p.Key) || strings.Contains(h, "secret=1") || strings.Contains(h, "Agent-Wallet") || seen.Header.Get("X-Own") != "1" {
			t.Errorf("%s", h)
		}
	}
	l.Balanced()
}

// TestServiceByURL: /external/fetch bills a URL below the operator's service as /services does.
func TestServiceByURL(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("somebody@example.com")
	v := vars{"agent": l.agent(p, "Research Bot", 25*money.One)}
	l.session(p, v)
	l.catalogue("exa", pricing.Price{PerCall: cent}, exaAnswer)
	services, err := l.App.Services.List(l.Ctx, p.Principal, 0, 0)
	l.no(err)
	body := fmt.Sprintf(`{"url":"http://%s/search","method":"POST","body":{"query":"x"}}`, services[0].Host)
	for session, how := range map[string]string{v["session"]: "session", "": "metered"} {
		a := l.send("POST", "/external/fetch", body, "Authorization", "Bearer "+p.Key, "X-Session-Id", session)
		if a.Status != http.StatusOK || a.text("_indiegent", "payment_method") != how || a.text("_indiegent", "cost") != "$0.0100" || a.text("_indiegent", "service") != "exa" {
			t.Errorf("%s: %d %s", how, a.Status, a.Raw)
		}
	}
	l.Settle()
	a := l.as(p, "GET", "/transactions?limit=100", "")
	if !strings.Contains(string(a.Raw), `"status":"success"`) || strings.Contains(string(a.Raw), "the service's own key") {
		t.Errorf("%s", a.Raw)
	}
	l.Balanced()
}
