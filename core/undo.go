package core

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/ent/transfer"
	"bursar/money"
)

// How a reorganisation takes back what was booked of the blocks that it abandons.

const (
	codeUndo = "undo"
	keyAgain = ":again:" // in the key of a hold for what waits for its block once more
)

// undone is one transfer that is taken back: the moves for it, and what else changes when they are made.
type undone struct {
	moves []ledger.Move
	after func(ctx context.Context, tx *Tx, results []ledger.Result) error
}

// undo takes back the transfers of the blocks above a number, last first, so that no account falls below what it may
// on the way: the chain has gone the same way up.
func (f *Funding) undo(ctx context.Context, tx *Tx, above int64) error {
	booked, err := tx.Transfer.Query().Where(transfer.BlockGT(above), transfer.StatusEQ(transfer.StatusPosted)).All(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(booked, func(a, b *ent.Transfer) int {
		return cmp.Or(cmp.Compare(*b.Block, *a.Block), cmp.Compare(logIndex(b), logIndex(a)), cmp.Compare(b.ID.String(), a.ID.String()))
	})
	var plans []undone
	var moves []ledger.Move
	free := map[uuid.UUID]money.USDC{}
	for _, t := range booked {
		already, err := tx.Transfer.Query().Where(transfer.Key(undoKey(causeOf(t)))).Exist(ctx)
		if err != nil {
			return err
		}
		if already {
			continue
		}
		p, err := f.plan(ctx, tx, t, free)
		if err != nil {
			return err
		}
		plans, moves = append(plans, p), append(moves, p.moves...)
	}
	results, err := tx.moves(ctx, moves...)
	if err != nil {
		return err
	}
	for _, p := range plans {
		if p.after != nil {
			if err := p.after(ctx, tx, results[:len(p.moves)]); err != nil {
				return err
			}
		}
		results = results[len(p.moves):]
	}
	return nil
}

// causeOf is the key of the log that a transfer was posted by; an arrival has its own.
func causeOf(t *ent.Transfer) string {
	if t.LogKey != nil {
		return *t.LogKey
	}
	return t.Key
}

// logIndex reads the index back from a key of the form log:<tx>:<index>:<block>.
func logIndex(t *ent.Transfer) int {
	parts := strings.SplitN(causeOf(t), ":", 4)
	if len(parts) < 3 {
		return 0
	}
	n, err := strconv.Atoi(parts[2])
	if err != nil {
		return 0
	}
	return n
}

// plan says how one transfer is taken back. free is what sessions can hold for, by their accounts, after the plans before it.
func (f *Funding) plan(ctx context.Context, tx *Tx, t *ent.Transfer, free map[uuid.UUID]money.USDC) (undone, error) {
	back := ledger.Move{
		Verb: ledger.Transfer, Key: undoKey(causeOf(t)), Debit: t.CreditID, Credit: t.DebitID, Amount: t.Posted, Code: codeUndo,
		Counters: strings.Fields(t.Counters),
	}
	if t.TransactionID != nil {
		back.TransactionID = *t.TransactionID
	}
	op, err := tx.Operation.Query().Where(operation.HoldID(t.ID)).Only(ctx)
	if err == nil {
		return f.planOperation(t, op, back), nil
	}
	if !ent.IsNotFound(err) {
		return undone{}, err
	}
	if t.TransactionID == nil {
		return undone{moves: []ledger.Move{back}, after: forget(t)}, nil
	}
	payment, err := tx.Transaction.Get(ctx, *t.TransactionID)
	if err != nil {
		return undone{}, err
	}
	if upTo(payment) && payment.SessionID != nil && payment.HoldID != nil && t.Code == codeSettlement {
		return f.planUpTo(ctx, tx, payment, back, free)
	}
	return planPayment(t, payment, back), nil
}

// again is the hold for something of ours that waits for its block once more.
func again(t *ent.Transfer, key string, amount money.USDC) ledger.Move {
	m := ledger.Move{
		Verb: ledger.Hold, Key: key + keyAgain + t.ID.String(), Debit: t.DebitID, Credit: t.CreditID, Amount: amount, Code: t.Code,
		Counters: strings.Fields(t.Counters), Owed: true, Again: true,
	}
	if t.TransactionID != nil {
		m.TransactionID = *t.TransactionID
	}
	return m
}

func (f *Funding) planOperation(t *ent.Transfer, op *ent.Operation, back ledger.Move) undone {
	hold := again(t, op.Key, t.Posted)
	switch op.Kind {
	case operation.KindDeposit:
		back.Debit, hold.Credit = f.platform.Suspense, f.platform.Suspense
	case operation.KindRefund:
		back.Credit, hold.Debit = f.platform.Suspense, f.platform.Suspense
	case operation.KindDrain, operation.KindGas, operation.KindTopUp, operation.KindPermit, operation.KindAllowance, operation.KindCharge, operation.KindPayout, operation.KindTransfer:
	}
	return undone{moves: []ledger.Move{back, hold}, after: func(ctx context.Context, tx *Tx, r []ledger.Result) error {
		held := r[1].Transfers[0].ID
		if err := tx.Operation.UpdateOneID(op.ID).SetHoldID(held).Exec(ctx); err != nil {
			return err
		}
		if err := tx.Transaction.Update().Where(transaction.ID(op.TransactionID)).SetHoldID(held).Exec(ctx); err != nil {
			return err
		}
		if err := unfinish(ctx, tx, op); err != nil {
			return err
		}
		return f.sessionUnmined(ctx, tx, op)
	}}
}

// sessionUnmined takes a session back with its deposit: no call is paid from it until that is mined again. With its
// refund it is closing once more.
func (f *Funding) sessionUnmined(ctx context.Context, tx *Tx, op *ent.Operation) error {
	if op.SessionID == nil {
		return nil
	}
	u := tx.Session.Update().Where(session.ID(*op.SessionID))
	if op.Kind == operation.KindDeposit {
		u.Where(session.StatusIn(session.StatusOpen, session.StatusExpired)).SetStatus(session.StatusOpening)
	} else {
		u.Where(session.StatusEQ(session.StatusClosed)).SetStatus(session.StatusClosing).ClearClosedAt()
	}
	n, err := u.Save(ctx)
	if err != nil || n == 0 {
		return err
	}
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), *op.SessionID)
	if err != nil {
		return err
	}
	if _, err := tx.move(ctx, ledger.Move{Verb: ledger.Limit, Debit: owner, HoldsUntil: 0}); err != nil {
		return err
	}
	v, err := tx.Session.Get(ctx, *op.SessionID)
	if err != nil {
		return err
	}
	return tx.sessionChanged(ctx, v)
}

