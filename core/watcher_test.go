package core_test

import (
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/money"
)

// Two deposits in one transaction are two.
func TestLogsOfOneTransaction(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		for _, a := range []*core.AgentView{w.Agent(p, "one", money.One), w.Agent(p, "two", money.One)} {
			dies(t, w, core.StepQueued, func(c *core.Core) {
				_, _ = c.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One, Duration: 2 * time.Hour})
			})
		}
		for give := time.Now().Add(30 * time.Second); ; {
			w.Settle()
			v, err := w.Core.Sessions.List(w.Ctx, p, nil)
			must(w, err)
			if v[0].Status == session.StatusOpen && v[1].Status == session.StatusOpen {
				if *v[0].DepositTxHash != *v[1].DepositTxHash {
					t.Errorf("deposits in two transactions: %s, %s", *v[0].DepositTxHash, *v[1].DepositTxHash)
				}
				break
			}
			if time.Now().After(give) {
				t.Fatalf("sessions %s and %s, the platform has %s", v[0].Status, v[1].Status, w.Net.Balance(w.Platform))
			}
		}
		w.Balanced()
	})
}

// A movement whose booking fails is booked the next time: the watcher does not pass it.
func TestFailedBookingIsBookedLater(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		one, two := w.Agent(p, "one", 0), w.Agent(p, "two", 0)
		w.Fund(one, money.One)
		w.Fund(two, money.One)
		w.Head()
		db := raw(t, w)
		broken := another(w, core.StepLog, func() { exec(t, db, "ALTER TABLE transactions RENAME TO away") })
		err := broken.Funding.ReadChain(w.Ctx)
		exec(t, db, "ALTER TABLE away RENAME TO transactions")
		if err == nil {
			t.Error("it reads on")
		}
		must(w, w.Core.Funding.ReadChain(w.Ctx))
		w.Settle()
		for _, a := range []*core.AgentView{one, two} {
			if got := agentOf(w, p, a.ID); got.Wallet.Posted != money.One {
				t.Errorf("%s has %s", a.Name, got.Wallet.Posted)
			}
		}
		w.Balanced()
	})
}

// A process that has read a branch, and is overtaken by another that has taken it back, books nothing more of it.
func TestOrphanIsNotBooked(t *testing.T) {
	for name, options := range databases(t) {
		t.Run(name, func(t *testing.T) {
			w := coretest.New(t, append(options(t), coretest.Confirmations(depth))...)
			p, _ := w.User("dev@example.com")
			one, two := w.Agent(p, "one", 0), w.Agent(p, "two", 0)
			w.Mine(2 * depth)
			must(w, w.Core.Funding.ReadChain(w.Ctx))
			before := w.Height()
			w.Fund(one, money.One)
			w.Mine(1)
			w.Fund(two, money.One)
			w.Mine(2 * depth)
			slow := another(w, core.StepLog, func() { // it has booked the first
				w.Replace(before)
				w.Mine(2 * depth)
				must(w, w.Core.Funding.ReadChain(w.Ctx))
			})
			must(w, slow.Funding.ReadChain(w.Ctx))
			w.Settle()
			for _, a := range []*core.AgentView{one, two} {
				if got := agentOf(w, p, a.ID); got.Wallet.Posted != money.One {
					t.Errorf("%s has %s", a.Name, got.Wallet.Posted)
				}
			}
			w.Balanced()
		})
	}
}

// databases are the options of a world on each database, where eachDatabase has too few.
func databases(t *testing.T) map[string]func(*testing.T) []coretest.Option {
	t.Helper()
	all := map[string]func(*testing.T) []coretest.Option{"sqlite": func(*testing.T) []coretest.Option { return nil }}
	if !testing.Short() {
		all["postgres"] = func(t *testing.T) []coretest.Option {
			return []coretest.Option{coretest.OnPostgres(coretest.Postgres(t))}
		}
	}
	return all
}

// Money is credited when as many blocks lie on top of it as are waited for, and not one block before.
func TestNothingCountsBelowTheDepth(t *testing.T) {
	w := coretest.New(t, coretest.Confirmations(depth))
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	w.Mine(2 * depth)
	at := w.Net.Mined(w.Net.Fund(address(a.Address), money.One)).Block
	for credited := false; !credited; w.Mine(1) {
		must(w, w.Core.Funding.ReadChain(w.Ctx))
		above := w.Height() - at // the chain may have grown by itself since it was read
		got := agentOf(w, p, a.ID).Wallet.Posted
		if credited = got == money.One; credited && above < depth {
			t.Fatalf("credited under %d blocks", above)
		}
		if above > 2*depth {
			t.Fatalf("%s under %d blocks", got, above)
		}
	}
}
