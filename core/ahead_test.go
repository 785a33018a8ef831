package core_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

// aheadWorld is an agent with a wallet and a session, and a service that asks for a cent.
type aheadWorld struct {
	*coretest.World
	p       core.Principal
	agent   *core.AgentView
	session string
	shop    *coretest.Seller
}

func paysAhead(t *testing.T, w *coretest.World) *aheadWorld {
	w.Deps.PayAhead = true
	var err error
	w.Core, err = core.New(w.Ctx, w.Deps)
	must(w, err)
	a := &aheadWorld{World: w}
	a.p, _ = w.User("dev@example.com")
	a.agent = w.Agent(a.p, "bot", 6*money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, a.p, core.OpenSessionInput{AgentID: a.agent.ID, Deposit: 3 * money.One, Duration: 2 * time.Hour})
	must(w, err)
	if v.Status != session.StatusOpen {
		t.Fatal(v.Status)
	}
	a.session, a.shop = v.ID.String(), w.Seller(cent)
	w.Head()
	return a
}

func (a *aheadWorld) call(in core.FetchInput) (*core.FetchResult, error) {
	a.T.Helper()
	a.Head() // each settlement takes a second of the chain's time
	in.Agent = a.agent.ID.String()
	if in.URL == "" {
		in.URL = a.shop.Link(2, paytest.Serve, 0)
	}
	return a.Core.Payments.Fetch(a.Ctx, a.p, in)
}

// serve makes calls that must be paid and served, and returns how often the service was asked.
func (a *aheadWorld) serve(n int, in core.FetchInput) int {
	a.T.Helper()
	before := a.shop.Asked()
	for range n {
		if r, err := a.call(in); err != nil || r.Status != http.StatusOK || !r.Paid {
			a.T.Fatalf("%+v %v", r, err)
		}
	}
	return a.shop.Asked() - before
}

func TestAServiceThatAsksTheSameIsPaidAhead(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		a := paysAhead(t, w)
		for _, version := range []int{1, 2} {
			for _, paidBy := range []string{"", a.session} {
				in := core.FetchInput{SessionID: paidBy, URL: a.shop.Link(version, paytest.Serve, 0)}
				if asked := a.serve(20, in); asked != 3 {
					t.Errorf("version %d, session %q: asked %d times for 20 calls", version, paidBy, asked)
				}
			}
		}
		in := core.FetchInput{SessionID: a.session}
		key := uuid.NewString()
		in.IdempotencyKey = &key
		if asked := a.serve(1, in); asked != 1 {
			t.Error("a call whose answer is final was paid ahead")
		}
		in.IdempotencyKey, in.DryRun = nil, true
		if r, err := a.call(in); err != nil || r.Verdict == nil || r.Verdict.Price != cent {
			t.Errorf("dry run: %+v %v", r, err)
		}
		in.DryRun = false
		w.Pass(11 * time.Minute)
		if asked := a.serve(2, in); asked != 1 {
			t.Errorf("after a while: asked %d times for 2 calls", asked)
		}
		trace, err := w.Core.Traces.List(w.Ctx, a.p, core.TraceFilter{Limit: 1})
		if err != nil || len(trace.Items) != 1 || len(trace.Items[0].Notes) != 1 || len(trace.Items[0].Offers) != 1 {
			t.Errorf("%+v %v", trace, err)
		}
		w.Settle()
		if got := w.Net.Balance(a.shop.PayTo); got != 83*cent {
			t.Errorf("the seller has %s for 83 calls", got)
		}
		w.Balanced()
	})
}

// A service that asks more than before refuses the proof: nothing more is signed, and the caller is told what it asks now.
func TestAnOfferThatHasChangedIsNotSignedAgain(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		a := paysAhead(t, w)
		in := core.FetchInput{SessionID: a.session}
		a.serve(4, in)
		dear := core.FetchInput{SessionID: a.session, URL: a.shop.Link(2, paytest.Serve, 2*cent)}
		proofs := len(a.shop.Seen())
		_, err := a.call(dear)
		e := core.AsError(err)
		if e.Code != core.Conflict || e.Offer == nil || e.Offer.Amount != 2*cent || e.RetryAfter == 0 || e.Payment == "" {
			t.Fatalf("%+v", e)
		}
		if n := len(a.shop.Seen()) - proofs; n != 0 {
			t.Errorf("%d proofs were valid", n)
		}
		id := uuid.MustParse(e.Payment)
		if got, err := w.Core.Transactions.Get(w.Ctx, a.p, id); err != nil || got.Status != transaction.StatusUnknown || got.Quoted != cent {
			t.Errorf("%+v %v", got, err)
		}
		if r, err := a.call(dear); err != nil || r.Status != http.StatusOK || r.Cost != 2*cent {
			t.Errorf("once more: %+v %v", r, err)
		}
		if asked := a.serve(10, in); asked != 10 {
			t.Errorf("asked %d times for 10 calls of a service that is not to be relied on", asked)
		}
		w.Pass(2 * time.Minute)
		w.Jobs()
		if got, err := w.Core.Transactions.Get(w.Ctx, a.p, id); err != nil || got.Status != transaction.StatusFailed || got.Amount != 0 {
			t.Errorf("after the first proof's end: %+v %v", got, err)
		}
		w.Settle()
		w.Balanced()
	})
}

// What the rules say to an old offer is no verdict: the service may ask less today.
func TestAnOldOfferIsNoVerdict(t *testing.T) {
	a := paysAhead(t, coretest.New(t))
	dear := core.FetchInput{SessionID: a.session, URL: a.shop.Link(2, paytest.Serve, 2*cent)}
	a.serve(3, dear)
	most := cent
	cheap := core.FetchInput{SessionID: a.session, MaxCost: &most}
	if asked := a.serve(1, cheap); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	dear.MaxCost = &most
	if _, err := a.call(dear); code(err) != core.CostExceedsMax {
		t.Error(err)
	}
	a.Balanced()
}

// A service that does not keep its side is asked again.
func TestABrokenServiceIsAskedAgain(t *testing.T) {
	a := paysAhead(t, coretest.New(t))
	broken := false
	shop := paytest.New(t, paytest.Options{
		Network: a.Net.Network(), PayTo: a.shop.PayTo, Clock: a.Clock.Now,
		Settle: func(*http.Request, pay.Proof) (common.Hash, error) {
			if broken {
				return common.Hash{}, errors.New("down")
			}
			return common.Hash{1}, nil
		},
	})
	in := core.FetchInput{SessionID: a.session, URL: shop.Link(2, paytest.Serve, 0)}
	for range 5 {
		if _, err := a.call(in); err != nil {
			t.Fatal(err)
		}
	}
	asked := shop.Asked()
	broken = true
	if _, err := a.call(in); code(err) != core.Conflict {
		t.Errorf("its facilitator is down: %v", err)
	}
	broken = false
	if r, err := a.call(in); err != nil || r.Status != http.StatusOK || shop.Asked() != asked+2 { // the refusal is one of them
		t.Errorf("%+v %v, asked %d times", r, err, shop.Asked()-asked)
	}
}
