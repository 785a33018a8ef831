package agnic_test

import (
	"net/http"
	"strings"
	"testing"

	"bursar/core"
	"bursar/ent/apikey"
	"bursar/money"
	"bursar/rest"
	"bursar/rest/agnic"
	"bursar/rest/golden"
)

// scene is what a published example takes for granted. Without one, a user without money will do.
type scene struct {
	funds money.USDC
	token core.TokenInput
	first func(l *lab, p *person) // what happened before
}

func dollars(n money.USDC) *money.USDC { n *= money.One; return &n }

func half() *money.USDC { n := money.One / 2; return &n }

var scenes = map[string]scene{
	"fetch":                     {funds: money.One},
	"fetch-payment-exceeds-max": {funds: money.One},
	"fetch-network-not-allowed": {funds: money.One, token: core.TokenInput{Networks: []string{"base"}}},
	"fetch-approval-required":   {funds: money.One, first: cautious},
	"sign-payment":              {funds: money.One},
	"balance":                   {funds: 50 * money.One},
	"balance-bearer":            {funds: 50 * money.One},
	"balance-other-network":     {funds: 50 * money.One},
	"transactions":              {funds: money.One, first: func(l *lab, p *person) { l.buy(p, "/data"); l.Settle() }},
	"fetch-spending-limit-exceeded": {
		funds: 20 * money.One, token: core.TokenInput{DailyLimit: dollars(10)},
		first: func(l *lab, p *person) { l.buy(p, "/v2/serve%3Fprice=9500000") },
	},
	"revoke-token": {},
	"tokens": {token: core.TokenInput{
		Label: "n8n", MaxPerTransaction: half(), DailyLimit: dollars(10), Networks: []string{"base-sepolia"},
	}},
}

// buy pays https://api.example.com once.
func (l *lab) buy(p *person, path string, header ...string) *reply {
	l.t.Helper()
	a := l.send("POST", "/api/x402/fetch?url=https://api.example.com"+path, "", append([]string{"X-Agnic-Token", p.token}, header...)...)
	if a.status != http.StatusOK || a.header.Get("X-Agnic-Paid") != "true" {
		l.t.Fatalf("%d %s", a.status, a.body)
	}
	return a
}

func TestGolden(t *testing.T) {
	l := newLab(t, rest.Options{})
	anybody := l.person("anybody@example.com", 0, core.TokenInput{})
	seen := map[string]bool{}
	for _, c := range golden.Load(t, "testdata/*.http") {
		seen[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			p := anybody
			if s, ok := scenes[c.Name]; ok {
				p = l.person(c.Name+"@example.com", s.funds, s.token)
				if s.first != nil {
					s.first(l, p)
				}
			}
			vars := map[string]string{
				"token": p.token, "login": p.login, "user": p.UserID.String(), "spec": strings.TrimSuffix(string(agnic.Spec), "\n"), "token_id": l.tokenID(p),
			}
			w := c.Run(t, l.door, vars)
			l.holds(c.Request(t, vars), w.Code, w.Header(), w.Body.Bytes())
		})
	}
	for name := range scenes {
		if !seen[name] {
			t.Errorf("a scene without a golden file: %s", name)
		}
	}
	l.Balanced()
}

func (l *lab) tokenID(p *person) string {
	l.t.Helper()
	keys, err := l.app.APIKeys.List(l.Ctx, p.Principal, apikey.KindAgnicToken)
	l.no(err)
	return keys[0].ID.String()
}

// TestRoutes: every route of the contract has a golden file of success and is mounted; unknown callers are told so.
func TestRoutes(t *testing.T) {
	l := newLab(t, rest.Options{})
	documented := map[string]bool{}
	for _, c := range golden.Load(t, "testdata/*.http") {
		documented[c.Method+" "+c.Path] = true
	}
	for path, item := range document(t).Paths.Map() {
		for method, op := range item.Operations() {
			if !documented[method+" "+path] {
				t.Errorf("%s %s has no golden file", method, path)
			}
			a := l.send(method, path, "")
			public := op.Security != nil && len(*op.Security) == 0
			if public && a.status != http.StatusOK {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			}
			if !public {
				l.refused(a, http.StatusUnauthorized, "unauthorized", "")
			}
		}
	}
}
