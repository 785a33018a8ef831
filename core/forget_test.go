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
