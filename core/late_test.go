package core_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

// buyer has a wallet, and a session of half its money.
type buyer struct {
	w       *coretest.World
	p       core.Principal
	agent   *core.AgentView
	session *core.SessionView
}

func newBuyer(t *testing.T, w *coretest.World) buyer {
	t.Helper()
	b := buyer{w: w}
	b.p, _ = w.User("dev@example.com")
	b.agent = w.Agent(b.p, "bot", 2*deposit)
	var err error
	if b.session, err = w.Core.Sessions.Open(w.Ctx, b.p, core.OpenSessionInput{AgentID: b.agent.ID, Deposit: deposit, Duration: 2 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	return b
}

// spent demands what the wallet and the session have paid in the end, and that nothing is held.
func (b buyer) spent(t *testing.T, wallet, session money.USDC) {
	t.Helper()
	a, err := b.w.Core.Agents.Get(b.w.Ctx, b.p, b.agent.ID)
	if err != nil || a.Wallet.Pending != 0 || a.Wallet.Posted != deposit-wallet {
		t.Errorf("wallet %+v %v", a.Wallet, err)
	}
	v, err := b.w.Core.Sessions.Get(b.w.Ctx, b.p, b.session.ID)
	if err != nil || v.Used != session || v.Remaining != deposit-session {
		t.Errorf("session: used %s, remaining %s, %v", v.Used, v.Remaining, err)
	}
	b.w.Balanced()
}

// The chain may be read between a seller's settlement and its answer. The payment is final then; the answer adds what
// the service said and changes nothing else, and the end is told once.
func TestChainIsReadBeforeTheAnswer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		told, err := w.Core.Transactions.Watch(w.Ctx, b.p, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, settle := w.Facilitator()
		for _, c := range []struct {
			answer answer
			status int
		}{{serve(""), 200}, {status(500), 500}, {again(2), 402}} {
			s := paytest.New(t, paytest.Options{
				Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent,
				Answer: func(rw http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
					if _, err := settle(w.Ctx, p); err != nil {
						t.Error(err)
					}
					w.Jobs()
					c.answer(rw, r, a, p)
				},
			})
			for _, id := range []string{"", b.session.ID.String()} {
				w.Head()
				r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: id, URL: s.Link(2, paytest.Serve, 0)})
				if err != nil {
					t.Fatal(err)
				}
				got := r.Payment
				if got.Status != transaction.StatusSuccess || got.Amount != cent || got.TxHash == nil || got.UpstreamStatus != c.status || got.Reason != "" {
					t.Errorf("%d in %q: %+v", c.status, id, got)
				}
				select {
				case end := <-told:
					if end.ID != got.ID {
						t.Errorf("%d in %q: the end of %s was told", c.status, id, end.ID)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("%d in %q: the end was not told", c.status, id)
				}
			}
		}
		w.Jobs()
		select {
		case again := <-told:
			t.Errorf("told again: %+v", again)
		default:
		}
		b.spent(t, 3*cent, 3*cent)
	})
}

// A seller that serves after its proof's end, unsettled, has served for nothing.
func TestAnswerAfterTheProofHasDied(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		s := paytest.New(t, paytest.Options{
			Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent,
			Answer: func(rw http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
				for now := a.ValidFor; now > 0; now -= 10 * time.Second {
					w.Pass(10 * time.Second)
					w.Jobs()
				}
				w.Pass(time.Second)
				w.Jobs()
				serve("")(rw, r, a, p)
			},
		})
		for _, id := range []string{"", b.session.ID.String()} {
			w.Head()
			r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: id, URL: s.Link(1, paytest.Serve, 0)})
			if err != nil || r.Status != 200 || r.Payment.Status != transaction.StatusFailed || r.Payment.Amount != 0 {
				t.Errorf("in %q: %+v %v", id, r.Payment, err)
			}
		}
		b.spent(t, 0, 0)
	})
}

// However many proofs die at one time, one run of the jobs ends them all.
func TestManyProofsDieAtOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		const price, callers, each = 100, 16, 30
		for _, a := range []answer{serve(""), status(500)} {
			s := paytest.New(t, paytest.Options{
				Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: price, Window: 9 * time.Minute, Answer: a,
			})
			var wg sync.WaitGroup
			for caller := range callers {
				wg.Go(func() {
					for i := range each {
						in := core.FetchInput{SessionID: b.session.ID.String(), URL: s.Link(2, paytest.Serve, 0) + fmt.Sprintf("?n=%d.%d", caller, i)}
						if _, err := w.Core.Payments.Fetch(w.Ctx, b.p, in); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		}
		v, err := w.Core.Sessions.Get(w.Ctx, b.p, b.session.ID)
		if err != nil || v.Used != 2*price*callers*each {
			t.Errorf("used %s %v", v.Used, err)
		}
		w.Pass(10 * time.Minute)
		w.Jobs()
		b.spent(t, 0, 0)
	})
}
