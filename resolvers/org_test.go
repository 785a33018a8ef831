package resolvers_test

import (
	"testing"
	"time"

	"bursar/money"
	"bursar/pay/paytest"
)

// TestOrganisation: limits, the proof of the books, past balances and gas, as a client sees them.
func TestOrganisation(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	s := d.Seller(cent)
	id := d.agent(me, "bot", 5*money.One)
	funded := d.Clock.Now().UTC().Format(time.RFC3339Nano)
	session := d.do(me, openSession, map[string]any{"in": map[string]any{"agentId": id, "deposit": "2000000", "durationSeconds": 600}}).str("openSession.id")
	in := map[string]any{"agent": id, "sessionId": session, "url": s.Link(2, paytest.Serve, 0)}
	d.do(me, fetch, map[string]any{"in": in})

	const limits = `mutation($in: UpdateOrgLimitsInput!) { updateOrgLimits(input: $in) { id dailyLimit monthlyLimit spendingCap version spentToday spentThisMonth spentTotal } }`
	a := d.do(me, limits, map[string]any{"in": map[string]any{"dailyLimit": "15000", "spendingCap": "1000000"}})
	if a.str("updateOrgLimits.dailyLimit") != "15000" || a.at("updateOrgLimits.monthlyLimit") != nil || a.at("updateOrgLimits.version") != 2.0 || a.str("updateOrgLimits.spentToday") != "10000" {
		t.Error(a.text)
	}
	a = d.ask(me, fetch, map[string]any{"in": in})
	a.refused("SPENDING_LIMIT")
	if limit, _ := a.Errors[0].Extensions["limit"].(map[string]any); limit["rule"] != "org_daily" || limit["current"] != "10000" {
		t.Error(a.text)
	}
	d.do(me, limits, map[string]any{"in": map[string]any{"dailyLimit": nil}})
	d.do(me, fetch, map[string]any{"in": in})
	a = d.do(me, `{ org { dailyLimit spendingCap spentTotal } me { org { id name version } } }`, nil)
	if a.at("org.dailyLimit") != nil || a.str("org.spendingCap") != "1000000" || a.str("org.spentTotal") != "20000" || a.at("me.org.version") != 3.0 {
		t.Error(a.text)
	}

	d.Settle()
	if err := d.Core.Operations.NoteFees(d.Ctx); err != nil {
		t.Fatal(err)
	}
	now := d.Clock.Now().UTC().Format(time.RFC3339Nano)
	a = d.do(me, `query($agent: ID!, $session: ID!, $then: DateTime!, $now: DateTime!) {
		agent(id: $agent) { then: balanceAt(at: $then) { at posted pending available } now: balanceAt(at: $now) { posted } }
		session(id: $session) { then: balanceAt(at: $then) { posted } now: balanceAt(at: $now) { posted available } }
	}`, map[string]any{"agent": id, "session": session, "then": funded, "now": now})
	if a.str("agent.then.posted") != "5000000" || a.str("agent.now.posted") != "3000000" || a.str("session.then.posted") != "0" || a.str("session.now.available") != "1980000" {
		t.Error(a.text)
	}
	d.ask(me, `query($id: ID!) { agent(id: $id) { balanceAt(at: "2999-01-01T00:00:00Z") { posted } } }`, map[string]any{"id": id}).refused("INVALID_REQUEST")

	a = d.do(me, `{ audit { balanced block accounts transfers differences } transactions { items { kind gasFee } } }`, nil)
	if a.at("audit.balanced") != true || a.at("audit.accounts") != 3.0 || len(a.at("audit.differences").([]any)) != 0 {
		t.Error(a.text)
	}
	for _, item := range a.at("transactions.items").([]any) {
		kind, _ := at(t, item, "kind").(string)
		if carried := kind == "DEPOSIT" || kind == "GAS_SPONSOR"; carried != (at(t, item, "gasFee") != nil) {
			t.Errorf("%v", item)
		}
	}
	d.ask(nil, `{ audit { balanced } }`, nil).refused("UNAUTHORIZED")
}
