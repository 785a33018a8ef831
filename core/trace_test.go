package core_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/trace"
	"bursar/money"
	"bursar/pay/paytest"
)

func rule(v core.TraceDetail, name string) *core.TracedRule {
	i := slices.IndexFunc(v.Rules, func(r core.TracedRule) bool { return r.Rule == name })
	if i < 0 {
		return nil
	}
	return &v.Rules[i]
}

// keptTrace is the one that an error names.
func keptTrace(t *testing.T, w *coretest.World, p core.Principal, e *core.Error) *core.TraceView {
	t.Helper()
	id, err := uuid.Parse(e.Trace)
	if err != nil {
		t.Fatalf("%v names no trace", e)
	}
	v, err := w.Core.Traces.Get(w.Ctx, p, id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTraces: a payment keeps what was offered and compared, with the figures before it; a refusal too, and its error
// names the trace. What is another's is not found.
func TestTraces(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		stranger, _ := w.User("other@example.com")
		a := w.Agent(p, "bot", 5*money.One)
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{DailyLimit: core.Set(5 * cent), BlockedServices: &[]string{"blocked.example"}}); err != nil {
			t.Fatal(err)
		}
		s := w.Seller(2 * cent)
		call := core.FetchInput{Agent: "bot", URL: s.Link(2, paytest.Serve, 0)}
		for i := range 2 {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, call)
			if err != nil {
				t.Fatal(err)
			}
			v, err := w.Core.Traces.Get(w.Ctx, p, r.Payment.ID)
			if err != nil || v.Outcome != trace.OutcomeAllowed || v.Amount != 2*cent || *v.Chosen != 0 || v.Offers[0].PayTo != s.PayTo.Hex() || v.PolicyVersion != 2 {
				t.Fatalf("%+v %v", v, err)
			}
			daily, balance := rule(v.TraceDetail, "daily"), rule(v.TraceDetail, "balance")
			if daily == nil || *daily != (core.TracedRule{Rule: "daily", Current: money.USDC(i) * 2 * cent, Requested: 2 * cent, Max: 5 * cent, OK: true}) {
				t.Errorf("call %d compared %+v", i, daily)
			}
			if balance == nil || balance.Max != 5*money.One-money.USDC(i)*2*cent || !balance.OK {
				t.Errorf("call %d compared %+v", i, balance)
			}
			if *v.HoldID != *r.Payment.HoldID || len(v.Digest) != 66 {
				t.Errorf("hold %v, digest %q", v.HoldID, v.Digest)
			}
			if _, err := w.Core.Traces.Get(w.Ctx, stranger, v.ID); code(err) != core.NotFound {
				t.Errorf("a stranger reads it: %v", err)
			}
		}
		_, err := w.Core.Payments.Fetch(w.Ctx, p, call)
		refused := core.AsError(err)
		v := keptTrace(t, w, p, refused)
		if refused.Code != core.SpendingLimit || v.Outcome != trace.OutcomeRefused || v.Code != "spending_limit" || v.Amount != 2*cent {
			t.Errorf("%v %+v", err, v)
		}
		if daily := rule(v.TraceDetail, "daily"); daily == nil || daily.OK || daily.Current != 4*cent {
			t.Errorf("compared %+v", daily)
		}
		most := money.USDC(1)
		for _, c := range []struct {
			in   core.FetchInput
			code core.Code
			rule string
		}{
			{core.FetchInput{Agent: "bot", URL: call.URL, MaxCost: &most}, core.CostExceedsMax, "max_cost"},
			{core.FetchInput{Agent: "bot", URL: "https://blocked.example/x"}, core.Forbidden, "blocked_services"},
		} {
			_, err := w.Core.Payments.Fetch(w.Ctx, p, c.in)
			e := core.AsError(err)
			if r := rule(keptTrace(t, w, p, e).TraceDetail, c.rule); e.Code != c.code || r == nil || r.OK {
				t.Errorf("%s: %v, compared %+v", c.rule, err, r)
			}
		}
		page, err := w.Core.Traces.List(w.Ctx, p, core.TraceFilter{AgentID: &a.ID})
		if err != nil || page.Total != 5 || page.Items[0].Code != "forbidden" {
			t.Errorf("%+v %v", page, err)
		}
		if page, err = w.Core.Traces.List(w.Ctx, stranger, core.TraceFilter{}); err != nil || page.Total != 0 {
			t.Errorf("a stranger sees %+v %v", page, err)
		}
		w.Balanced()
	})
}

