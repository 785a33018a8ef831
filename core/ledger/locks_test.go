package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core/coretest"
	"bursar/core/ledger"
	"bursar/money"
)

// Each kind of lock has a test in which no other stands in for it.

const (
	price   = 7
	allowed = 60 // calls
	callers = 16
	each    = 15 // calls of one caller
)

// race makes callers × each holds through two batches, as two processes would, and counts what was allowed and refused.
func (w *world) race(refusal error, move func(process int) ledger.Move) {
	w.t.Helper()
	processes := []*ledger.Batch{w.batch, ledger.NewBatch(w.t.Context(), func() time.Time { return w.now }, w.db.Begin)}
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range each {
				r, err := processes[i%2].Do(w.t.Context(), ledger.Unit{Moves: []ledger.Move{move(i % 2)}})
				switch {
				case err == nil && r.Err == nil:
					ok.Add(1)
				case err == nil && errors.Is(r.Err, refusal):
					refused.Add(1)
				default:
					w.t.Error(err, r.Err)
				}
			}
		})
	}
	wg.Wait()
	if ok.Load() != allowed || refused.Load() != callers*each-allowed {
		w.t.Errorf("%d accepted, %d refused", ok.Load(), refused.Load())
	}
}

// TestAccountIsLocked: two processes hold on one account, each under a counter of its own.
func TestAccountIsLocked(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		for _, kind := range []string{ledger.Wallet, ledger.Session} {
			id := w.open(kind, ledger.Always)
			w.fund(id, allowed*price)
			w.race(ledger.ErrInsufficient, func(process int) ledger.Move {
				return ledger.Move{
					Verb: ledger.Hold, Key: uuid.NewString(), Debit: id, Credit: w.platform.Clearing, Amount: price, Code: "test",
					Counters: []string{fmt.Sprintf("own:%s:%d", id, process)},
				}
			})
			if s := w.proven(t.Errorf)[id]; s.DebitsPending != allowed*price {
				t.Errorf("%s: %+v", kind, s)
			}
		}
	})
}

// TestCounterIsLocked: two processes hold under one counter, each on an account of its own.
func TestCounterIsLocked(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		ids := []uuid.UUID{w.open(ledger.Session, ledger.Always), w.open(ledger.Session, ledger.Always)}
		counter := "limit:" + ids[0].String()
		for _, id := range ids {
			w.fund(id, callers*each*price)
		}
		refusal := errors.New("limit")
		w.race(refusal, func(process int) ledger.Move {
			return ledger.Move{
				Verb: ledger.Hold, Key: uuid.NewString(), Debit: ids[process], Credit: w.platform.Clearing, Amount: price, Code: "test",
				Counters: []string{counter},
				Check: func(spent map[string]money.USDC) error {
					if spent[counter]+price > allowed*price {
						return refusal
					}
					return nil
				},
			}
		})
		states := w.proven(t.Errorf)
		if sum := states[ids[0]].DebitsPending + states[ids[1]].DebitsPending; sum != allowed*price {
			t.Errorf("%s are held under a limit of %d", sum, allowed*price)
		}
	})
}

// TestAnswerIsOfTheCommit: what fails at COMMIT, after every statement went well, is not answered as done.
func TestAnswerIsOfTheCommit(t *testing.T) {
	if testing.Short() {
		return // PostgreSQL alone: nothing fails at SQLite's COMMIT but its disk
	}
	t.Run("postgres", func(t *testing.T) {
		w := newWorld(t, coretest.Postgres(t))
		w.in(func(tx ledger.Tx) error {
			_, err := tx.SQL.ExecContext(context.WithoutCancel(t.Context()), `CREATE TABLE parents (id text PRIMARY KEY);
				CREATE TABLE orphans (id text REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`)
			return err
		})
		late := ledger.Row{Into: &ledger.Statement{
			Name: "fails at commit", Columns: []string{"text"}, Postgres: `INSERT INTO orphans (id) SELECT c1 FROM v`,
		}, Values: []any{"nobody"}}
		id := w.open(ledger.Session, ledger.Always)
		w.fund(id, price)
		hold := ledger.Move{Verb: ledger.Hold, Key: uuid.NewString(), Debit: id, Credit: w.platform.Clearing, Amount: price, Code: "test"}
		r, err := w.batch.Do(t.Context(), ledger.Unit{Moves: []ledger.Move{hold}, Rows: func(ledger.Result) []ledger.Row { return []ledger.Row{late} }})
		if err == nil {
			t.Errorf("answered as held: %+v", r.Transfers)
		}
		if s := w.proven(t.Errorf)[id]; s.DebitsPending != 0 {
			t.Errorf("%+v", s)
		}
	})
}
