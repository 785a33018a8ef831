package core_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/evm"
	"bursar/money"
)

// twins are two sessions that pay one seller through Permit2. It serves, and settles when it wants to: proof 0 is the
// first one's, proof 1 the second's.
type twins struct {
	buyer
	s     *coretest.Permit2Seller
	other *core.SessionView
}

// newTwins have each called once, for so much, or for at most that.
func newTwins(t *testing.T, w *coretest.World, upTo [2]bool, most [2]money.USDC, windows [2]time.Duration) twins {
	t.Helper()
	v := twins{buyer: newBuyer(t, w), s: w.Permit2Seller(cent)}
	var err error
	v.other, err = w.Core.Sessions.Open(w.Ctx, v.p, core.OpenSessionInput{AgentID: v.agent.ID, Deposit: money.One, Duration: 2 * time.Hour})
	must(w, err)
	v.s.Batch, v.s.Charge = true, 0
	for i, session := range []string{v.session.ID.String(), v.other.ID.String()} {
		v.s.UpTo, v.s.Price, v.s.Window = upTo[i], most[i], windows[i]
		if r, err := v.fetch(session, v.s.URL); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
	}
	w.Settle()
	return v
}

func (v twins) hides() {
	v.s.Hides = func(c evm.Call) common.Address { return v.w.Hidden(v.s.Key, c) }
}

// charged demands what the sessions have paid in the end. The seller has no more than the two together.
func (v twins) charged(t *testing.T, first, second money.USDC) {
	t.Helper()
	v.done()
	v.earned(t, v.s, first+second)
	a, err := v.w.Core.Sessions.Get(v.w.Ctx, v.p, v.session.ID)
	must(v.w, err)
	b, err := v.w.Core.Sessions.Get(v.w.Ctx, v.p, v.other.ID)
	must(v.w, err)
	if a.Used != first || b.Used != second || a.Used+a.Remaining != deposit || b.Used+b.Remaining != money.One {
		t.Errorf("the sessions have paid %s and %s, want %s and %s", a.Used, b.Used, first, second)
	}
	audit, err := v.w.Core.Books.Audit(v.w.Ctx)
	must(v.w, err)
	if audit.Platform.Suspense != 0 || audit.Platform.Clearing != 0 || audit.Platform.Treasury != 0 {
		t.Errorf("%+v", audit.Platform)
	}
	v.w.Balanced()
}

func takes(call int, amount money.USDC) coretest.Settlement {
	return coretest.Settlement{Call: call, Amount: amount}
}

// Whatever a seller shows of what it settles, every movement is some session's, and none pays more than its maximum: what
// nobody is charged for would be paid from everybody's deposits.
func TestPermit2MovementsAreAllCharged(t *testing.T) {
	minute, both := time.Minute, [2]time.Duration{time.Minute, time.Minute}
	for name, c := range map[string]struct {
		most          [2]money.USDC
		windows       [2]time.Duration
		hides, exact  bool // the second's price is no maximum
		settle        func(v twins)
		first, second money.USDC
	}{
		"the small one first": {
			most: [2]money.USDC{10 * cent, cent}, windows: both, hides: true, first: 10 * cent, second: cent,
			settle: func(v twins) { must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(1, cent), takes(0, 10*cent))) },
		},
		"another's number is shown": {
			most: [2]money.USDC{10 * cent, cent}, windows: both, hides: true, first: 10 * cent, second: cent,
			settle: func(v twins) { must(v.w, v.s.SettleTogether(v.w.Ctx, []int{0}, takes(1, cent), takes(0, 10*cent))) },
		},
		"a number is shown that is settled when the other is over": {
			most: [2]money.USDC{10 * cent, 10 * cent}, windows: [2]time.Duration{5 * minute, minute}, hides: true, first: 10 * cent, second: 10 * cent,
			settle: func(v twins) {
				must(v.w, v.s.SettleTogether(v.w.Ctx, []int{0}, takes(1, 10*cent)))
				v.w.Settle()
				v.w.Pass(3 * minute)
				v.w.Settle()
				v.w.Jobs()
				must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(0, 10*cent)))
			},
		},
		"in another order": {
			most: [2]money.USDC{10 * cent, 10 * cent}, windows: both, first: 3 * cent, second: 5 * cent,
			settle: func(v twins) { must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(1, 5*cent), takes(0, 3*cent))) },
		},
		"apart": {
			most: [2]money.USDC{10 * cent, 5 * cent}, windows: both, first: 3 * cent, second: 2 * cent,
			settle: func(v twins) {
				must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(0, 3*cent)))
				must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(1, 2*cent)))
			},
		},
		"one shown, one hidden": {
			most: [2]money.USDC{10 * cent, 5 * cent}, windows: both, first: 3 * cent, second: 2 * cent,
			settle: func(v twins) {
				must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(0, 3*cent)))
				v.hides()
				must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(1, 2*cent)))
			},
		},
		"a price that is no maximum": {
			most: [2]money.USDC{5 * cent, 5 * cent}, windows: both, hides: true, exact: true, first: 4 * cent, second: 5 * cent,
			settle: func(v twins) { must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(1, 5*cent), takes(0, 4*cent))) },
		},
		"one of them for nothing": {
			most: [2]money.USDC{10 * cent, cent}, windows: both, hides: true, first: 0, second: cent,
			settle: func(v twins) { must(v.w, v.s.SettleTogether(v.w.Ctx, nil, takes(0, 0), takes(1, cent))) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) {
				v := newTwins(t, w, [2]bool{true, !c.exact}, c.most, c.windows)
				if c.hides {
					v.hides()
				}
				c.settle(v)
				v.charged(t, c.first, c.second)
			})
		})
	}
}

