package core

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
)

// What the chain shows of a payment, in the watcher's transaction.

// settlePayment books a payment that the chain shows, in the watcher's transaction.
func (f *Funding) settlePayment(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) error {
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil {
		return err
	}
	moves := append(f.settlement(t, *t.HoldID, m), f.arrival(to, m)...)
	r, err := tx.units(ctx, teaching(moves, t, m)...)
	if err != nil || r[len(moves)-1].Repeated {
		return err // another process has booked this log since t was read
	}
	if err := f.arrived(ctx, tx, to, m); err != nil {
		return err
	}
	if r[0].Repeated { // its answer has charged it, and has told of its end; t may have been read before that
		return tx.Transaction.UpdateOneID(t.ID).SetTxHash(m.TxHash.Hex()).Exec(ctx)
	}
	return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
		u.SetStatus(transaction.StatusSuccess).SetAmount(m.Amount).SetTxHash(m.TxHash.Hex())
	})
}

// settlement moves what a payment's hold reserves out to the seller: a wallet's at once, a session's into clearing, if its
// answer has not done so, and on from there.
func (f *Funding) settlement(t *ent.Transaction, hold uuid.UUID, m movement) []ledger.Move {
	post := ledger.Move{Verb: ledger.Post, HoldID: hold, Amount: m.Amount, LogKey: m.key, Block: m.Block}
	if t.SessionID == nil {
		return []ledger.Move{post}
	}
	post.LogKey, post.Block = "", 0
	return []ledger.Move{post, {
		Verb: ledger.Transfer, Key: m.key, LogKey: m.key, Block: m.Block, Debit: f.platform.Clearing, Credit: f.platform.External,
		Amount: m.Amount, Code: codeSettlement, TransactionID: t.ID,
	}}
}

// teaching makes units of moves that book a payment's log; with the one that carries the log its price is charged. A session's
// payment is posted by its answer and charges no price by that: its seller may never settle it, and gets nothing then.
func teaching(moves []ledger.Move, t *ent.Transaction, m movement) []ledger.Unit {
	units := apart(moves)
	carries := slices.IndexFunc(moves, func(move ledger.Move) bool { return move.LogKey != "" })
	units[carries].Rows = func(ledger.Result) []ledger.Row { return charged(t, m.Amount) }
	return units
}

// Codes of transfers that a reorganisation treats in their own way.
const (
	codeLate       = "late"
	codeSettlement = "settlement"
)

// settleLate books a payment that was given up as dead and is on the chain after all, which only a reorganisation below
// the confirmed depth can bring: the wallet pays, or the session as far as it still can. It is held for again, so that it
// counts for its limits again. A session's payment keeps the new hold: it is charged like any other from here on, and
// comes back from clearing should its proof expire unused. Nothing that left is missed.
func (f *Funding) settleLate(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) error {
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil {
		return err
	}
	hold, err := f.holdLate(ctx, tx, t, m)
	if err != nil {
		return err
	}
	moves := slices.Concat([]ledger.Move{hold}, f.settlement(t, hold.ID, m), f.arrival(to, m))
	r, err := tx.units(ctx, teaching(moves, t, m)...)
	if err != nil || r[0].Repeated {
		return err
	}
	if err := f.arrived(ctx, tx, to, m); err != nil {
		return err
	}
	return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
		u.SetStatus(transaction.StatusSuccess).SetAmount(m.Amount).SetTxHash(m.TxHash.Hex()).SetReason("The proof was used after all")
		if t.SessionID != nil {
			u.SetHoldID(hold.ID)
		}
	})
}

// finishLate is settleLate for a payment that we send ourselves. The operation gets the new hold, so that it is sent again should
// its block be lost; it ends as expired once more when no other has it.
func (f *Funding) finishLate(ctx context.Context, tx *Tx, op *ent.Operation, m movement) error {
	t, err := tx.Transaction.Get(ctx, op.TransactionID)
	if err != nil {
		return err
	}
	hold, err := f.holdLate(ctx, tx, t, m)
	if err != nil {
		return err
	}
	n, err := tx.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(op.Status)).SetHoldID(hold.ID).Save(ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		return errMoved
	}
	op.HoldID = &hold.ID
	if err := f.finishOperation(ctx, tx, op, m, hold); err != nil {
		return err
	}
	return tx.Transaction.UpdateOneID(t.ID).SetHoldID(hold.ID).SetReason("It was mined after all").Exec(ctx)
}

// holdLate is the hold of a payment that was given up, as it was the first time but for who pays. Its id follows from the
// log: of two processes that book it, the second finds all that the first has done.
func (f *Funding) holdLate(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) (ledger.Move, error) {
	first, err := tx.Transfer.Get(ctx, *t.HoldID)
	if err != nil {
		return ledger.Move{}, err
	}
	from, err := f.latePayer(ctx, tx, t, m)
	return ledger.Move{
		Verb: ledger.Hold, ID: uuid.NewSHA1(t.ID, []byte(m.key)), Key: m.key + ":late", Debit: from, Credit: first.CreditID,
		Amount: m.Amount, Code: codeLate, TransactionID: t.ID, Counters: strings.Fields(first.Counters), Owed: true,
	}, err
}

func (f *Funding) latePayer(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) (uuid.UUID, error) {
	if t.SessionID == nil {
		return ledger.Find(ctx, tx.Client, ledger.Wallet, f.chainID(), t.AgentID)
	}
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), *t.SessionID)
	if err != nil {
		return uuid.Nil, err
	}
	a, err := tx.Account.Get(ctx, owner)
	if err != nil {
		return uuid.Nil, err
	}
	if ledger.StateOf(a).Available() >= m.Amount {
		return owner, nil
	}
	f.log.ErrorContext(ctx, "a session's payment was used after its money had gone back", "transaction_id", t.ID)
	return f.platform.Suspense, nil
}

// settleTx gives a payment its end, and tells of it.
func settleTx(ctx context.Context, tx *Tx, t *ent.Transaction, end func(*ent.TransactionUpdateOne)) error {
	u := tx.Transaction.UpdateOneID(t.ID).SetSettledAt(tx.Now)
	end(u)
	if err := u.Exec(ctx); err != nil {
		return err
	}
	outcome := PaymentFailed
	if status, _ := u.Mutation().Status(); status == transaction.StatusSuccess {
		outcome = PaymentCharged
	}
	tx.done = append(tx.done, outcome)
	return tx.paymentSettled(ctx, t)
}
