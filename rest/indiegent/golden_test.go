package indiegent_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/pricing"
	"bursar/money"
	"bursar/rest"
	"bursar/rest/golden"
)

func init() {
	for name, pattern := range map[string]string{
		"jwt": `[\w-]+\.[\w-]+\.[\w-]+`, "key": `ig_(live|test)_[0-9a-f]{64}`, "prefix": `ig_(live|test)_[0-9a-f]{4}`,
		"privatekey": `0x[0-9a-f]{64}`, "gatewaykey": `ig_gw_[0-9a-f]{64}`, "wei": `[1-9][0-9]*`,
	} {
		golden.Kinds[name] = pattern
	}
}

// vars fill in a golden request.
type vars map[string]string

// scenes prepare what the published request takes for granted, beyond a user with a funded agent.
var scenes = map[string]func(l *lab, p *person, v vars){
	"agents-list": func(l *lab, p *person, v vars) { l.documented(p, v) },
	"agent-get":   func(l *lab, p *person, v vars) { l.documented(p, v) },
	"agent-update": func(l *lab, p *person, v vars) {
		l.documented(p, v)
	},
	"agent-delete": func(l *lab, p *person, _ vars) { l.wallet(p) },
	"agent-drain":  func(l *lab, p *person, _ vars) { l.wallet(p) },
	"agents-create": func(l *lab, p *person, v vars) {
		l.must(p, "PUT", "/agents/"+v["agent"], `{"name":"Another Bot"}`)
	},
	"policy-get": func(l *lab, p *person, v vars) {
		l.must(p, "PUT", "/agents/"+v["agent"]+"/policy", `{"spending_cap":50000000,"daily_limit":10000000,"per_call_max":1000000,"allowed_services":["exa","openai","anthropic"]}`)
	},
	"agent-fund": func(l *lab, p *person, v vars) {
		made := l.must(p, "POST", "/agents", `{"name":"Fresh Bot"}`)
		v["agent"] = made.text("id")
		v["tx_hash"] = l.fund(made.text("wallet_address"), 25*money.One)
	},
	"agent-transactions": func(l *lab, p *person, _ vars) { l.gasArrived(p) },
	"transactions":       func(l *lab, p *person, _ vars) { l.gasArrived(p) },
	"sessions-list":      (*lab).session,
	"session-get":        (*lab).session,
	"session-close": func(l *lab, p *person, v vars) {
		l.session(p, v)
		for range 50 {
			l.exaCall(p, v)
		}
	},
	"external-fetch": (*lab).session,
	"services-call": func(l *lab, p *person, v vars) {
		l.session(p, v)
		l.catalogue("exa", pricing.Price{PerCall: cent}, exaAnswer)
	},
	"gateway-verify": (*lab).gatewayPaid,
	"gateway-verify-again": func(l *lab, p *person, v vars) {
		l.gatewayPaid(p, v)
		l.must(p, "POST", "/gateway/verify", `{"gateway_key":"`+v["gateway_key"]+`","tx_hash":"`+v["tx_hash"]+`","expected_amount":"0.01"}`)
	},
	"gateway-stats": func(l *lab, p *person, v vars) {
		l.gateway(p, v)
		call := func(session string) {
			a := l.send("POST", "/services/my-weather-api/search", `{}`, "Authorization", "Bearer "+p.Key, "X-Session-Id", session)
			if a.Status != http.StatusOK {
				l.t.Fatalf("%d %s", a.Status, a.Raw)
			}
		}
		call("")
		l.Settle()
		l.session(p, v)
		call(v["session"])
	},
	"services-call-onchain": func(l *lab, _ *person, _ vars) { l.catalogue("exa", pricing.Price{PerCall: cent}, exaAnswer) },
	"api-keys-delete": func(l *lab, p *person, v vars) {
		v["api_key_id"] = l.must(p, "POST", "/api-keys", `{"name":"old"}`).text("id")
	},
	"departments-list": func(l *lab, p *person, _ vars) {
		l.must(p, "POST", "/departments", `{"name":"Engineering","budget_limit":500000000}`)
	},
	"external-fetch-202": func(l *lab, p *person, v vars) {
		approve := core.ApproveIt
		_, err := l.App.Policies.Update(l.Ctx, p.Principal, uuid.MustParse(v["agent"]), core.PolicyInput{
			NewPayee: &approve, ApproveAbove: core.Set(money.USDC(0)),
		})
		l.no(err)
	},
	"external-fetch-402": func(l *lab, p *person, v vars) { v["poor"] = l.agent(p, "Poor Bot", 0) },
	"balance": func(l *lab, p *person, _ vars) {
		l.agent(p, "Sales Bot", 100*money.One)
		l.agent(p, "Support Bot", 45*money.One+20*cent)
	},
	"external-fetch-direct": func(l *lab, _ *person, v vars) {
		v["free"] = l.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"data": true}`))
		}))
		v["free_host"] = strings.TrimPrefix(v["free"], "http://")
	},
	"auth-login": func(l *lab, _ *person, _ vars) {
		_, err := l.App.Auth.Register(l.Ctx, core.PasswordInput{Email: "dev@example.com", Password: "secure-password-here"})
		l.no(err)
	},
}

// documented gives the agent the settings of the published example.
func (l *lab) documented(p *person, v vars) {
	l.must(p, "PUT", "/agents/"+v["agent"], `{"spending_cap":50000000,"auto_topup_threshold":5000000,"auto_topup_amount":20000000}`)
}

// gasArrived waits until the gas grant of the first funding is final.
func (l *lab) gasArrived(p *person) {
	l.t.Helper()
	for range 100 {
		l.Settle()
		if a := l.must(p, "GET", "/transactions", ""); !strings.Contains(string(a.Raw), `"pending"`) {
			return
		}
	}
	l.t.Fatal("the gas grant stays pending")
}

func (l *lab) session(p *person, v vars) {
	v["session"] = l.must(p, "POST", "/sessions", `{"agent_wallet_id":"`+v["agent"]+`","deposit_amount":5.00,"duration":3600}`).text("session", "id")
}

// gateway registers a business.
func (l *lab) gateway(p *person, v vars) {
	url := l.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte(`{"sky":"clear"}`))
	}))
	v["gateway_key"] = l.must(p, "POST", "/gateway/register",
		`{"name":"My Weather API","wallet_address":"`+owner+`","price_per_request":0.005,"webhook_url":"`+url+`"}`).text("gateway_key")
}

// gatewayPaid pays it half a dollar on chain.
func (l *lab) gatewayPaid(p *person, v vars) {
	l.gateway(p, v)
	v["tx_hash"] = l.fund(owner, money.One/2)
	r, err := l.Net.Client.Receipt(l.Ctx, common.HexToHash(v["tx_hash"]))
	l.no(err)
	v["block"] = fmt.Sprint(r.Block)
}

// exaCall pays the published example's service once, from the session if there is one.
func (l *lab) exaCall(p *person, v vars) *answer {
	l.t.Helper()
	a := l.send("POST", "/external/fetch", `{"url":"https://api.exa.ai/search","method":"POST","body":{"query":"x"}}`,
		"Authorization", "Bearer "+p.Key, "X-Agent-Wallet", v["agent"], "X-Session-Id", v["session"])
	if a.Status != http.StatusOK || a.at("status") != json.Number("200") {
		l.t.Fatalf("exa: %d %s", a.Status, a.Raw)
	}
	return a
}

// TestGolden plays every published example, each in a world of its own.
func TestGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range golden.Load(t, "testdata/*.http") {
		seen[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, rest.Options{})
			p := l.person("somebody@example.com")
			v := vars{"jwt": p.Token, "key": p.Key, "agent": l.agent(p, "Research Bot", 25*money.One), "unknown": nowhere}
			if scene := scenes[c.Name]; scene != nil {
				scene(l, p, v)
			}
			w := c.Run(t, l.door, v)
			hold(t, l.spec, c.Method, c.Path, w.Code, decode(t, w.Body.Bytes()))
			if t.Failed() {
				t.Logf("%s", w.Body)
			}
			l.Balanced()
		})
	}
	for name := range scenes {
		if !seen[name] {
			t.Errorf("a scene without a golden file: %s", name)
		}
	}
}

// TestRoutes: every route of the contract has a golden file and is mounted; unknown callers are told so.
func TestRoutes(t *testing.T) {
	l := newLab(t, rest.Options{})
	documented := map[string]bool{}
	for _, c := range golden.Load(t, "testdata/*.http") {
		name, op := operation(l.spec, c.Method, c.Path)
		if op == nil {
			t.Errorf("%s: %s %s is not in the contract", c.Name, c.Method, c.Path)
		}
		documented[name] = true
	}
	for path, item := range l.spec.Paths.Map() {
		for method, op := range item.Operations() {
			if !documented[method+" "+path] {
				t.Errorf("%s %s has no golden file", method, path)
			}
			want := http.StatusUnauthorized
			if op.Security != nil && len(*op.Security) == 0 {
				want = http.StatusBadRequest
			}
			if a := l.send(method, path, `[]`); a.Status != want {
				t.Errorf("%s %s: %d %s", method, path, a.Status, a.Raw)
			}
		}
	}
}
