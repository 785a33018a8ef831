package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"bursar/ent"
	"bursar/ent/attempt"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
)

// How a top-up, and the permit before it, go through the outbox and come to their end.

// pullCall is the call that a top-up or a permit carries.
func (o *Operations) pullCall(op *ent.Operation) evm.Call {
	from, to := common.HexToAddress(op.FromAddress), common.HexToAddress(op.ToAddress)
	c := evm.Call{To: o.chain.Network().USDC, Gas: innerGas, Data: evm.TransferFromData(from, to, op.Amount)}
	if permits(op.Kind) {
		c.Data = evm.PermitData(from, to, op.Amount, op.ValidBeforeUnix, op.Signature)
	}
	return c
}

// endUnsigned gives up a top-up or a permit that is no longer wanted, or that the token would refuse. Nothing has been
// signed for it, so nothing can move. simulated is how the call fared. It reports whether the operation has ended.
func (o *Operations) endUnsigned(ctx context.Context, op *ent.Operation, simulated error) (bool, error) {
	if op.Kind != operation.KindTopUp && !permits(op.Kind) {
		return false, nil
	}
	a, err := o.db.readEnt.Agent.Get(ctx, op.AgentID)
	if err != nil {
		return false, err
	}
	switch {
	case !a.Active && op.Kind != operation.KindAllowance: // the platform's wallet is everybody's
		return o.fail(ctx, op, 0, "The agent is deactivated")
	case op.Kind == operation.KindTopUp && (!o.consented(a) || *a.AutoTopupSource != op.FromAddress || *a.AutoTopupAmount != op.Amount):
		return o.fail(ctx, op, 0, "The terms were changed before it was sent")
	case errors.Is(simulated, evm.ErrReverted):
		return o.fail(ctx, op, 0, fmt.Sprintf("The token refuses it: %s", simulated))
	case o.now().Sub(op.CreatedAt) > topUpPatience:
		return o.fail(ctx, op, 0, "It could not be sent in time")
	}
	return false, nil
}

// endReverted ends a top-up or a permit whose transaction was mined and moved nothing, once that is final: the account
// nonce is used, so it never will. Until then a reorganisation may still mine the same bytes with another outcome.
func (o *Operations) endReverted(ctx context.Context, op *ent.Operation, r evm.Receipt) (bool, error) {
	head, err := o.chain.Head(ctx)
	if err != nil || head.Number < r.Block+o.chain.Network().Confirmations {
		return false, err
	}
	return o.fail(ctx, op, int64(r.Block), "Its transaction was reverted: the allowance or the money was gone")
}

// fail ends a grant, a top-up or a permit that moved nothing, and says so in the history, on the agent and to subscribers.
// block is what it was judged by: if a reorganisation takes that back, it is sent again. 0: nothing was ever sent.
func (o *Operations) fail(ctx context.Context, op *ent.Operation, block int64, why string) (bool, error) {
	ended := false
	err := o.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		u := tx.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(op.Status)).
			SetStatus(operation.StatusFailed).SetError(cut(why, maxTopUpError))
		if block > 0 {
			u.SetBlock(block)
		}
		n, err := u.Save(ctx)
		if ended = n == 1; err != nil || !ended {
			return err
		}
		if op.Kind == operation.KindAllowance { // its calls look at it themselves
			return nil
		}
		if op.Kind != operation.KindGas {
			a, err := tx.Agent.Get(ctx, op.AgentID)
			if err != nil {
				return err
			}
			if err := o.failed(ctx, tx, a, why); err != nil || op.Kind == operation.KindPermit {
				return err
			}
		}
		t, err := tx.Transaction.UpdateOneID(op.TransactionID).SetStatus(transaction.StatusFailed).SetAmount(0).
			SetReason(cut(why, maxTopUpError)).SetSettledAt(tx.Now).Save(ctx)
		if err != nil {
			return err
		}
		return tx.paymentSettled(ctx, t)
	})
	return ended && err == nil, err
}

// pullOf finds the top-up whose transaction made a movement, or nil. A pull's log names no authorization; the
// transaction that it is in is ours, and carries this call alone.
func (f *Funding) pullOf(ctx context.Context, tx *Tx, m movement) (*ent.Operation, error) {
	sent, err := tx.Attempt.Query().Where(attempt.Hash(m.TxHash.Hex())).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	op, err := tx.Operation.Query().Where(operation.ChainTxID(sent.ChainTxID), operation.KindEQ(operation.KindTopUp),
		operation.FromAddress(m.From.Hex()), operation.ToAddress(m.To.Hex()), operation.AmountEQ(m.Amount)).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, nil
	}
	return op, err
}

// toppedUp makes a top-up final: its money is booked.
func (f *Funding) toppedUp(ctx context.Context, tx *Tx, a *ent.Agent, op *ent.Operation, m movement) error {
	if err := finish(ctx, tx, op, m.TxHash.Hex(), m.Block); err != nil {
		return err
	}
	if err := tx.Agent.UpdateOneID(a.ID).SetAutoTopupError("").ClearAutoTopupFailedAt().SetAutoTopupRetryUnix(0).Exec(ctx); err != nil {
		return err
	}
	t, err := tx.Transaction.Get(ctx, op.TransactionID)
	if err != nil {
		return err
	}
	if err := tx.paymentSettled(ctx, t); err != nil {
		return err
	}
	return f.grantGas(ctx, tx, a)
}
