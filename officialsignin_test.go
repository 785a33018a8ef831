package main

import (
	"fmt"
	"strings"
	"testing"

	"bursar/money"
)

// TestOfficialSignIn: a wallet pays the official seller once, and signs in from then on where its policy lets it. From a session
// each call is paid, and so is each of a wallet that may not sign in.
func TestOfficialSignIn(t *testing.T) {
	o := startOfficial(t)
	agent := o.agentID()
	price := money.One / 100
	paid := money.USDC(0)
	call := func(name string, pays bool, header ...string) {
		t.Helper()
		out := o.must("POST", "/external/fetch", map[string]any{"url": o.V2 + "/member"}, append([]string{"X-Agent-Wallet", agent}, header...)...)
		cost := "$0.0000"
		if pays {
			paid, cost = paid+price, "$0.0100"
		}
		if text(out, "status") != "200" || text(out, "body", "member") != "true" || text(out, "_indiegent", "cost") != cost {
			t.Errorf("%s: %v", name, out)
		}
		if got := o.balance(o.payTo); got != paid {
			t.Errorf("%s: the seller has %s, not %s", name, got, paid)
		}
	}
	policy := func(signIn bool) {
		g := o.graphql(fmt.Sprintf(`mutation{updatePolicy(input:{agentId:"%s",signIn:%t}){signIn}}`, agent, signIn))
		if text(g, "data", "updatePolicy", "signIn") != fmt.Sprint(signIn) {
			t.Fatal(g)
		}
	}
	session := text(o.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 1.00}), "session", "id")
	call("from a session, without the policy", true, "X-Session-Id", session)
	policy(true)
	call("the wallet's first", true)
	call("the wallet's second", false)
	for range 2 {
		call("from a session", true, "X-Session-Id", session)
	}
	g := o.graphql(`mutation{fetch(input:{agent:"` + agent + `",url:"` + o.V2 + `/member"}){status paid paidBy cost loginTraceId}}`)
	id := text(g, "data", "fetch", "loginTraceId")
	if fmt.Sprint(at(g, "data", "fetch")) != "map[cost:0 loginTraceId:"+id+" paid:false paidBy:none status:200]" {
		t.Errorf("by GraphQL: %v", g)
	}
	g = o.graphql(`{trace(id:"` + id + `"){outcome reason amount endpoint login{traceId domain nonce message refused} transaction{id}}}`)
	host := strings.TrimPrefix(o.V2, "http://")
	if text(g, "data", "trace", "outcome") != "LOGIN" || text(g, "data", "trace", "reason") != "The service answered 200, and nothing was paid" ||
		text(g, "data", "trace", "login", "domain") != host || at(g, "data", "trace", "transaction") != nil ||
		!strings.HasPrefix(text(g, "data", "trace", "login", "message"), host+" wants you to sign in with your Ethereum account:\n0x") {
		t.Errorf("its trace: %v", g)
	}
	o.must("PUT", "/agents/"+agent+"/policy", map[string]any{"per_call_max": 50000})
	call("after a change of the policy by REST", false)
	policy(false)
	call("without the policy", true)
	o.audit()
}
