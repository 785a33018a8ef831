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
	"pgregory.net/rapid"

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

// modelHold is a hold as the model knows it.
type modelHold struct {
	id     uuid.UUID
	from   int
	amount money.USDC
	ended  string // "", posted, voided
	posted money.USDC
}

// TestAgainstModel runs random moves on one database and on a model of a dozen lines, and compares each verdict
// and each balance.
func TestAgainstModel(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		rapid.Check(t, func(rt *rapid.T) { modelRun(rt, w) })
	})
}

func modelRun(t *rapid.T, w *world) {
	const accounts, limit = 3, 700
	ids := make([]uuid.UUID, accounts)
	balance, pending := make([]money.USDC, accounts), make([]money.USDC, accounts)
	var spent money.USDC // of the counter that all holds share
	counter := "test:" + uuid.NewString()
	for i := range ids {
		ids[i] = w.open(ledger.Session, ledger.Always)
		balance[i] = money.USDC(rapid.IntRange(1, 500).Draw(t, "funds"))
		w.fund(ids[i], balance[i])
	}
	var holds []*modelHold
	refused := errors.New("limit")
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		amount := money.USDC(rapid.IntRange(0, 200).Draw(t, "amount"))
		switch verb := rapid.SampledFrom([]string{"hold", "hold", "post", "void", "again", "transfer"}).Draw(t, "verb"); verb {
		case "hold":
			i := rapid.IntRange(0, accounts-1).Draw(t, "account")
			r := w.do(ledger.Move{
				Verb: ledger.Hold, Key: uuid.NewString(), Debit: ids[i], Credit: w.platform.Clearing, Amount: amount, Code: "test", Counters: []string{counter},
				Check: func(s map[string]money.USDC) error {
					if s[counter] != spent {
						t.Fatalf("counter %s, model %s", s[counter], spent)
					}
					if s[counter]+amount > limit {
						return refused
					}
					return nil
				},
			})
			want := error(nil)
			switch {
			case amount == 0:
				want = ledger.ErrAmount
			case balance[i]-pending[i] < amount:
				want = ledger.ErrInsufficient
			case spent+amount > limit:
				want = refused
			default:
				pending[i] += amount
				spent += amount
				holds = append(holds, &modelHold{id: r.Transfers[0].ID, from: i, amount: amount})
			}
			if !errors.Is(r.Err, want) || (want == nil && r.Err != nil) {
				t.Fatalf("hold of %s: %v, model %v", amount, r.Err, want)
			}
		case "post", "void", "again":
			if len(holds) == 0 {
				continue
			}
			h := rapid.SampledFrom(holds).Draw(t, "hold")
			m := ledger.Move{Verb: ledger.Void, HoldID: h.id}
			if verb != "void" {
				m = ledger.Move{Verb: ledger.Post, HoldID: h.id, Amount: amount}
			}
			r := w.do(m)
			same := (verb == "void" && h.ended == "voided") || (verb != "void" && h.ended == "posted" && h.posted == amount)
			switch {
			case same:
				if !r.Repeated || r.Err != nil {
					t.Fatalf("repeated end: %+v", r)
				}
			case h.ended != "":
				if !errors.Is(r.Err, ledger.ErrEnded) {
					t.Fatalf("second end: %v", r.Err)
				}
			case verb == "void":
				pending[h.from] -= h.amount
				spent -= h.amount
				h.ended = "voided"
			case amount == 0 || amount > h.amount:
				if !errors.Is(r.Err, ledger.ErrAmount) {
					t.Fatalf("post of %s from %s: %v", amount, h.amount, r.Err)
				}
			default:
				pending[h.from] -= h.amount
				balance[h.from] -= amount
				spent -= h.amount - amount
				h.ended, h.posted = "posted", amount
			}
		case "transfer":
			i, k := rapid.IntRange(0, accounts-1).Draw(t, "from"), rapid.IntRange(0, accounts-1).Draw(t, "to")
			r := w.do(ledger.Move{Verb: ledger.Transfer, Key: uuid.NewString(), Debit: ids[i], Credit: ids[k], Amount: amount, Code: "test"})
			switch {
			case i == k || amount == 0:
				if !errors.Is(r.Err, ledger.ErrAmount) {
					t.Fatalf("transfer: %v", r.Err)
				}
			case balance[i]-pending[i] < amount:
				if !errors.Is(r.Err, ledger.ErrInsufficient) {
					t.Fatalf("transfer: %v", r.Err)
				}
			default:
				if r.Err != nil {
					t.Fatalf("transfer: %v", r.Err)
				}
				balance[i] -= amount
				balance[k] += amount
			}
		}
	}
	states := w.proven(t.Fatalf)
	for i, id := range ids {
		if s := states[id]; s.Balance() != balance[i] || s.DebitsPending != pending[i] {
			t.Fatalf("account %d: %+v, model %s/%s", i, s, balance[i], pending[i])
		}
	}
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
