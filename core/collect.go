package core

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/event"
	"bursar/ent/operation"
	"bursar/money"
)

// How a wallet pays for a metered call that was answered: an operation moves what it costs from the wallet to the seller.
// The operation is there in the commit that ends the call's uncertain state, so no crash between loses or doubles it.

// Bounds of a charge.
const (
	hashDeadline = 5 * time.Second // that an answer waits for the hash of its payment
	collectFor   = 24 * time.Hour  // that it is tried: the call was served
)

// collect puts a hold of exactly what the call costs in the place of the first one, with the operation that takes it.
func (f *Payments) collect(ctx context.Context, c *call, t *ent.Transaction, cost money.USDC) error {
	op := uuid.Must(uuid.NewV7())
	err := f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		first, err := tx.Transfer.Get(ctx, *t.HoldID)
		if err != nil {
			return err
		}
		key := "charge:" + t.ID.String()
		hold := ledger.Move{
			Verb: ledger.Hold, ID: uuid.Must(uuid.NewV7()), Key: key, Debit: first.DebitID, Credit: first.CreditID, Amount: cost,
			Code: operation.KindCharge.String(), TransactionID: t.ID, Counters: strings.Fields(first.Counters),
		}
		r, err := tx.units(ctx, ledger.Unit{
			Moves: []ledger.Move{{Verb: ledger.Void, HoldID: first.ID}, hold},
			Rows:  func(ledger.Result) []ledger.Row { return c.charged(t, cost) },
		})
		if err != nil {
			return err // the owner has spent the money with an exported key
		}
		if r[0].Repeated { // it was given up; or we have done all this before, and were not told
			if op, err = tx.Operation.Query().Where(operation.Key(key)).OnlyID(ctx); ent.IsNotFound(err) {
				err = errTooLate
			}
			tx.news = append(tx.news, balanceNews(r[0])...)
			return err
		}
		if err := tx.Operation.Create().SetID(op).SetKey(key).SetChainID(int64(f.chainID())).SetOrgID(t.OrgID).SetAgentID(t.AgentID).
			SetTransactionID(t.ID).SetKind(operation.KindCharge).SetFromAddress(t.FromAddress).SetToAddress(t.ToAddress).SetAmount(cost).
			SetHoldID(hold.ID).SetCreatedAt(tx.Now).Exec(ctx); err != nil {
			return err
		}
		return tx.Transaction.UpdateOneID(t.ID).SetHoldID(hold.ID).SetQuoted(cost).SetUpstreamStatus(t.UpstreamStatus).
			SetValidBeforeUnix(tx.Now.Add(authorizationLife).Unix()).Exec(ctx)
	})
	if errors.Is(err, ledger.ErrInsufficient) {
		return errors.Join(err, f.release(ctx, t, "The wallet no longer has what the call costs: nothing was charged"))
	}
	if err != nil {
		return err
	}
	f.hashOf(ctx, op)
	return f.refresh(ctx, t)
}

// hashOf takes an operation on until its transaction has a hash. Running out of time is no error: the jobs go on.
func (f *Payments) hashOf(ctx context.Context, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, hashDeadline)
	defer cancel()
	for wait := driveFirst; ; wait = min(2*wait, driveMost) {
		if err := f.operations.Advance(ctx, id); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "operation waits", "operation_id", id, "error", err)
		}
		op, err := f.db.readEnt.Operation.Get(ctx, id)
		if err != nil || op.TxHash != nil || pause(ctx, wait) != nil {
			return
		}
	}
}

// mayCollect reports whether a charge whose authorization is dead can be brought after all: while the wallet has the money,
// and its nonce is neither used nor cancelled by an owner with the exported key.
func (f *Funding) mayCollect(ctx context.Context, op *ent.Operation, read *ent.Cursor) (bool, error) {
	if op.Kind != operation.KindCharge || !f.now().Before(op.CreatedAt.Add(collectFor)) {
		return false, nil
	}
	wallet, err := ledger.Find(ctx, f.db.readEnt, ledger.Wallet, f.chainID(), op.AgentID)
	if err != nil {
		return false, err
	}
	a, err := f.db.readEnt.Account.Get(ctx, wallet)
	if err != nil || ledger.StateOf(a).Available() < 0 {
		return false, err
	}
	used, err := f.chain.AuthorizationUsed(ctx, common.HexToAddress(op.FromAddress), common.HexToHash(*op.AuthNonce), uint64(read.Block))
	return !used, err
}

// collectAgain lets a charge be signed anew, for a later time. It is the same operation, and so the same nonce: whatever
// becomes of what was sent before, the token takes one of them. The hold and what it counts for stay.
func (f *Funding) collectAgain(ctx context.Context, op *ent.Operation) error {
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(op.Status), operation.ValidBeforeUnix(op.ValidBeforeUnix)).
			SetStatus(operation.StatusQueued).ClearValidBeforeUnix().ClearSignature().ClearChainTxID().ClearTxHash().SetError("").Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		return tx.Transaction.UpdateOneID(op.TransactionID).ClearTxHash().SetValidBeforeUnix(tx.Now.Add(authorizationLife).Unix()).Exec(ctx)
	})
}

// chargeEnded tells of the end of a wallet's metered payment.
func (tx *Tx) chargeEnded(ctx context.Context, op *ent.Operation, how Outcome) error {
	tx.done = append(tx.done, how)
	return tx.tell(ctx, PaymentSettled, event.KindPaymentSettled, op.OrgID, op.AgentID, op.TransactionID)
}
