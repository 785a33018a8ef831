package core_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
)

const aDay = 24 * time.Hour

// gathering is a world whose businesses are paid once they are owed five cents, or after a day.
type gathering struct {
	*metering
	seller core.Principal
	made   *core.Registered
	wallet common.Address
}

func newGathering(t *testing.T, w *coretest.World) *gathering {
	t.Helper()
	w.Deps.PayoutLeast, w.Deps.PayoutWait = 5*cent, aDay
	w.Core = process(t, w, nil)
	g := &gathering{}
	g.metering, g.seller, g.made, g.wallet = metersOf(t, w)
	return g
}

// earn has the business called from a session, a new one when the last has expired.
func (g *gathering) earn(calls int) {
	g.T.Helper()
	if g.Clock.Now().Unix() > g.session.ExpiresUnix {
		g.session = g.Session(g.p, g.agent, 10*cent)
	}
	for range calls {
		_, err := g.call(true, g.made.Slug, "find")
		must(g.World, err)
	}
}

// pays runs the job and demands what the business is owed then, and what is on its way to it.
func (g *gathering) pays(when string, owed, sending money.USDC) {
	g.T.Helper()
	must(g.World, g.Core.Gateway.PayOut(g.Ctx))
	if f := g.figures(g.seller); f.Owed != owed || f.Sending != sending {
		g.T.Errorf("%s: owed %s, on its way %s; want %s and %s", when, f.Owed, f.Sending, owed, sending)
	}
}

// has demands what has arrived at the business.
func (g *gathering) has(want money.USDC) {
	g.T.Helper()
	g.arrived(g.seller)
	if got := g.Net.Balance(g.wallet); got != want {
		g.T.Errorf("the business has %s, not %s", got, want)
	}
	g.sound()
}

// TestPayoutsGather: little waits until it is enough, or until the oldest of it has waited; then all goes, and waiting begins
// anew.
func TestPayoutsGather(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		g := newGathering(t, w)
		g.pays("before it has earned anything", 0, 0)
		g.earn(2)
		g.pays("below the least", 2*cent, 0)
		w.Clock.Ahead(aDay - time.Hour)
		g.earn(1)
		g.pays("before the oldest has waited", 3*cent, 0)
		w.Clock.Ahead(time.Hour)
		g.pays("when the oldest has waited", 0, 3*cent)
		g.has(3 * cent)
		g.earn(1)
		w.Clock.Ahead(aDay - time.Hour)
		g.earn(3)
		g.pays("the day begins anew", 4*cent, 0)
		g.earn(1)
		g.pays("when it is enough", 0, 5*cent)
		g.has(8 * cent)
		w.Clock.Ahead(30 * aDay)
		g.pays("nothing is owed", 0, 0)
		g.earn(1)
		g.pays("a day counts from what was earned, not from the last payout", cent, 0)
		w.Clock.Ahead(aDay)
		g.pays("a day later", 0, cent)
		g.has(9 * cent)
	})
}

// TestPayoutWhileACallIsUnderWay: what a call earns that was begun before a payout and booked after it waits from its
// beginning, whatever is earned later.
func TestPayoutWhileACallIsUnderWay(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		g := newGathering(t, w)
		g.earn(5)
		g.api.gate = make(chan struct{})
		done := make(chan error)
		calls := g.api.calls.Load()
		go func() {
			_, err := g.call(true, g.made.Slug, "wait")
			done <- err
		}()
		for g.api.calls.Load() == calls {
			time.Sleep(time.Millisecond)
		}
		w.Clock.Ahead(time.Second)
		g.pays("while it is under way", 0, 5*cent)
		w.Clock.Ahead(time.Second)
		close(g.api.gate)
		must(w, <-done)
		g.has(5 * cent)
		w.Clock.Ahead(aDay / 2)
		g.earn(1)
		g.pays("half a day later", 2*cent, 0)
		w.Clock.Ahead(aDay / 2)
		g.pays("a day later", 0, 2*cent)
		g.has(7 * cent)
	})
}

