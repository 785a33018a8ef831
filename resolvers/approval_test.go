package resolvers_test

import (
	"net/http"
	"testing"

	"bursar/money"
	"bursar/pay/paytest"
)

const approvalFields = `id agentId host payee network asset ceiling rule reason status expiresAt decidedAt decidedBy decisionReason paymentId
	trace { id outcome code approvalId rules { rule ok } }`

// TestApprovals: a call that needs a person's yes is an error with the request's id; people see it, decide it, and hear of
// it; the same call is paid then. Others see nothing, and a program does not decide.
func TestApprovals(t *testing.T) {
	d := open(t)
	me, other := d.user("dev@example.com"), d.user("other@example.com")
	id := d.agent(me, "bot", money.One)
	a := d.do(me, `mutation($id: ID!) { updatePolicy(input: {agentId: $id, newPayee: APPROVE, changedPayee: REFUSE, priceJumpPercent: 200, approveAbove: "5000"})
		{ newPayee changedPayee priceJump priceJumpPercent approveAbove version } }`, map[string]any{"id": id})
	if a.str("updatePolicy.newPayee") != "APPROVE" || a.str("updatePolicy.changedPayee") != "REFUSE" || a.str("updatePolicy.priceJump") != "NOTE" ||
		a.at("updatePolicy.priceJumpPercent").(float64) != 200 || a.str("updatePolicy.approveAbove") != "5000" || a.at("updatePolicy.version").(float64) != 2 {
		t.Error(a.text)
	}
	in := map[string]any{"in": map[string]any{"url": d.Seller(cent).Link(2, paytest.Serve, 0)}}
	call := func() string {
		t.Helper()
		refused := d.ask(me, fetch, in)
		refused.refused("APPROVAL_REQUIRED")
		approval, _ := refused.Errors[0].Extensions["approvalId"].(string)
		return approval
	}
	first := call()
	requested, changed, theirs := d.live(me), d.live(me), d.live(other)
	requested.subscribe("1", `subscription($id: ID) { approvalRequested(agentId: $id) { id status } }`, map[string]any{"id": id})
	changed.subscribe("1", `subscription { approvalChanged { id status } }`, nil)
	theirs.subscribe("1", `subscription { approvalChanged { id status } }`, nil)
	heard := func(s *socket, field, id, status string) {
		t.Helper()
		if v := s.event(field).(map[string]any); v["id"] != id || v["status"] != status {
			t.Errorf("%s: %v, want %s %s", field, v, id, status)
		}
	}
	heard(requested, "approvalRequested", first, "PENDING")
	heard(changed, "approvalChanged", first, "PENDING")

	a = d.do(me, `{ approvals(filter: {status: PENDING}) { total items { `+approvalFields+` } } }`, nil)
	if a.at("approvals.total").(float64) != 1 || a.str("approvals.items.0.ceiling") != "10000" || a.str("approvals.items.0.rule") != "new_payee,approve_above" ||
		a.str("approvals.items.0.trace.outcome") != "HELD" || a.str("approvals.items.0.trace.approvalId") != first || a.at("approvals.items.0.decidedBy") != nil {
		t.Error(a.text)
	}
	yes, no := `mutation($id: ID!) { approve(input: {approvalId: $id}) { status decidedBy } }`, `mutation($id: ID!) { deny(input: {approvalId: $id, reason: "too dear"}) { status decisionReason } }`
	one := map[string]any{"id": first}
	d.ask(other, yes, one).refused("NOT_FOUND")
	d.ask(other, `query($id: ID!) { approval(id: $id) { id } }`, one).refused("NOT_FOUND")
	program := http.Header{"X-Api-Key": {d.do(me, `mutation { createApiKey(input: {name: "k"}) { secret } }`, nil).str("createApiKey.secret")}}
	d.ask(program, yes, one).refused("FORBIDDEN")
	if a = d.do(me, yes, one); a.str("approve.status") != "APPROVED" || a.at("approve.decidedBy") == nil {
		t.Error(a.text)
	}
	heard(changed, "approvalChanged", first, "APPROVED")
	d.ask(me, no, one).refused("CONFLICT")
	in["in"].(map[string]any)["approvalId"] = first
	payment := d.do(me, fetch, in).str("fetch.transaction.id")
	heard(changed, "approvalChanged", first, "USED")
	if a = d.do(me, `query($id: ID!) { approval(id: $id) { status paymentId } }`, one); a.str("approval.status") != "USED" || a.str("approval.paymentId") != payment {
		t.Error(a.text)
	}
	delete(in["in"].(map[string]any), "approvalId")
	second := call()
	heard(requested, "approvalRequested", second, "PENDING")
	heard(changed, "approvalChanged", second, "PENDING")
	if a = d.do(me, no, map[string]any{"id": second}); a.str("deny.status") != "DENIED" || a.str("deny.decisionReason") != "too dear" {
		t.Error(a.text)
	}
	d.ask(me, fetch, in).refused("FORBIDDEN")
	heard(changed, "approvalChanged", second, "DENIED")
	change := `mutation($id: ID!, $yes: Boolean!) { changeDecision(input: {approvalId: $id, approve: $yes, reason: "after all"}) { status decisionReason } }`
	for _, yes := range []bool{true, false} {
		v := map[string]any{"id": second, "yes": yes}
		d.ask(program, change, v).refused("FORBIDDEN")
		d.ask(other, change, v).refused("NOT_FOUND")
		status := map[bool]string{true: "APPROVED", false: "DENIED"}[yes]
		if a = d.do(me, change, v); a.str("changeDecision.status") != status || a.str("changeDecision.decisionReason") != "after all" {
			t.Error(a.text)
		}
		heard(changed, "approvalChanged", second, status)
	}
	in["in"].(map[string]any)["approvalWaitSeconds"] = -1
	d.ask(me, fetch, in).refused("INVALID_REQUEST")
	if a = d.do(me, `query($a: ID!) { traces(filter: {outcome: HELD}) { total } policyReplay(input: {agentId: $a, newPayee: NOTE, approveAbove: null}) { calls held freed refused } }`,
		map[string]any{"a": id}); a.at("traces.total").(float64) != 2 || a.at("policyReplay.held").(float64) != 0 || a.at("policyReplay.freed").(float64) != 2 {
		t.Error(a.text)
	}
	theirs.quiet()
}
