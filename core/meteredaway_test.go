package core_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// bookings are ways in which a metered call ends, with what it costs.
var bookings = []struct {
	path   string
	cost   money.USDC
	status transaction.Status
	err    core.Code
}{
	{"complete?tokens=3", 3 * cent, transaction.StatusSuccess, ""},
	{"complete?tokens=0", 0, transaction.StatusSuccess, ""},
	{"fail", 0, transaction.StatusFailed, ""},
	{"reset", 0, transaction.StatusFailed, core.ServiceFailed},
}

// booked makes metered calls of all kinds, from the session and the wallet, and one each that a session's proof and its transfer pay, with something that happens to the database between the
// answer and the booking, and demands that each is charged once, and told of as it is.
func (m *metering) booked(deps core.Deps, happens func()) {
	m.T.Helper()
	deps.Step = func(step string) {
		if step == core.StepPaid {
			happens()
		}
	}
	app, err := core.New(m.Ctx, deps)
	must(m.World, err)
	told, err := app.Transactions.Watch(m.Ctx, m.p, nil)
	must(m.World, err)
	var charged money.USDC
	ends := 0 // in the call; a wallet's charge ends with its block
	for _, b := range bookings {
		for _, from := range []string{"", m.session.ID.String()} {
			name := fmt.Sprintf("%s from %q", b.path, from)
			r, err := app.Payments.Fetch(m.Ctx, m.p, core.FetchInput{Service: "model", URL: b.path, SessionID: from})
			if code(err) != b.err || (err == nil && (r.Cost != b.cost || r.Payment.Status == transaction.StatusFailed && b.cost > 0)) {
				m.T.Errorf("%s: %+v %v", name, r, err)
			}
			charged += b.cost
			if from != "" || b.cost == 0 {
				ends++
			}
			m.Settle()
			m.Clock.Ahead(2 * time.Minute) // no hold is left for the job to give up
			must(m.World, m.Core.Payments.ReleaseMetered(m.Ctx))
			m.newest(name, b.status, b.cost)
		}
	}
	r, err := app.Payments.Fetch(m.Ctx, m.p, core.FetchInput{URL: m.Seller(cent).Link(2, paytest.Serve, 0), SessionID: m.session.ID.String()})
	if err != nil || r.Payment.Status != transaction.StatusSuccess || r.Payment.Amount != cent || string(r.Body) == "" {
		m.T.Errorf("paid by a proof: %+v %v", r, err)
	}
	charged, ends = charged+cent, ends+1
	_, link := newTillOf(m.World)
	setPolicy(m.World, m.p, m.agent.ID, core.PolicyInput{AllowedServices: &[]string{"127.0.0.1"}})
	r, err = app.Payments.Fetch(m.Ctx, m.p, core.FetchInput{URL: link, SessionID: m.session.ID.String()})
	if err != nil || string(r.Body) != "served" || r.Payment.UpstreamStatus != http.StatusOK {
		m.T.Errorf("paid by a transfer: %+v %v", r, err)
	}
	charged += cent
	m.Settle()
	inSession, inWallet := m.left()
	if got := 3*money.One - inSession - inWallet; got != charged {
		m.T.Errorf("charged %s, not %s", got, charged)
	}
	m.sound()
	for range ends {
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			m.T.Fatal("the end of a payment was not told")
		}
	}
	select {
	case again := <-told:
		m.T.Errorf("told again: %s", again)
	case <-time.After(100 * time.Millisecond):
	}
}

// TestMeteredWhileTheDatabaseIsAway: a call that was served is charged and handed on, although the books could not be written for
// a moment.
func TestMeteredWhileTheDatabaseIsAway(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		db := raw(t, w)
		goes, comes := "CREATE TRIGGER away BEFORE UPDATE ON transactions BEGIN SELECT RAISE(ABORT, 'away'); END", "DROP TRIGGER away"
		if w.DB.Dialect == "postgres" {
			exec(t, db, "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'away'; END $$")
			goes, comes = "CREATE TRIGGER away BEFORE UPDATE ON transactions FOR EACH ROW EXECUTE FUNCTION away()", "DROP TRIGGER away ON transactions"
		}
		var back sync.WaitGroup
		defer back.Wait()
		m.booked(w.Deps, func() {
			back.Wait()
			exec(t, db, goes)
			back.Go(func() {
				time.Sleep(100 * time.Millisecond)
				if _, err := db.Exec(comes); err != nil {
					t.Error(err)
				}
			})
		})
	})
}

// TestMeteredWhoseCommitIsLost: what has happened to a COMMIT whose answer did not come is found out, and told as it is. SQLite has no
// wire to break.
func TestMeteredWhoseCommitIsLost(t *testing.T) {
	if testing.Short() {
		return
	}
	const tries = 4 // of a batch, until its caller hears of it
	t.Run("postgres", func(t *testing.T) {
		for name, plan := range map[string][]coretest.Break{
			"it was made":                 {coretest.AfterCommit},
			"it was not":                  {coretest.BeforeCommit},
			"it was made the second time": {coretest.BeforeCommit, coretest.AfterCommit},
			"it was made, and the batch has given up asking": append([]coretest.Break{coretest.AfterCommit}, slices.Repeat([]coretest.Break{coretest.BeforeCommit}, tries-1)...),
			"it was made after the batch has given up":       append(slices.Repeat([]coretest.Break{coretest.BeforeCommit}, tries), coretest.AfterCommit),
		} {
			t.Run(name, func(t *testing.T) {
				w := coretest.New(t, coretest.OnPostgres(coretest.Postgres(t)))
				m := newMetering(t, w, slug((*api).perToken, "model"))
				wire := coretest.NewWire(t, w.DB.URL)
				deps := w.Deps
				var err error
				deps.DB, err = core.OpenDB(w.Ctx, wire.URL())
				must(w, err)
				t.Cleanup(func() { _ = deps.DB.Close() })
				m.booked(deps, func() { wire.Set(plan...) })
			})
		}
	})
}