// TestPayoutsAtOnce: of several processes that find it due one sends, and none fails.
func TestPayoutsAtOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		g := newGathering(t, w)
		g.earn(2)
		var others []*core.Core
		for range 4 {
			others = append(others, process(t, w, nil))
		}
		atOnce := func() {
			var all sync.WaitGroup
			for _, other := range others {
				all.Go(func() {
					if err := other.Gateway.PayOut(w.Ctx); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		atOnce()
		g.pays("too early", 2*cent, 0)
		w.Clock.Ahead(aDay)
		atOnce()
		g.pays("at once", 0, 2*cent)
		g.has(2 * cent)
		if n := count(t, raw(t, w), "operations WHERE kind = 'payout'"); n != 1 {
			t.Errorf("%d payouts", n)
		}
	})
}

// TestRemovedBusinessGetsItsRest: nothing more gathers, so there is nothing to wait for.
func TestRemovedBusinessGetsItsRest(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		g := newGathering(t, w)
		g.earn(1)
		off := false
		_, err := w.Core.Services.Update(w.Ctx, g.seller, g.made.ID, core.ServiceUpdate{Active: &off})
		must(w, err)
		g.pays("switched off, and perhaps on again", cent, 0)
		_, err = w.Core.Services.Remove(w.Ctx, g.seller, g.made.ID)
		must(w, err)
		g.pays("removed", 0, cent)
		g.has(cent)
	})
}

// TestPayoutThatWasGivenUpIsDue: what no block has taken in its time was due, and is sent again without waiting.
func TestPayoutThatWasGivenUpIsDue(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		g := newGathering(t, w)
		g.earn(1)
		w.Clock.Ahead(aDay)
		g.pays("a day later", 0, cent)
		exec(t, raw(t, w), "UPDATE operations SET status = 'authorized', valid_before_unix = 1, auth_nonce = 'n' || id, signature = 'x', chain_tx_id = NULL WHERE kind = 'payout'")
		w.Net.Node.Commit()
		must(w, w.Core.Funding.ReadChain(w.Ctx))
		must(w, w.Core.Funding.ExpireOperations(w.Ctx))
		g.earn(1)
		g.pays("given up", 0, 2*cent)
		g.has(2 * cent)
	})
}

// TestReorgOfAPayout: what is earned before or after the chain takes a payout back and again waits its day, and no other.
func TestReorgOfAPayout(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprint("earned before it: ", before), func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				g := newGathering(t, w)
				start := w.Height()
				g.earn(5)
				g.pays("enough", 0, 5*cent)
				g.has(5 * cent)
				var earned time.Time
				earn := func() {
					earned = w.Clock.Now()
					g.earn(2)
				}
				if before {
					earn()
				}
				w.Clock.Ahead(20 * time.Minute)
				w.Reorg(int(w.Height() - start))
				w.Settle()
				w.Mine(depth + 1)
				g.has(5 * cent)
				w.Clock.Ahead(20 * time.Minute)
				if !before {
					earn()
				}
				w.Clock.Ahead(earned.Add(aDay - time.Minute).Sub(w.Clock.Now()))
				g.pays("too early", 2*cent, 0)
				w.Clock.Ahead(2 * time.Minute)
				g.pays("a day after it was earned", 0, 2*cent)
				g.has(7 * cent)
			})
		})
	}
}

// TestPayoutThatAReorgLost: one that the chain takes back and never takes again was due, and is made anew without waiting.
func TestPayoutThatAReorgLost(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		g := newGathering(t, w)
		before := w.Height()
		g.earn(2)
		must(w, process(t, w, func(d *core.Deps) { d.PayoutLeast = cent }).Gateway.PayOut(w.Ctx)) // a day is more blocks than can be mined
		g.has(2 * cent)
		g.earn(1)
		g.pays("below the least", cent, 0)
		w.Replace(before, w.Deps.RelayerKey)
		w.Pass(11 * time.Minute)
		w.Mine(depth + 1)
		for range 3 {
			w.Settle()
			must(w, w.Core.Funding.ExpireOperations(w.Ctx))
		}
		g.has(0)
		g.pays("lost for good", 0, 3*cent)
		g.has(3 * cent)
	})
}

// TestManyBusinessesThatWait: those that are owed too little keep nobody else waiting, however many they are.
func TestManyBusinessesThatWait(t *testing.T) {
	w := coretest.New(t)
	g := newGathering(t, w)
	g.session = g.Session(g.p, g.agent, money.One+50*cent) // that all of them earn from
	for i := range 101 {
		name := fmt.Sprint("waits-", i)
		_, made, _ := g.business(name)
		_, err := g.call(true, made.Slug, "find")
		must(w, err)
	}
	last, made, _ := g.business("enough")
	for range 5 {
		_, err := g.call(true, made.Slug, "find")
		must(w, err)
	}
	must(w, w.Core.Gateway.PayOut(w.Ctx))
	if f := g.figures(last); f.Owed != 0 || f.Sending != 5*cent {
		t.Errorf("%+v", f)
	}
	w.Clock.Ahead(aDay)
	must(w, w.Core.Gateway.PayOut(w.Ctx))
	if n := count(t, raw(t, w), "operations WHERE kind = 'payout'"); n != 102 {
		t.Errorf("%d payouts", n)
	}
	w.Balanced()
}