// A process that dies when one of several movements of a transaction is booked leaves the rest to the next, which takes
// none of them for another's.
func TestPermit2SettledTogetherSurvivesACrash(t *testing.T) {
	for name, hides := range map[string]bool{"shown": false, "hidden": true} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) {
				v := newTwins(t, w, [2]bool{}, [2]money.USDC{cent, cent}, [2]time.Duration{time.Minute, time.Minute})
				if hides {
					v.hides()
				}
				must(w, v.s.SettleTogether(w.Ctx, nil, takes(0, cent), takes(1, cent)))
				dies(t, w, core.StepLog, func(c *core.Core) { must(w, c.Funding.ReadChain(w.Ctx)) })
				var said bytes.Buffer
				next := process(t, w, func(d *core.Deps) {
					d.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
				})
				must(w, next.Funding.ReadChain(w.Ctx))
				if said.Len() > 0 {
					t.Errorf("what is booked was taken for a theft: %s", said.String())
				}
				v.charged(t, cent, cent)
			})
		})
	}
}

// Two processes that read the same blocks may tell the rest apart in two ways, when one has booked a part of it. Neither
// charges a payment that the other has charged by something else.
func TestPermit2ToldApartTwice(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		v := newTwins(t, w, [2]bool{true, true}, [2]money.USDC{10 * cent, 5 * cent}, [2]time.Duration{time.Minute, time.Minute})
		if r, err := v.fetch(v.other.ID.String(), v.s.URL); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
		v.hides()
		must(w, v.s.SettleTogether(w.Ctx, nil, takes(0, 10*cent)))
		must(w, v.s.SettleTogether(w.Ctx, []int{2, 0}, takes(2, 2*cent), takes(1, cent)))
		logs := 0
		second := process(t, w, func(d *core.Deps) {
			d.Step = func(step string) {
				if step == core.StepLog {
					if logs++; logs == 2 {
						panic(step)
					}
				}
			}
		})
		first := process(t, w, func(d *core.Deps) {
			d.Step = func(step string) {
				if step == core.StepLog && logs == 0 {
					if got := recovered(func() { must(w, second.Funding.ReadChain(w.Ctx)) }); got != core.StepLog {
						t.Errorf("the second process did not die: %v", got)
					}
				}
			}
		})
		must(w, first.Funding.ReadChain(w.Ctx))
		v.charged(t, 10*cent, 3*cent)
	})
}

// However many proofs a seller keeps back, what it hides costs some questions to a node: the books must not stand still for it.
func TestPermit2HiddenAmongMany(t *testing.T) {
	w := coretest.New(t)
	b := newBuyer(t, w)
	s := w.Permit2Seller(cent / 10)
	s.Charge = 0
	for range 60 {
		if r, err := b.fetch(b.session.ID.String(), s.URL); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
	}
	w.Settle()
	s.Hides = func(c evm.Call) common.Address { return w.Hidden(s.Key, c) }
	for _, call := range []int{59, 31, 58} {
		must(w, s.Settle(w.Ctx, call, cent/10))
	}
	s.Hides = nil
	var together []coretest.Settlement
	for call := range 20 {
		together = append(together, takes(call, cent/10))
	}
	must(w, s.SettleTogether(w.Ctx, nil, together...))
	node := w.Net.Proxy()
	must(w, through(t, w, node).Funding.ReadChain(w.Ctx))
	if n := node.Asked("eth_call"); n > 10 {
		t.Errorf("%d questions", n)
	}
	b.done()
	b.earned(t, s, 23*cent/10)
	b.spent(t, 0, 23*cent/10)
}