// planPayment takes back a payment's log: one from a wallet is held for again, one from a session stays charged and
// only waits for its settlement, and one from a wallet that was booked late had been given up.
func planPayment(t *ent.Transfer, payment *ent.Transaction, back ledger.Move) undone {
	if payment.HoldID == nil || *payment.HoldID != t.ID {
		return undone{moves: []ledger.Move{back}, after: func(ctx context.Context, tx *Tx, _ []ledger.Result) error {
			u := tx.Transaction.UpdateOneID(payment.ID).ClearTxHash()
			if t.Code == codeLate {
				u.SetStatus(transaction.StatusFailed).SetAmount(0).SetReason(expiredUnused)
			}
			return u.Exec(ctx)
		}}
	}
	return undone{moves: []ledger.Move{back, again(t, t.Key, t.Amount)}, after: heldAgain(payment, 1)}
}

// planUpTo takes back the settlement of a session's payment whose price is a maximum. It was charged by that alone, and may
// be settled for another amount: it is held for again, all of it. What was less than the maximum may have been spent or have gone
// back; then suspense stands in, and what is returned now is the session's own.
func (f *Funding) planUpTo(ctx context.Context, tx *Tx, payment *ent.Transaction, back ledger.Move, free map[uuid.UUID]money.USDC) (undone, error) {
	hold, err := tx.Transfer.Get(ctx, *payment.HoldID)
	if err != nil {
		return undone{}, err
	}
	payer, err := tx.Account.Get(ctx, hold.DebitID)
	if err != nil {
		return undone{}, err
	}
	returned := ledger.Move{
		Verb: ledger.Transfer, Key: back.Key + ":charge", Debit: hold.CreditID, Credit: payer.ID, Amount: hold.Posted, Code: codeUndo,
		TransactionID: payment.ID, Counters: strings.Fields(hold.Counters),
	}
	held := again(hold, back.Key, payment.Quoted)
	if _, known := free[payer.ID]; !known {
		free[payer.ID] = ledger.StateOf(payer).Available()
	}
	free[payer.ID] = free[payer.ID].Add(hold.Posted)
	if free[payer.ID] >= held.Amount {
		free[payer.ID] = free[payer.ID].Sub(held.Amount)
	} else {
		held.Debit = f.platform.Suspense
	}
	return undone{moves: []ledger.Move{back, returned, held}, after: func(ctx context.Context, tx *Tx, r []ledger.Result) error {
		return errors.Join(heldAgain(payment, 2)(ctx, tx, r), tx.reopen(ctx, payment.SessionID))
	}}, nil
}

// heldAgain opens a payment again, under the hold that one of the moves has made.
func heldAgain(payment *ent.Transaction, hold int) func(context.Context, *Tx, []ledger.Result) error {
	return func(ctx context.Context, tx *Tx, r []ledger.Result) error {
		return tx.Transaction.UpdateOneID(payment.ID).SetHoldID(r[hold].Transfers[0].ID).SetStatus(transaction.StatusPending).SetAmount(0).
			ClearTxHash().ClearSettledAt().Exec(ctx)
	}
}

// forget ends the records of movements that nobody here had ordered: all of a chain transaction are gone together.
func forget(t *ent.Transfer) func(context.Context, *Tx, []ledger.Result) error {
	return func(ctx context.Context, tx *Tx, _ []ledger.Result) error {
		hash, _, _ := strings.Cut(strings.TrimPrefix(causeOf(t), "log:"), ":")
		return tx.Transaction.Update().Where(
			transaction.TxHash(hash), transaction.KindIn(transaction.KindFund, transaction.KindDrain), transaction.HoldIDIsNil(),
		).SetStatus(transaction.StatusFailed).SetAmount(0).SetReason("The chain has taken it back").Exec(ctx)
	}
}
