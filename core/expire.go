package core

import (
	"context"
	"errors"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
)

// ExpireOperations ends the operations whose authorization is dead: the watcher has read past its time and has
// not seen it. The money is free again; a refund is begun anew by the session's own job, and what a metered call costs is
// asked for once more.
func (f *Funding) ExpireOperations(ctx context.Context) error {
	at, err := f.db.readEnt.Cursor.Get(ctx, int(f.chainID()))
	if err != nil {
		return err
	}
	dead, err := f.db.readEnt.Operation.Query().Where(
		operation.StatusIn(operation.StatusAuthorized, operation.StatusSigned, operation.StatusSent, operation.StatusIncluded),
		operation.HoldIDNotNil(), operation.ValidBeforeUnixLTE(at.TimeUnix),
	).Order(operation.ByID()).All(ctx)
	if err != nil {
		return err
	}
	for _, op := range dead {
		wait, err := f.usedLately(ctx, onceOnly{from: op.FromAddress, nonce: *op.AuthNonce, ends: op.ValidBeforeUnix}, at)
		if err != nil {
			return err
		}
		if wait {
			continue
		}
		again, err := f.mayCollect(ctx, op, at)
		if err != nil {
			return err
		}
		if again {
			err = f.collectAgain(ctx, op)
		} else {
			err = f.expire(ctx, op)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Funding) expire(ctx context.Context, op *ent.Operation) error {
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(op.Status)).SetStatus(operation.StatusExpired).Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		held, err := tx.move(ctx, ledger.Move{Verb: ledger.Void, HoldID: *op.HoldID})
		if err != nil {
			return err
		}
		if err := tx.Transaction.Update().Where(transaction.ID(op.TransactionID)).SetStatus(transaction.StatusFailed).SetAmount(0).SetSettledAt(tx.Now).
			SetReason("The authorization expired before it was mined: nothing moved").Exec(ctx); err != nil {
			return err
		}
		switch op.Kind {
		case operation.KindDeposit:
			return f.notDeposited(ctx, tx, op)
		case operation.KindRefund:
			return f.notRefunded(ctx, tx, op, held.Transfers[0])
		case operation.KindCharge, operation.KindTransfer:
			return errors.Join(tx.reopen(ctx, op.SessionID), tx.chargeEnded(ctx, op, PaymentFailed))
		case operation.KindDrain, operation.KindGas, operation.KindTopUp, operation.KindPermit, operation.KindAllowance, operation.KindPayout: // paid anew by its job
		}
		return nil
	})
}

// notDeposited ends a session whose deposit has died. One that was open before a reorganisation took its deposit
// closes: what it has left never came, and goes back to suspense.
func (f *Funding) notDeposited(ctx context.Context, tx *Tx, op *ent.Operation) error {
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), *op.SessionID)
	if err != nil {
		return err
	}
	a, err := tx.Account.Get(ctx, owner)
	if err != nil {
		return err
	}
	u := tx.Session.Update().Where(session.ID(*op.SessionID), session.StatusEQ(session.StatusOpening))
	if a.CreditsPosted > 0 {
		u.SetStatus(session.StatusClosing)
	} else {
		u.SetStatus(session.StatusFailed).SetClosedAt(tx.Now)
	}
	if err := u.Exec(ctx); err != nil {
		return err
	}
	v, err := tx.Session.Get(ctx, *op.SessionID)
	if err != nil {
		return err
	}
	return tx.sessionChanged(ctx, v)
}

// notRefunded gives a session back what a reorganisation had moved to suspense for its refund, so that the session's
// job refunds it anew. A refund that was never mined has its money in the session still.
func (f *Funding) notRefunded(ctx context.Context, tx *Tx, op *ent.Operation, held ledger.Entry) error {
	if held.Debit != f.platform.Suspense {
		return nil
	}
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), *op.SessionID)
	if err != nil {
		return err
	}
	_, err = tx.move(ctx, ledger.Move{
		Verb: ledger.Transfer, Key: op.Key + ":lost", Debit: f.platform.Suspense, Credit: owner, Amount: op.Amount, Code: "lost", TransactionID: op.TransactionID,
	})
	return err
}
