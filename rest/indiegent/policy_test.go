package indiegent_test

import (
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

// TestPolicyKeepsWhatItDoesNotKnow: published clients read a policy and write it back, and know nothing of payees, prices and
// approvals: what a person has set there stays.
func TestPolicyKeepsWhatItDoesNotKnow(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("somebody@example.com")
	agent := l.agent(p, "Research Bot", money.One)
	approve, refuse, percent := core.ApproveIt, core.RefuseIt, int64(130)
	id := uuid.MustParse(agent)
	before, err := l.App.Policies.Update(l.Ctx, p.Principal, id, core.PolicyInput{
		NewPayee: &approve, ChangedPayee: &refuse, PriceJump: &approve, PriceJumpPercent: &percent, ApproveAbove: core.Set(cent),
	})
	l.no(err)
	read := l.must(p, "GET", "/agents/"+agent+"/policy", "")
	for _, c := range []struct{ path, body string }{
		{"/policy", `{}`},
		{"/policy", string(read.Raw)},
		{"/policy", `{"spending_cap":5,"daily_limit":4,"monthly_limit":null,"per_call_max":3,"allowed_services":["exa"],"blocked_services":[],"require_session":true}`},
		{"/policy", `{"new_payee":"note","changed_payee":null,"price_jump":"note","price_jump_percent":1000,"approve_above":null}`},
		{"", `{"name":"Other","spending_cap":null}`},
	} {
		l.must(p, "PUT", "/agents/"+agent+c.path, c.body)
		after, err := l.App.Policies.Get(l.Ctx, p.Principal, id)
		l.no(err)
		if after.NewPayee != before.NewPayee || after.ChangedPayee != before.ChangedPayee || after.PriceJump != before.PriceJump ||
			after.PriceJumpPercent != before.PriceJumpPercent || after.ApproveAbove == nil || *after.ApproveAbove != cent {
			t.Errorf("%s %s: %+v", c.path, c.body, after)
		}
	}
}
