// Package ledger is the only writer of accounts, transfers and usage counters. Money moves by transfers, each
// of which debits one account and credits one other by one amount, so the books balance by shape. A hold is a
// pending transfer: it reserves the amount on the paying side until it is posted or voided, once.
package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"bursar/money"
)

// Refusals. None of them moves anything.
var (
	// ErrInsufficient says that the debited account's available (or posted) balance is too small.
	ErrInsufficient = errors.New("ledger: insufficient balance")
	// ErrNoHolds says that the account takes no holds now: its session is not open, or has expired.
	ErrNoHolds = errors.New("ledger: account takes no holds")
	// ErrEnded says that the hold has ended in another way already.
	ErrEnded = errors.New("ledger: hold has ended otherwise")
	// ErrUnknown says that an account or a hold does not exist.
	ErrUnknown = errors.New("ledger: no such account or hold")
	// ErrChanged says that the unit's guard does not hold any more.
	ErrChanged = errors.New("ledger: what the unit was judged by has changed")
	// ErrMissed says that a row which a unit was to change is not there, or not as it must be.
	ErrMissed = errors.New("ledger: row missed")
	// ErrAmount says that an amount is not positive, or above what is held.
	ErrAmount = errors.New("ledger: bad amount")
)

// Verdict reports whether an error is one of the ledger's own: asking again is answered the same. Any other is the database's, whose
// outcome is open.
func Verdict(err error) bool {
	return slices.ContainsFunc([]error{ErrInsufficient, ErrNoHolds, ErrEnded, ErrUnknown, ErrChanged, ErrMissed, ErrAmount}, func(verdict error) bool {
		return errors.Is(err, verdict)
	})
}

// Verb is what a Move does.
type Verb int

// The verbs of money.
const (
	Hold     Verb = iota + 1 // reserve Amount on Debit
	Post                     // end the hold HoldID by moving Amount (at most what is held); the rest is freed
	Void                     // end the hold HoldID by moving nothing
	Transfer                 // move Amount at once
	Limit                    // set the account Debit's HoldsUntil
)

// Move is one step of a Unit. Which fields a verb reads is said at the verb and the field.
type Move struct {
	Verb          Verb
	ID            uuid.UUID // Hold, Transfer: of the transfer; uuid.Nil makes one
	Key           string    // Hold, Transfer: the cause; the same cause moves money once
	Debit, Credit uuid.UUID // Hold, Transfer; Limit: Debit
	Amount        money.USDC
	Code          string    // Hold, Transfer: what kind of movement, for people
	TransactionID uuid.UUID // Hold, Transfer: the history record, or uuid.Nil
	HoldID        uuid.UUID // Post, Void
	LogKey        string    // Post, Transfer: the chain log that shows it, or ""
	Block         uint64    // Post, Transfer: the block that shows it, or 0
	Owed          bool      // Hold: money that has been promised before; made whatever is available
	Again         bool      // Hold: of a call that its counters have counted already
	HoldsUntil    int64     // Limit: unix seconds

	// Counters are raised with a hold and lowered by what is not posted; a transfer lowers them, for money that
	// comes back. Read are looked at besides. Check is asked with both, under their locks; its error refuses the unit.
	Counters, Read []string
	Check          func(spent map[string]money.USDC) error
}

// Unit is what commits together or not at all: moves, judged in order, and the rows that go with them.
type Unit struct {
	// Guard holds the unit to what the caller has read before: ErrChanged refuses it when that is no longer so.
	Guard Guard
	Moves []Move
	// Rows are written with the moves; there may be rows without any. It is not asked when the unit is refused, nor when
	// it repeats a cause that was committed before.
	Rows func(r Result) []Row
}

// Result is the verdict on one unit.
type Result struct {
	Err      error // nil, or why nothing moved
	Repeated bool  // the cause was committed before; nothing moved now
	// Transfers has one element a move (zero for Limit), as it stands after the unit.
	Transfers []Entry
	// Accounts are the states after the unit of every account that it touched.
	Accounts map[uuid.UUID]State
}

// Entry is a transfer as the ledger knows it.
type Entry struct {
	ID            uuid.UUID
	Key           string
	Debit, Credit uuid.UUID
	Status        string // pending, posted, voided
	Amount        money.USDC
	Posted        money.USDC
	Code          string
	TransactionID uuid.UUID
	Counters      []string
	LogKey        string
	Block         uint64
}

// State is an account's columns at one version.
type State struct {
	ID            uuid.UUID
	Kind          string
	OwnerID       uuid.UUID
	OrgID         uuid.UUID
	AgentID       uuid.UUID
	DebitsPending money.USDC
	DebitsPosted  money.USDC
	CreditsPosted money.USDC
	HoldsUntil    int64
	Version       int64
}

// Balance is what the account holds, reserved money included.
func (s State) Balance() money.USDC { return s.CreditsPosted.Sub(s.DebitsPosted) }

// Available is what may still be reserved. A wallet's can be negative: see the chart.
func (s State) Available() money.USDC { return s.Balance().Sub(s.DebitsPending) }

// Apply judges units in order inside the caller's transaction and writes what they change. An error is the
// database's and means that the transaction must be rolled back; refusals are in the results.
func Apply(ctx context.Context, tx Tx, now time.Time, units []Unit) ([]Result, error) {
	b, err := load(ctx, tx, units)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(units))
	for i, u := range units {
		results[i] = b.judge(now, u)
	}
	w := &writer{tx: tx}
	b.store(w, now)
	for i, u := range units {
		if u.Rows == nil || results[i].Err != nil || results[i].Repeated {
			continue
		}
		for _, row := range u.Rows(results[i]) {
			w.add(row.Into, row.Values...)
		}
	}
	if err := w.flush(ctx); err != nil {
		return nil, err
	}
	return results, nil
}
