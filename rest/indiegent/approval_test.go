package indiegent_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

// TestApproval: a call that waits for a person is 202; sent again with the id, in the body or the header, or without, it is
// paid when there is a yes, once; a no is 403.
func TestApproval(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := uuid.MustParse(l.agent(p, "Research Bot", money.One))
	_, err := l.App.Policies.Update(l.Ctx, p.Principal, agent, core.PolicyInput{ApproveAbove: core.Set(money.USDC(0))})
	l.no(err)
	const call = `{"url":"https://api.exa.ai/search","method":"POST"`
	asked := func(a *answer) uuid.UUID {
		t.Helper()
		if a.Status != http.StatusAccepted || a.text("status") != "approval_required" || a.text("approval", "id") != a.text("approval_id") {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		return uuid.MustParse(a.text("approval_id"))
	}
	for i, again := range []func(id string) *answer{
		func(id string) *answer { return l.fetch(p, call+`,"approval_id":"`+id+`"}`) },
		func(id string) *answer { return l.fetch(p, call+`}`, "X-Approval-Id", id) },
		func(string) *answer { return l.fetch(p, call+`}`) },
	} {
		id := asked(l.fetch(p, call+`}`))
		if asked(again(id.String())) != id {
			t.Error("the same call asks twice")
		}
		_, err := l.App.Approvals.Approve(l.Ctx, p.Principal, id)
		l.no(err)
		if a := again(id.String()); a.Status != http.StatusOK || a.text("_indiegent", "cost") != "$0.0100" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if n := len(l.Seller.Seen()); n != i+1 {
			t.Errorf("%d proofs after %d approvals", n, i+1)
		}
	}
	id := asked(l.fetch(p, call+`}`))
	_, err = l.App.Approvals.Deny(l.Ctx, p.Principal, id, "too dear")
	l.no(err)
	if a := l.fetch(p, call+`}`); a.Status != http.StatusForbidden || a.text("error") != "A person has said no to this payment: too dear" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	for _, bad := range []string{`"approval_id":"x"`, `"approval_wait":-1`, `"approval_wait":1.5`, `"approval_wait":"5"`} {
		if a := l.fetch(p, call+`,`+bad+`}`); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, a.Status, a.Raw)
		}
	}
	l.Settle()
	l.Balanced()
}
