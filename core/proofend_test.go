package core_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

// A proof that has left holds its money until the chain has passed its end, however the call failed and whatever the
// machine's clock says. In its last block it may still be used, and is then a payment like any other.
func TestOnlyTheChainEndsAPayment(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		_, settle := w.Facilitator()
		s := paytest.New(t, paytest.Options{
			Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent, Window: 5 * time.Minute, Answer: reset,
		})
		w.Pass(time.Minute) // from here on the chain is ahead of the machine's clock: blocks come by the second
		var ids []uuid.UUID
		for _, id := range []string{"", b.session.ID.String()} {
			w.Head()
			w.Pass(5 * time.Second) // so that the proofs end in blocks of their own
			_, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: id, URL: s.Link(2, paytest.Serve, 0)})
			if err == nil || core.AsError(err).Payment == "" {
				t.Fatalf("in %q: %v", id, err)
			}
			ids = append(ids, uuid.MustParse(core.AsError(err).Payment))
		}
		held := func(at string, id uuid.UUID) {
			t.Helper()
			got, err := w.Core.Transactions.Get(w.Ctx, b.p, id)
			if err != nil || got.Status != transaction.StatusUnknown {
				t.Fatalf("%s: %+v %v", at, got, err)
			}
		}
		w.Clock.Ahead(time.Hour)
		w.Jobs()
		w.Clock.Ahead(-time.Hour)
		for i, id := range ids {
			held("by the machine's clock", id)
			proof := s.Seen()[i].Proof
			end := proof.Authorization.ValidBefore
			for _, now := w.Head(); now.Unix() < end-2; _, now = w.Head() {
				w.Net.Node.Commit()
			}
			w.Jobs()
			held("a block before the last", id)
			if _, err := settle(w.Ctx, proof); err != nil {
				t.Fatal(err)
			}
			w.Head()
			w.Jobs()
			got, err := w.Core.Transactions.Get(w.Ctx, b.p, id)
			if err != nil || got.Status != transaction.StatusSuccess || got.Amount != cent {
				t.Errorf("settled in the last block: %+v %v", got, err)
			}
		}
		b.spent(t, cent, cent)
	})
}

// A refund that is on its way is not made anew before the token refuses the first: the platform holds other sessions'
// money, and would pay twice.
func TestRefundIsMadeOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		if _, err := w.Core.Sessions.Open(w.Ctx, b.p, core.OpenSessionInput{AgentID: b.agent.ID, Deposit: deposit, Duration: 2 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		w.Head()
		dies(t, w, core.StepStored, func(c *core.Core) { _, _ = c.Sessions.Close(w.Ctx, b.p, b.session.ID, nil) })
		w.Clock.Ahead(11 * time.Minute) // past the authorization's end by the machine's clock alone
		must(w, w.Core.Funding.ExpireOperations(w.Ctx))
		must(w, w.Core.Sessions.ExpireDue(w.Ctx))
		w.Clock.Ahead(-11 * time.Minute)
		lapse(w)
		for range 3 {
			w.Jobs()
			w.Settle()
		}
		v, err := w.Core.Sessions.Get(w.Ctx, b.p, b.session.ID)
		if err != nil || v.Status != session.StatusClosed || v.Refunded != deposit {
			t.Errorf("%+v %v", v, err)
		}
		if got, platform := w.Net.Balance(address(b.agent.Address)), w.Net.Balance(w.Platform); got != deposit || platform != deposit {
			t.Errorf("the wallet has %s, the platform %s", got, platform)
		}
		w.Balanced()
	})
}

// A session whose last money is promised to a seller is not closed before the chain has said whether the seller took it.
func TestCloseWaitsForWhatIsUnknown(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: cent, Duration: 2 * time.Hour})
		must(w, err)
		s := paytest.New(t, paytest.Options{Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent, Answer: status(500)})
		w.Head()
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
		impatient, leave := context.WithCancel(w.Ctx)
		_, _ = another(w, core.StepClosing, leave).Sessions.Close(impatient, p, v.ID, nil)
		w.Jobs()
		if got, err := w.Core.Sessions.Get(w.Ctx, p, v.ID); err != nil || got.Status != session.StatusClosing {
			t.Errorf("while its call is unknown: %+v %v", got, err)
		}
		w.Pass(2 * time.Minute)
		for range 3 {
			w.Jobs()
			w.Settle()
		}
		got, err := w.Core.Sessions.Get(w.Ctx, p, v.ID)
		if err != nil || got.Status != session.StatusClosed || got.Refunded != cent || w.Net.Balance(address(a.Address)) != money.One {
			t.Errorf("%+v %v, the wallet has %s", got, err, w.Net.Balance(address(a.Address)))
		}
		w.Balanced()
	})
}

// A proof stays with the seller that it was made for.
func TestProofFollowsNoRedirect(t *testing.T) {
	w := coretest.New(t)
	b := newBuyer(t, w)
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		stranger := w.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			t.Errorf("%d: a stranger was called with %v", code, r.Header)
		}))
		s := paytest.New(t, paytest.Options{
			Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent,
			Answer: func(rw http.ResponseWriter, r *http.Request, _ x402.Ask, _ pay.Proof) {
				http.Redirect(rw, r, stranger, code)
			},
		})
		for i, id := range []string{"", b.session.ID.String()} {
			r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: id, URL: s.Link(1+i, paytest.Serve, 0)})
			if err != nil || r.Status != code || r.Payment.Status != transaction.StatusUnknown {
				t.Errorf("%d in %q: %+v %v", code, id, r, err)
			}
		}
	}
}
