package core_test

import (
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/trace"
	"bursar/money"
	"bursar/pay/paytest"
)

// TestRequestsAreForgotten: what a person was asked and nobody has paid by is forgotten like a refusal; what was paid by stays.
func TestRequestsAreForgotten(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		used := asks(w, p, s.call(0, false))
		approve(w, p, used)
		fetch(w, p, s.call(0, false))
		no := asks(w, p, s.call(0, false))
		_, err := w.Core.Approvals.Deny(w.Ctx, p, no, "")
		must(w, err)
		asks(w, p, s.call(0, true))
		rows := func(approvals, traces int) {
			t.Helper()
			must(w, w.Core.Approvals.ExpireDue(w.Ctx))
			must(w, w.Core.Traces.Forget(w.Ctx))
			if a, b := count(t, raw(t, w), "approvals"), count(t, raw(t, w), "traces"); a != approvals || b != traces {
				t.Errorf("%d requests and %d traces are kept", a, b)
			}
		}
		w.Clock.Ahead(90*24*time.Hour - time.Minute)
		rows(3, 4)
		w.Clock.Ahead(2 * time.Minute)
		rows(1, 1)
		if a := approvalOf(w, p, used); a.PaymentID == nil {
			t.Errorf("%+v", a)
		}
	})
}

// Refusals are forgotten after ninety days, and not before; why a payment was allowed stays.
func TestRefusalsAreForgotten(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		in := core.FetchInput{Agent: "bot", URL: w.Seller(cent).Link(2, paytest.Serve, 0)}
		fetch(w, p, in)
		setPolicy(w, p, a.ID, core.PolicyInput{PerCallMax: core.Set(money.USDC(1))})
		refuse := func() {
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, in); code(err) != core.SpendingLimit {
				t.Fatal(err)
			}
		}
		kept := func() map[trace.Outcome]int {
			must(w, w.Core.Traces.Forget(w.Ctx))
			page, err := w.Core.Traces.List(w.Ctx, p, core.TraceFilter{})
			must(w, err)
			n := map[trace.Outcome]int{}
			for _, v := range page.Items {
				n[v.Outcome]++
			}
			return n
		}
		refuse()
		w.Clock.Ahead(90*24*time.Hour - time.Minute)
		refuse()
		if n := kept(); n[trace.OutcomeRefused] != 2 || n[trace.OutcomeAllowed] != 1 {
			t.Errorf("a minute before: %v", n)
		}
		w.Clock.Ahead(2 * time.Minute)
		if n := kept(); n[trace.OutcomeRefused] != 1 || n[trace.OutcomeAllowed] != 1 {
			t.Errorf("a minute after: %v", n)
		}
	})
}
