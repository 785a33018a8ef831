package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"bursar/core/ledger"
	"bursar/money"
)

// snapshot is what the columns of some accounts said at a moment.
type snapshot struct {
	at     time.Time
	states map[uuid.UUID]ledger.State
}

// TestPastIsWhatWas remembers the columns after each step of a random history, and asks for them afterwards: at the
// very moment of the step, and up to the microsecond before the next.
func TestPastIsWhatWas(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		rapid.Check(t, func(rt *rapid.T) { pastRun(rt, w) })
	})
}

func pastRun(t *rapid.T, w *world) {
	ids := []uuid.UUID{w.open(ledger.Session, ledger.Always), w.open(ledger.Wallet, ledger.Always)}
	var snapshots []snapshot
	var holds []uuid.UUID
	took := func() {
		states := w.states(ids)
		if n := len(snapshots); n > 0 && snapshots[n-1].at.Equal(w.now) {
			snapshots[n-1].states = states // what several commits of one moment have done is seen together
			return
		}
		snapshots = append(snapshots, snapshot{w.now, states})
	}
	took()
	for range rapid.IntRange(1, 15).Draw(t, "steps") {
		// Steps of no time at all, of microseconds and of odd fractions: the text of a moment has trailing zeros cut off.
		w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int64{0, 1, 9, 90, 100, 999_999, 1_000_000, 86_400_000_000}).Draw(t, "pass")) * time.Microsecond)
		amount := money.USDC(rapid.IntRange(1, 100).Draw(t, "amount"))
		i := rapid.IntRange(0, 1).Draw(t, "account")
		switch verb := rapid.SampledFrom([]string{"fund", "hold", "hold", "post", "void", "transfer"}).Draw(t, "verb"); verb {
		case "fund":
			w.fund(ids[i], amount)
		case "hold":
			r := w.do(ledger.Move{Verb: ledger.Hold, Key: uuid.NewString(), Debit: ids[i], Credit: w.platform.Clearing, Amount: amount, Code: "test"})
			if r.Err == nil {
				holds = append(holds, r.Transfers[0].ID)
			}
		case "post", "void":
			if len(holds) == 0 {
				continue
			}
			m := ledger.Move{Verb: ledger.Void, HoldID: rapid.SampledFrom(holds).Draw(t, "hold")}
			if verb == "post" {
				m = ledger.Move{Verb: ledger.Post, HoldID: m.HoldID, Amount: amount}
			}
			w.do(m)
		case "transfer":
			w.do(ledger.Move{Verb: ledger.Transfer, Key: uuid.NewString(), Debit: ids[i], Credit: ids[1-i], Amount: amount, Code: "test"})
		}
		took()
	}
	w.compare(t.Fatalf, snapshots)
}

func (w *world) compare(fail func(string, ...any), snapshots []snapshot) {
	w.in(func(tx ledger.Tx) error {
		for i, s := range snapshots {
			moments := []time.Time{s.at, s.at.Add(999 * time.Nanosecond), s.at.In(time.FixedZone("east", 5*3600))}
			if i+1 < len(snapshots) {
				moments = append(moments, snapshots[i+1].at.Add(-time.Microsecond))
			}
			for _, at := range moments {
				for id, want := range s.states {
					got, err := ledger.At(w.t.Context(), tx.SQL, tx.Dialect, chainID, want.OwnerID, want.OrgID, at)
					if err != nil {
						return err
					}
					if got.Posted != want.Balance() || got.Pending != want.DebitsPending || got.Available() != want.Available() {
						fail("account %s at %s: %+v, it was %+v", id, at, got, want)
					}
				}
			}
		}
		return nil
	})
}

// states reads the columns of accounts.
func (w *world) states(ids []uuid.UUID) map[uuid.UUID]ledger.State {
	out := map[uuid.UUID]ledger.State{}
	w.in(func(tx ledger.Tx) error {
		for _, id := range ids {
			a, err := tx.Client.Account.Get(w.t.Context(), id)
			if err != nil {
				return err
			}
			out[id] = ledger.StateOf(a)
		}
		return nil
	})
	return out
}

// TestPastOfOthers: another organisation's account, another chain's and the platform's own are unknown; before its first
// transfer an account had nothing.
func TestPastOfOthers(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		id := w.open(ledger.Wallet, ledger.Always)
		before := w.now
		w.now = w.now.Add(time.Second)
		w.fund(id, 10)
		s := w.states([]uuid.UUID{id})[id]
		w.in(func(tx ledger.Tx) error {
			for name, ask := range map[string]struct {
				chain      uint64
				owner, org uuid.UUID
			}{
				"organisation": {chainID, s.OwnerID, uuid.New()},
				"chain":        {chainID + 1, s.OwnerID, s.OrgID},
				"platform":     {chainID, uuid.Nil, uuid.Nil},
			} {
				if _, err := ledger.At(t.Context(), tx.SQL, tx.Dialect, ask.chain, ask.owner, ask.org, w.now); !errors.Is(err, ledger.ErrUnknown) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if p, err := ledger.At(t.Context(), tx.SQL, tx.Dialect, chainID, s.OwnerID, s.OrgID, before); err != nil || p != (ledger.Past{}) {
				t.Errorf("before: %+v %v", p, err)
			}
			return nil
		})
	})
}
