package core_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
)

var errCrash = errors.New("the process has died")

// dying is the world's core as another process would have it, which dies at a step of the next call. A panic stands for the
// death: nothing after the step runs.
func (m *metering) dying(at string) *core.Core {
	m.T.Helper()
	deps := m.Deps
	deps.Step = func(step string) {
		if step == at {
			panic(errCrash)
		}
	}
	ctx, stop := context.WithCancel(m.Ctx)
	m.T.Cleanup(stop)
	app, err := core.New(ctx, deps)
	must(m.World, err)
	return app
}

// callAndDie makes a call that dies at a step.
func (m *metering) callAndDie(at string, in core.FetchInput) {
	m.T.Helper()
	app := m.dying(at)
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, errCrash) {
			m.T.Errorf("%s: %v", at, err)
		}
	}()
	r, err := app.Payments.Fetch(m.Ctx, m.p, in)
	m.T.Errorf("%s was not passed: %+v %v", at, r, err)
}

// TestMeteredCrash: wherever the process dies, the call is charged at most once, and exactly if its booking was committed; no
// hold stays; the same key is never called again.
func TestMeteredCrash(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		var charged money.USDC
		for _, c := range []struct {
			at        string
			inSession bool
			cost      money.USDC
		}{
			{core.StepHeld, true, 0},
			{core.StepPaid, true, 0},
			{core.StepBooked, true, 3 * cent},
			{core.StepHeld, false, 0},
			{core.StepPaid, false, 0},
			{core.StepQueued, false, 3 * cent},
			{core.StepAuthorized, false, 3 * cent},
			{core.StepStored, false, 3 * cent},
			{core.StepSent, false, 3 * cent},
			{core.StepBooked, false, 3 * cent},
		} {
			key := c.at + map[bool]string{true: " session", false: " wallet"}[c.inSession]
			in := core.FetchInput{Service: "model", URL: "complete?tokens=3", IdempotencyKey: &key}
			if c.inSession {
				in.SessionID = m.session.ID.String()
			}
			calls := m.api.calls.Load()
			m.callAndDie(c.at, in)
			charged += c.cost
			w.Settle()
			w.Balanced()
			// Before its time the job leaves a call alone: it may be under way elsewhere.
			must(w, w.Core.Payments.ReleaseMetered(w.Ctx))
			m.newest(key, map[bool]transaction.Status{true: transaction.StatusPending, false: transaction.StatusSuccess}[c.cost == 0], c.cost)
			w.Clock.Ahead(time.Minute)
			for range 2 {
				w.Jobs()
			}
			w.Settle()
			m.newest(key, map[bool]transaction.Status{true: transaction.StatusFailed, false: transaction.StatusSuccess}[c.cost == 0], c.cost)
			again := m.api.calls.Load()
			if r, err := w.Core.Payments.Fetch(w.Ctx, m.p, in); code(err) != core.Conflict || core.AsError(err).Payment == "" {
				t.Errorf("%s: the same again: %+v %v", key, r, err)
			}
			if m.api.calls.Load() != again || again > calls+1 {
				t.Errorf("%s: %d calls", key, m.api.calls.Load()-calls)
			}
			w.Balanced()
		}
		s, err := w.Core.Sessions.Get(w.Ctx, m.p, m.session.ID)
		must(w, err)
		a, err := w.Core.Agents.Get(w.Ctx, m.p, m.agent.ID)
		must(w, err)
		if got := 3*money.One - s.Remaining - a.Wallet.Posted; got != charged || a.Wallet.Pending != 0 {
			t.Errorf("charged %s instead of %s: %+v", got, charged, a.Wallet)
		}
	})
}

// newest holds the newest payment to a status and what it was charged.
func (m *metering) newest(name string, status transaction.Status, amount money.USDC) {
	m.T.Helper()
	page, err := m.Core.Transactions.List(m.Ctx, m.p, core.TransactionFilter{PaymentsOnly: true, Limit: 1})
	must(m.World, err)
	if t := page.Items[0]; t.Status != status || (status != transaction.StatusPending && t.Amount != amount) {
		m.T.Errorf("%s: %s, charged %s: %s", name, t.Status, t.Amount, t.Reason)
	}
}