// TestDryRun: the same price and verdict as a call, and nothing moves; a call afterwards is allowed as it said.
func TestDryRun(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*cent)
		s := w.Seller(2 * cent)
		key := "k"
		in := core.FetchInput{Agent: "bot", URL: s.Link(2, paytest.Serve, 0), DryRun: true, IdempotencyKey: &key}
		for range 2 {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, in)
			if err != nil || r.Paid || r.Verdict == nil || !r.Verdict.Allowed || r.Verdict.Price != 2*cent || r.Status != 402 {
				t.Fatalf("%+v %v", r, err)
			}
		}
		in.DryRun, in.IdempotencyKey = false, nil
		if r, err := w.Core.Payments.Fetch(w.Ctx, p, in); err != nil || !r.Paid {
			t.Fatalf("%+v %v", r, err)
		}
		in.DryRun = true
		r, err := w.Core.Payments.Fetch(w.Ctx, p, in)
		if err != nil || r.Verdict.Allowed || r.Verdict.Code != string(core.InsufficientBalance) || r.Verdict.Price != 2*cent {
			t.Fatalf("%+v %v", r.Verdict, err)
		}
		if b := rule(r.Verdict.TraceDetail, "balance"); b == nil || b.OK || b.Max != cent {
			t.Errorf("compared %+v", b)
		}
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{AllowedServices: &[]string{"elsewhere"}}); err != nil {
			t.Fatal(err)
		}
		before := s.Asked()
		if r, err = w.Core.Payments.Fetch(w.Ctx, p, in); err != nil || r.Verdict.Allowed || r.Verdict.Code != string(core.Forbidden) {
			t.Errorf("%+v %v", r.Verdict, err)
		}
		if s.Asked() != before {
			t.Error("a service that is not allowed was asked")
		}
		page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true})
		if err != nil || page.Total != 1 {
			t.Errorf("%+v %v", page, err)
		}
		w.Balanced()
	})
}

// TestPolicyReplay: a tighter draft says what it would have refused and saved, a looser one what it would have let pass;
// a payment that came to nothing counts for nothing.
func TestPolicyReplay(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{PerCallMax: core.Set(3 * cent)}); err != nil {
			t.Fatal(err)
		}
		two, five := w.Seller(2*cent), w.Seller(5*cent)
		for range 3 {
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: two.Link(2, paytest.Serve, 0)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: five.Link(2, paytest.Serve, 0)}); code(err) != core.SpendingLimit {
			t.Fatal(err)
		}
		w.Settle()
		replay := func(draft core.PolicyInput) *core.Replay {
			t.Helper()
			r, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Days: 7, Draft: draft})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := replay(core.PolicyInput{}); r.Calls != 4 || r.Spent != 6*cent || r.Refused+r.Freed+len(r.Differences) != 0 {
			t.Errorf("the policy that is in force differs from itself: %+v", r)
		}
		r := replay(core.PolicyInput{DailyLimit: core.Set(5 * cent)})
		if r.Refused != 1 || r.Saved != 2*cent || r.Freed != 0 || len(r.Differences) != 1 || r.Differences[0].Rule != "daily" {
			t.Errorf("a tighter draft: %+v", r)
		}
		r = replay(core.PolicyInput{PerCallMax: core.Optional[money.USDC]{Set: true}})
		if r.Refused != 0 || r.Freed != 1 || r.Added != 5*cent || r.Differences[0].Rule != "" {
			t.Errorf("a looser draft: %+v", r)
		}
		stranger, _ := w.User("other@example.com")
		if _, err := w.Core.Policies.Replay(w.Ctx, stranger, core.ReplayInput{AgentID: a.ID, Days: 7}); code(err) != core.NotFound {
			t.Errorf("a stranger replays: %v", err)
		}
		if _, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID}); code(err) != core.InvalidRequest {
			t.Errorf("no days: %v", err)
		}
	})
}
