package core_test

import (
	"sync"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/approval"
	"bursar/money"
)

// TestAnswersChange: a no is taken back and a yes is, by who gave it or a manager, while it stands; each change is on record,
// and what was used is not undone.
func TestAnswersChange(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		member, stranger := colleague(w, p, "member@example.com"), colleague(w, p, "stranger@example.com")
		member.Role = core.Member
		stranger.OrgID = member.UserID
		viewer, key := member, p
		viewer.Role, key.Credential = core.Viewer, core.ByAPIKey
		id := asks(w, p, s.call(0, false))
		refused := func(who core.Principal, want core.Code) {
			t.Helper()
			if _, err := w.Core.Approvals.Change(w.Ctx, who, id, true, ""); code(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		change := func(who core.Principal, yes bool, want approval.Status) {
			t.Helper()
			a, err := w.Core.Approvals.Change(w.Ctx, who, id, yes, "on second thought")
			if err != nil || a.Status != want || *a.DecidedBy != who.UserID || a.DecisionReason != "on second thought" {
				t.Fatalf("%+v %v", a, err)
			}
		}
		refused(p, core.Conflict) // nobody has answered
		_, err := w.Core.Approvals.Deny(w.Ctx, p, id, "")
		must(w, err)
		refused(member, core.Forbidden)
		refused(viewer, core.Forbidden)
		refused(key, core.Forbidden)
		refused(stranger, core.NotFound)
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(0, false)); code(err) != core.Forbidden {
			t.Error(err)
		}
		change(p, true, approval.StatusApproved)
		change(p, false, approval.StatusDenied)
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(0, false)); code(err) != core.Forbidden || s.paid() != 0 {
			t.Errorf("%v, %d paid", err, s.paid())
		}
		change(p, true, approval.StatusApproved)
		w.Clock.Ahead(50 * time.Minute)
		if a, err := w.Core.Approvals.Change(w.Ctx, p, id, true, "again"); err != nil || a.DecisionReason == "again" {
			t.Errorf("the same answer once more: %+v %v", a, err)
		}
		fetch(w, p, s.call(0, false))
		refused(p, core.Conflict)
		// A member changes what he has answered himself.
		id = asks(w, p, s.call(0, false))
		_, err = w.Core.Approvals.Deny(w.Ctx, member, id, "")
		must(w, err)
		change(member, true, approval.StatusApproved)
		change(p, false, approval.StatusDenied)
		refused(member, core.Forbidden)
		w.Clock.Ahead(61 * time.Minute)
		refused(p, core.Conflict)
		if n := count(t, raw(t, w), "audit_logs WHERE action LIKE 'approval.changed.%'"); n != 5 {
			t.Errorf("%d changes are on record", n)
		}
	})
}

// TestAnswerChangesWhileItIsUsed: of a payment by a yes and its taking back, one comes first: what is denied was not paid.
func TestAnswerChangesWhileItIsUsed(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		for range 5 {
			paid, id := s.paid(), asks(w, p, s.call(0, false))
			approve(w, p, id)
			var both sync.WaitGroup
			both.Go(func() { _, _ = w.Core.Payments.Fetch(w.Ctx, p, s.call(0, false)) })
			both.Go(func() { _, _ = w.Core.Approvals.Change(w.Ctx, p, id, false, "") })
			both.Wait()
			got := approvalOf(w, p, id)
			if used := s.paid() > paid; used != (got.Status == approval.StatusUsed) || (!used && got.Status != approval.StatusDenied) {
				t.Errorf("%s, paid: %v", got.Status, used)
			}
			if got.Status == approval.StatusDenied {
				_, err := w.Core.Approvals.Change(w.Ctx, p, id, true, "")
				must(w, err)
				fetch(w, p, s.call(0, false))
			}
		}
		w.Balanced()
	})
}

// TestProgramsDoNotLiftCaution: a program may set an agent's limits, as the published routes let it, but not what needs a
// person's yes.
func TestProgramsDoNotLiftCaution(t *testing.T) {
	w := coretest.New(t)
	p, a, s := yes(w)
	key, err := w.Core.APIKeys.Create(w.Ctx, p, "program")
	must(w, err)
	program, _, err := w.Core.Auth.Authenticate(w.Ctx, core.Credentials{APIKey: key.Secret})
	must(w, err)
	percent := int64(1000)
	for name, in := range map[string]core.PolicyInput{
		"approveAbove": {ApproveAbove: core.Optional[money.USDC]{Set: true}}, "newPayee": {NewPayee: reaction(core.NoteIt)},
		"changedPayee": {ChangedPayee: reaction(core.NoteIt)}, "priceJump": {PriceJump: reaction(core.NoteIt)}, "priceJumpPercent": {PriceJumpPercent: &percent},
	} {
		if _, err := w.Core.Policies.Update(w.Ctx, program, a.ID, in); code(err) != core.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Core.Policies.Update(w.Ctx, program, a.ID, core.PolicyInput{DailyLimit: core.Set(money.One)}); err != nil {
		t.Error(err)
	}
	asks(w, program, s.call(0, false))
}
