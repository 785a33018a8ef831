package core

import (
	"context"
	"errors"
	"net/http"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/predicate"
	"bursar/ent/transaction"
	"bursar/pay"
)

// Whose hand a transfer is in. One call at a time shows a hash: the one that made it, and later, when the service still owes
// what was paid for, another of the same. The operation's row says which call that is and until when, so that a transfer
// whose call died is free again by itself; a call writes how the service has answered only while the row is its own.

// unserved are the answers after which the service still owes what was paid for: none, "not paid", and a failure of its own.
var unserved = transaction.Or(
	transaction.UpstreamStatusIsNil(), transaction.UpstreamStatus(http.StatusPaymentRequired), transaction.UpstreamStatusGTE(http.StatusInternalServerError),
)

// owed finds a transfer of an earlier call of the same that was not served, and takes it in hand for the decision. Without
// one the decision has no payment yet.
func (f *Payments) owed(ctx context.Context, c *call, d *decision) error {
	for {
		op, err := f.db.writeEnt.Operation.Query().Where(f.sameTransfer(c, d.offer), paysFor(owing(c, d.offer))).Order(operation.ByID()).First(ctx)
		if ent.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		err = f.takeInHand(ctx, c, d, op)
		if !errors.Is(err, errMoved) {
			return err
		} // another call was faster with this one
	}
}

// sameTransfer selects the operations of transfers of the same payer, payee and amount that no call has in hand.
func (f *Payments) sameTransfer(c *call, o pay.Offer) predicate.Operation {
	now, session := f.now(), operation.SessionIDIsNil()
	if c.prepaid != nil {
		session = operation.SessionID(c.prepaid.session.ID)
	}
	return operation.And(
		operation.AgentID(c.agent.ID), operation.KindEQ(operation.KindTransfer), operation.CreatedAtGT(now.Add(-shownAgain)), session,
		operation.ToAddress(o.PayTo.Hex()), operation.Amount(o.Amount), inNoHand(now),
	)
}

// inNoHand selects the operations that no call has in hand, or one that has died.
func inNoHand(now time.Time) predicate.Operation {
	return operation.Or(operation.HolderIsNil(), operation.HeldUntilUnixLT(now.Unix()))
}

// owing selects the payments for the same that the service still owes an answer for.
func owing(c *call, o pay.Offer) predicate.Transaction {
	return transaction.And(
		transaction.Protocol(o.Protocol), transaction.Endpoint(c.target.endpoint()), transaction.Method(c.request.Method),
		transaction.StatusNEQ(transaction.StatusFailed), unserved, transaction.ReceiptIsNil(),
	)
}

// paysFor selects the operations whose payment is as told.
func paysFor(is predicate.Transaction) predicate.Operation {
	return func(ops *sql.Selector) {
		t := sql.Table(transaction.Table)
		payment := sql.Select(t.C(transaction.FieldID)).From(t).Where(sql.ColumnsEQ(t.C(transaction.FieldID), ops.C(operation.FieldTransactionID)))
		is(payment)
		ops.Where(sql.Exists(payment))
	}
}

// takeInHand makes a transfer the call's to show. errMoved: another call has it, or had it since op was read and was served:
// the payment is read when the row is ours.
func (f *Payments) takeInHand(ctx context.Context, c *call, d *decision, op *ent.Operation) error {
	hand := uuid.New()
	err := f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Operation.Update().Where(operation.ID(op.ID), inNoHand(tx.Now)).
			SetHolder(hand).SetHeldUntilUnix(tx.Now.Add(inHandFor).Unix()).Save(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return errMoved
		}
		d.payment, err = tx.Transaction.Query().Where(transaction.ID(op.TransactionID), owing(c, d.offer)).Only(ctx)
		if ent.IsNotFound(err) {
			return errMoved
		}
		if err != nil {
			return err
		}
		return c.run.began(ctx, tx, op.TransactionID)
	})
	if err != nil {
		d.payment = nil
		return err
	}
	d.hand, d.again = hand, true
	return nil
}

// handBack notes how a service has answered to a hash, zero when it has not, and lets go of the transfer. It changes nothing
// for a call that was so slow that another has the transfer in hand: what that one is told counts.
func (f *Payments) handBack(ctx context.Context, d *decision, status int, claim string) error {
	ctx, cancel := context.WithTimeout(ctx, afterPayment)
	defer cancel()
	if err := f.insist(ctx, func(uuid.UUID) error { return f.letGo(ctx, d, status, claim) }); err != nil {
		return err
	}
	f.step(StepBooked)
	return f.refresh(ctx, d.payment)
}

// letGo is handBack's commit. Once it is made the row names nobody, so that another try changes nothing.
func (f *Payments) letGo(ctx context.Context, d *decision, status int, claim string) error {
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Operation.Update().Where(operation.Key(transferKey(d.payment.ID)), operation.Holder(d.hand)).
			ClearHolder().ClearHeldUntilUnix().Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		if d.shown != (common.Hash{}) { // it may be of another attempt than was signed first
			if err := tx.Transaction.Update().Where(transaction.ID(d.payment.ID), transaction.StatusEQ(transaction.StatusPending)).
				SetTxHash(d.shown.Hex()).Exec(ctx); err != nil {
				return err
			}
		}
		u := tx.Transaction.UpdateOneID(d.payment.ID)
		if status != 0 {
			u.SetUpstreamStatus(status)
		}
		if claim != "" {
			u.SetReceipt(claim)
		}
		return u.Exec(ctx)
	})
}
