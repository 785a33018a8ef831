package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/ledger"
	"bursar/money"
)

const chainID = 7

// world is a database with a chart of accounts of its own.
type world struct {
	t        testing.TB
	db       *core.DB
	now      time.Time
	batch    *ledger.Batch
	platform ledger.Platform
}

func newWorld(t testing.TB, url string) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	db, err := core.OpenDB(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{t: t, db: db, now: time.Unix(1_800_000_000, 0).UTC()}
	w.batch = ledger.NewBatch(ctx, func() time.Time { return w.now }, db.Begin)
	w.in(func(tx ledger.Tx) (err error) {
		w.platform, err = ledger.OpenPlatform(ctx, tx.Client, w.now, chainID)
		return err
	})
	return w
}

func (w *world) in(f func(tx ledger.Tx) error) {
	w.t.Helper()
	tx, err := w.db.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := f(tx); err != nil {
		w.t.Fatal(errors.Join(err, tx.SQL.Rollback()))
	}
	if err := tx.SQL.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open(kind string, until int64) (id uuid.UUID) {
	w.t.Helper()
	w.in(func(tx ledger.Tx) (err error) {
		id, err = ledger.Open(w.t.Context(), tx.Client, w.now, ledger.Opening{
			Kind: kind, ChainID: chainID, Owner: uuid.New(), Org: uuid.New(), Agent: uuid.New(), HoldsUntil: until,
		})
		return err
	})
	return id
}

func (w *world) do(moves ...ledger.Move) ledger.Result {
	w.t.Helper()
	r, err := w.batch.Do(w.t.Context(), ledger.Unit{Moves: moves})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) fund(id uuid.UUID, amount money.USDC) {
	w.t.Helper()
	r := w.do(ledger.Move{Verb: ledger.Transfer, Key: uuid.NewString(), Debit: w.platform.External, Credit: id, Amount: amount, Code: "test"})
	if r.Err != nil {
		w.t.Fatal(r.Err)
	}
}

// proven returns the states after proving that every column is the sum of its transfers and that debits equal credits.
func (w *world) proven(fail func(string, ...any)) map[uuid.UUID]ledger.State {
	tx, err := w.db.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = tx.SQL.Rollback() }()
	sums, err := ledger.Sums(w.t.Context(), tx.SQL, chainID, uuid.Nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var debits, credits money.USDC
	out := map[uuid.UUID]ledger.State{}
	for _, s := range sums {
		if s.State.DebitsPending != s.Pending || s.State.DebitsPosted != s.Debits || s.State.CreditsPosted != s.Credits {
			fail("account %+v, transfers %s/%s/%s", s.State, s.Pending, s.Debits, s.Credits)
		}
		if floor, bounded := ledger.Floor(s.State); bounded && floor < 0 {
			fail("account %+v is below zero", s.State)
		}
		debits, credits = debits.Add(s.State.DebitsPosted), credits.Add(s.State.CreditsPosted)
		out[s.State.ID] = s.State
	}
	if debits != credits {
		fail("debits %s, credits %s", debits, credits)
	}
	return out
}

func eachDatabase(t *testing.T, f func(t *testing.T, w *world)) {
	t.Run("sqlite", func(t *testing.T) { f(t, newWorld(t, filepath.Join(t.TempDir(), "ledger.db"))) })
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) { f(t, newWorld(t, coretest.Postgres(t))) })
}

// TestExactlyWhatThereIs: money for 500 holds, 1,000 callers, two batches as two processes would have.
func TestExactlyWhatThereIs(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		id := w.open(ledger.Session, ledger.Always)
		w.fund(id, 500*7)
		other := ledger.NewBatch(t.Context(), func() time.Time { return w.now }, w.db.Begin)
		var ok, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				b := w.batch
				if i%2 == 0 {
					b = other
				}
				m := ledger.Move{Verb: ledger.Hold, Key: fmt.Sprintf("race:%s:%d", id, i), Debit: id, Credit: w.platform.Clearing, Amount: 7, Code: "test", Counters: []string{"race:" + id.String()}}
				r, err := b.Do(t.Context(), ledger.Unit{Moves: []ledger.Move{m}})
				switch {
				case err == nil && r.Err == nil:
					ok.Add(1)
					if _, err := b.Do(t.Context(), ledger.Unit{Moves: []ledger.Move{{Verb: ledger.Post, HoldID: r.Transfers[0].ID, Amount: 7}}}); err != nil {
						t.Error(err)
					}
				case err == nil && errors.Is(r.Err, ledger.ErrInsufficient):
					refused.Add(1)
				default:
					t.Error(err, r.Err)
				}
			})
		}
		wg.Wait()
		if ok.Load() != 500 || refused.Load() != 500 {
			t.Errorf("%d accepted, %d refused", ok.Load(), refused.Load())
		}
		if s := w.proven(t.Errorf)[id]; s.Balance() != 0 || s.DebitsPending != 0 {
			t.Errorf("left: %+v", s)
		}
	})
}

