package core_test

import (
	"net/http"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay/paytest"
)

// A person's yes is needed for every way of paying: a service of the catalogue, money that is sent ahead, and an offer that
// is remembered.

func TestMeteredCallsNeedAYes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, func(a *api) core.ServiceInput { return a.perCall("maps") })
		setPolicy(w, m.p, m.agent.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
		in := core.FetchInput{Agent: "bot", SessionID: m.session.ID.String(), Service: "maps", URL: "x"}
		id := asks(w, m.p, in)
		if n := m.api.calls.Load(); n != 0 {
			t.Errorf("called %d times before a yes", n)
		}
		approve(w, m.p, id)
		if r, err := w.Core.Payments.Fetch(w.Ctx, m.p, in); err != nil || r.Status != http.StatusOK || r.Cost != cent {
			t.Errorf("%+v %v", r, err)
		}
		if next := asks(w, m.p, in); next == id || m.api.calls.Load() != 1 {
			t.Errorf("one yes, %d calls", m.api.calls.Load())
		}
		w.Balanced()
	})
}

func TestTransfersNeedAYes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		setPolicy(w, s.p, s.agent.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
		in := core.FetchInput{Agent: "bot", URL: s.link}
		approve(w, s.p, asks(w, s.p, in))
		s.till.set(func() { s.till.broken = true })
		if _, err := s.call(core.FetchInput{}); code(err) != core.ServiceFailed {
			t.Fatal(err)
		}
		s.till.set(func() { s.till.broken = false })
		if r, err := s.call(core.FetchInput{}); err != nil || r.Status != http.StatusOK { // it is paid already
			t.Fatalf("%+v %v", r, err)
		}
		asks(w, s.p, in)
		s.earned(1)
	})
}

func TestNobodyIsAskedBeforeTheService(t *testing.T) {
	a := paysAhead(t, coretest.New(t))
	in := core.FetchInput{Agent: a.agent.ID.String(), SessionID: a.session, URL: a.shop.Link(2, paytest.Serve, 0)}
	a.serve(3, core.FetchInput{SessionID: a.session})
	setPolicy(a.World, a.p, a.agent.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
	asked, proofs := a.shop.Asked(), len(a.shop.Seen())
	id := asks(a.World, a.p, in)
	if a.shop.Asked() != asked+1 || len(a.shop.Seen()) != proofs {
		t.Errorf("asked %d times, %d proofs", a.shop.Asked()-asked, len(a.shop.Seen())-proofs)
	}
	approve(a.World, a.p, id)
	if r, err := a.Core.Payments.Fetch(a.Ctx, a.p, in); err != nil || r.Status != http.StatusOK {
		t.Errorf("%+v %v", r, err)
	}
	a.Balanced()
}
