package core_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/pricing"
	"bursar/money"
)

// TestMeteredAfterAWait: how long a person took to say yes is none of the call's own time: its hold stands while the service
// works on it.
func TestMeteredAfterAWait(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "maps"))
		m.api.gate = make(chan struct{})
		setPolicy(w, m.p, m.agent.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
		requested, err := w.Core.Approvals.Watch(w.Ctx, m.p, nil, true)
		must(w, err)
		done := make(chan error)
		go func() {
			r, err := w.Core.Payments.Fetch(w.Ctx, m.p, core.FetchInput{
				SessionID: m.session.ID.String(), Service: "maps", URL: "wait", Timeout: time.Second * 5, ApprovalWait: time.Minute,
			})
			if err == nil && r.Cost != cent {
				t.Errorf("%+v", r)
			}
			done <- err
		}()
		var id uuid.UUID
		select {
		case a := <-requested:
			id = a.ID
		case err := <-done:
			t.Fatal(err)
		}
		w.Clock.Ahead(50 * time.Second)
		approve(w, m.p, id)
		for m.api.calls.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		must(w, w.Core.Payments.ReleaseMetered(w.Ctx))
		close(m.api.gate)
		if err := <-done; err != nil {
			t.Errorf("the call was given up while it was under way: %v", err)
		}
		w.Balanced()
	})
}

// TestReplayKnowsDomains: a draft names a service of the catalogue by the first label of its domain, as a policy does.
func TestReplayKnowsDomains(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	must(w, w.Core.Services.Install(w.Ctx, []core.ServiceInput{{Slug: "search", Name: "search", BaseURL: "https://api.exa.ai", Price: pricing.Price{PerCall: cent}}}))
	block := func(rule string) core.PolicyInput { return core.PolicyInput{BlockedServices: &[]string{rule}} }
	setPolicy(w, p, a.ID, block("search"))
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Service: "search", URL: "x"}); code(err) != core.Forbidden {
		t.Fatal(err)
	}
	for rule, freed := range map[string]int{"exa": 0, "exa.ai": 0, "exb": 1} {
		if r, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Draft: block(rule), Days: 1}); err != nil || r.Calls != 1 || r.Freed != freed {
			t.Errorf("%s: %+v %v", rule, r, err)
		}
	}
}
