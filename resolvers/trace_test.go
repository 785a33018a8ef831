package resolvers_test

import (
	"testing"

	"bursar/money"
	"bursar/pay/paytest"
)

const traceFields = `id outcome code reason amount method service endpoint policyVersion digest holdId chosen notes
	offers { protocol scheme network asset payTo amount refused } rules { rule current requested max ok }`

// TestTraces: a payment's trace hangs on its record, a refusal's on its error; both are in the list, and a draft is
// tried on them.
func TestTraces(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	s := d.Seller(cent)
	id := d.agent(me, "bot", money.One)
	in := map[string]any{"url": s.Link(2, paytest.Serve, 0), "dryRun": true}
	a := d.do(me, `mutation($in: FetchInput!) { fetch(input: $in) { paid verdict { allowed price code rules { rule ok } offers { payTo } notes } } }`, map[string]any{"in": in})
	if a.at("fetch.paid") != false || a.at("fetch.verdict.allowed") != true || a.str("fetch.verdict.price") != "10000" {
		t.Error(a.text)
	}
	in["dryRun"] = false
	a = d.do(me, `mutation($in: FetchInput!) { fetch(input: $in) { verdict { allowed } transaction { id receipt trace { `+traceFields+` transaction { id } } } } }`, map[string]any{"in": in})
	payment := a.str("fetch.transaction.id")
	if a.at("fetch.verdict") != nil || a.str("fetch.transaction.trace.id") != payment || a.str("fetch.transaction.trace.transaction.id") != payment ||
		a.str("fetch.transaction.trace.outcome") != "ALLOWED" || a.str("fetch.transaction.trace.offers.0.amount") != "10000" {
		t.Error(a.text)
	}
	in["maxCost"] = "1"
	refused := d.ask(me, fetch, map[string]any{"in": in})
	refused.refused("COST_EXCEEDS_MAX")
	trace, _ := refused.Errors[0].Extensions["traceId"].(string)
	a = d.do(me, `query($id: ID!) { trace(id: $id) { `+traceFields+` transaction { id } } }`, map[string]any{"id": trace})
	if a.str("trace.code") != "cost_exceeds_max" || a.at("trace.transaction") != nil || a.at("trace.digest") != nil {
		t.Error(a.text)
	}
	a = d.do(me, `query($a: ID!) { traces(filter: {agentId: $a}) { total items { id } } refused: traces(filter: {outcome: REFUSED}) { total }
		policyReplay(input: {agentId: $a, days: 7, perCallMax: "1"}) { calls refused saved freed differences { rule reason trace { id } } } }`, map[string]any{"a": id})
	if a.at("traces.total").(float64) != 2 || a.at("refused.total").(float64) != 1 || a.at("policyReplay.refused").(float64) != 1 ||
		a.str("policyReplay.saved") != "10000" || a.str("policyReplay.differences.0.rule") != "per_call_max" || a.str("policyReplay.differences.0.trace.id") != payment {
		t.Error(a.text)
	}
	d.ask(d.user("other@example.com"), `query($id: ID!) { trace(id: $id) { id } }`, map[string]any{"id": payment}).refused("NOT_FOUND")
}