// TestSameCauseMovesOnce: one key, from many callers at once.
func TestSameCauseMovesOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		id := w.open(ledger.Session, ledger.Always)
		w.fund(id, 100)
		other := ledger.NewBatch(t.Context(), func() time.Time { return w.now }, w.db.Begin)
		var first atomic.Int64
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				m := ledger.Move{Verb: ledger.Hold, Key: "cause:" + id.String(), Debit: id, Credit: w.platform.Clearing, Amount: 60, Code: "test"}
				r, err := []*ledger.Batch{w.batch, other}[i%2].Do(t.Context(), ledger.Unit{Moves: []ledger.Move{m}})
				if err != nil || r.Err != nil {
					t.Error(err, r.Err)
				} else if !r.Repeated {
					first.Add(1)
				}
			})
		}
		wg.Wait()
		if first.Load() != 1 {
			t.Errorf("moved %d times", first.Load())
		}
		if s := w.proven(t.Errorf)[id]; s.DebitsPending != 60 {
			t.Errorf("%+v", s)
		}
	})
}

// TestUnitIsAllOrNothing: a unit whose second move is refused, or whose rows fail, leaves no trace, and does not
// hurt those who share its commit.
func TestUnitIsAllOrNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		a, b := w.open(ledger.Session, ledger.Always), w.open(ledger.Session, w.now.Unix()-1)
		w.fund(a, 100)
		w.fund(b, 100)
		hold := func(id uuid.UUID) ledger.Move {
			return ledger.Move{Verb: ledger.Hold, Key: uuid.NewString(), Debit: id, Credit: w.platform.Clearing, Amount: 10, Code: "test", Counters: []string{"all:" + a.String()}}
		}
		if r := w.do(hold(a), hold(b)); !errors.Is(r.Err, ledger.ErrNoHolds) {
			t.Fatalf("an expired account takes a hold: %v", r.Err)
		}
		if s := w.proven(t.Errorf)[a]; s.DebitsPending != 0 {
			t.Errorf("half a unit is left: %+v", s)
		}
		failing := ledger.Row{Into: &ledger.Statement{ // no account's pending debits may be below zero
			Name: "failing", Columns: []string{"uuid"}, Postgres: `UPDATE accounts a SET debits_pending = -1 FROM v WHERE a.id = v.c1`,
			SQLite: `UPDATE accounts SET debits_pending = -1 WHERE id = ?1`,
		}, Values: []any{a.String()}}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				u := ledger.Unit{Moves: []ledger.Move{hold(a)}}
				if i%3 == 0 {
					u.Rows = func(ledger.Result) []ledger.Row { return []ledger.Row{failing} }
				}
				r, err := w.batch.Do(t.Context(), u)
				if failed := err != nil || r.Err != nil; (err != nil && i%3 != 0) || (!failed && i%3 == 0) {
					t.Errorf("caller %d: %v %v", i, r.Err, err)
				}
			})
		}
		wg.Wait()
		if s := w.proven(t.Errorf)[a]; s.DebitsPending != 100 {
			t.Errorf("%+v: 20 of 30 callers asked well, for 10 each of 100", s)
		}
		if s := w.proven(t.Errorf)[b]; s.DebitsPending != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestDatabaseRepeatsTheRules: the CHECK constraints refuse what the code should never ask.
func TestDatabaseRepeatsTheRules(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		id := w.open(ledger.Session, ledger.Always)
		w.fund(id, 10)
		for _, statement := range []string{
			`UPDATE accounts SET debits_pending = 11 WHERE kind = 'session'`,
			`UPDATE accounts SET debits_pending = -1`,
			`UPDATE accounts SET debits_posted = 11 WHERE kind = 'session'`,
			`UPDATE transfers SET posted = amount + 1`,
			`UPDATE transfers SET status = 'voided'`,
			`UPDATE transfers SET amount = 0`,
		} {
			tx, err := w.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.SQL.ExecContext(t.Context(), statement); err == nil {
				t.Errorf("accepted: %s", statement)
			}
			_ = tx.SQL.Rollback()
		}
	})
}
