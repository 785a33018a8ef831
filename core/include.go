package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/attempt"
	"bursar/ent/chaintx"
	"bursar/ent/operation"
	"bursar/evm"
)

// Bounds of what is sent again.
const (
	bumpAfter     = 3    // blocks without it, before a carrier goes out at a higher price
	bumpMost      = 5    // times the suggestion: no carrier offers more
	ceilingWei    = 2e12 // per gas, whatever the suggestion says
	replacedAfter = 10   // blocks after which a used nonce without our receipt was used by somebody else's transaction
)

// broadcast sends the stored bytes.
func (o *Operations) broadcast(ctx context.Context, op *ent.Operation) (bool, error) {
	last, err := o.lastAttempt(ctx, *op.ChainTxID)
	if err != nil {
		return false, err
	}
	if err := o.chain.Send(ctx, last.Raw); err != nil && !errors.Is(err, evm.ErrKnown) {
		return false, errors.Join(err, o.note(ctx, op, err))
	}
	o.step(StepSent)
	return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusSent) })
}

func (o *Operations) lastAttempt(ctx context.Context, carrier uuid.UUID) (*ent.Attempt, error) {
	return o.db.readEnt.Attempt.Query().Where(attempt.ChainTxID(carrier)).Order(attempt.ByCreatedAt(desc()), attempt.ByID(desc())).First(ctx)
}

// receipt finds the receipt of a carrier by any of its attempts; evm.ErrNotFound when none is mined.
func (o *Operations) receipt(ctx context.Context, carrier uuid.UUID) (evm.Receipt, error) {
	tried, err := o.db.readEnt.Attempt.Query().Where(attempt.ChainTxID(carrier)).Order(attempt.ByCreatedAt(desc())).All(ctx)
	if err != nil {
		return evm.Receipt{}, err
	}
	for _, a := range tried {
		r, err := o.chain.Receipt(ctx, common.HexToHash(a.Hash))
		if !errors.Is(err, evm.ErrNotFound) {
			return r, err
		}
	}
	return evm.Receipt{}, evm.ErrNotFound
}

// include looks for the receipt of the carrier, and in it for the operation's own log. A carrier that is not mined is
// sent again by Rebroadcast; one that did not move this operation's money leaves it to another carrier.
func (o *Operations) include(ctx context.Context, op *ent.Operation) (bool, error) {
	r, err := o.receipt(ctx, *op.ChainTxID)
	if errors.Is(err, evm.ErrNotFound) {
		return o.replaced(ctx, op)
	}
	if err != nil {
		return false, err
	}
	if done(op, o.chain.Network().USDC, r) {
		return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusIncluded).SetTxHash(r.TxHash.Hex()) })
	}
	if guarded(op.Kind) {
		return o.endReverted(ctx, op, r)
	}
	return o.move(ctx, op, func(u *ent.OperationUpdate) {
		u.SetStatus(operation.StatusAuthorized).SetError("its carrier was mined without it")
	})
}

// done reports whether a receipt shows the operation itself. In a batch the receipt alone says nothing: its calls may
// fail one by one.
func done(op *ent.Operation, token common.Address, r evm.Receipt) bool {
	if !r.OK || guarded(op.Kind) {
		return r.OK
	}
	from, nonce := common.HexToAddress(op.FromAddress), common.HexToHash(*op.AuthNonce)
	for _, m := range evm.MovementsOf(token, r.Logs) {
		if m.From == from && m.AuthNonce != nil && *m.AuthNonce == nonce {
			return true
		}
	}
	return false
}

// replaced leaves an operation to another carrier when the account nonce of its own was used by a transaction that is
// none of ours. A permit has a nonce of the token's besides, which is looked at before it is sent anew. What only the
// account nonce guarded is never made again: it ends.
func (o *Operations) replaced(ctx context.Context, op *ent.Operation) (bool, error) {
	carrier, err := o.db.readEnt.ChainTx.Get(ctx, *op.ChainTxID)
	if err != nil {
		return false, err
	}
	last, err := o.lastAttempt(ctx, carrier.ID)
	if err != nil {
		return false, err
	}
	head, err := o.chain.Head(ctx)
	if err != nil || head.Number < uint64(last.AtBlock)+replacedAfter {
		return false, err
	}
	mined, err := o.chain.NonceAt(ctx, common.HexToAddress(carrier.Sender))
	if err != nil || mined <= uint64(carrier.Nonce) {
		return false, err
	}
	if _, err := o.receipt(ctx, carrier.ID); !errors.Is(err, evm.ErrNotFound) {
		return false, err // it came between the two looks
	}
	if op.Kind == operation.KindGas || op.Kind == operation.KindTopUp {
		return o.endReplaced(ctx, op, carrier)
	}
	return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusAuthorized).SetError(nonceTaken) })
}

const nonceTaken = "the nonce of its carrier was used by another transaction"

// endReplaced ends a grant or a top-up whose carrier cannot be mined any more. That must be final, and the nodes may only
// have left its log out: the nonce must have been used in a block that the second pass has read too. Should the chain go
// back behind that block, its bytes may land after all, so it is sent again then.
func (o *Operations) endReplaced(ctx context.Context, op *ent.Operation, carrier *ent.ChainTx) (bool, error) {
	at, err := o.db.readEnt.Cursor.Get(ctx, int(o.chainID()))
	if err != nil {
		return false, err
	}
	used, err := o.chain.NonceAtBlock(ctx, common.HexToAddress(carrier.Sender), uint64(at.Rechecked))
	if err != nil {
		return false, err
	}
	if used <= uint64(carrier.Nonce) {
		return false, o.note(ctx, op, errors.New(nonceTaken))
	}
	return o.fail(ctx, op, at.Rechecked, "It was not sent: "+nonceTaken)
}

// stillIncluded takes an operation back to sent when a reorganisation has un-mined it, perhaps to mine it again with
// another outcome, and makes a gas grant or a permit final at its depth. What moves USDC is made final by the watcher
// alone, so that the ledger has one way in.
func (o *Operations) stillIncluded(ctx context.Context, op *ent.Operation) (bool, error) {
	r, err := o.receipt(ctx, *op.ChainTxID)
	if errors.Is(err, evm.ErrNotFound) || (err == nil && !r.OK) {
		return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusSent) })
	}
	if err != nil || (op.Kind != operation.KindGas && !permits(op.Kind)) {
		return false, err
	}
	head, err := o.chain.Head(ctx)
	if err != nil || head.Number < r.Block+o.chain.Network().Confirmations {
		return false, err
	}
	return true, o.inTx(ctx, func(ctx context.Context, tx *Tx) error { return finish(ctx, tx, op, r.TxHash.Hex(), r.Block) })
}

// Rebroadcast sends again what the relayers have signed and the chain has not mined, oldest nonce first and dearer when
// it has waited for blocks. It also keeps the bytes of dead operations going: an authorization that has expired fails,
// but its account nonce must be used, or every later one waits behind it for ever.
func (o *Operations) Rebroadcast(ctx context.Context) error {
	var all error
	for _, r := range o.keys.relayers {
		all = errors.Join(all, o.rebroadcast(ctx, r))
	}
	return all
}

func (o *Operations) rebroadcast(ctx context.Context, by relayer) error {
	mined, err := o.chain.NonceAt(ctx, by.at)
	if err != nil {
		return err
	}
	head, err := o.chain.Head(ctx)
	if err != nil {
		return err
	}
	waiting, err := o.db.readEnt.ChainTx.Query().Where(
		chaintx.ChainID(int64(o.chainID())), chaintx.Sender(by.at.Hex()), chaintx.NonceGTE(int64(mined)),
	).Order(chaintx.ByNonce()).Limit(advanceBatch).All(ctx)
	if err != nil {
		return err
	}
	for _, w := range waiting {
		if err := o.resend(ctx, by, w, head.Number); err != nil {
			return fmt.Errorf("core: relayer nonce %d: %w", w.Nonce, err)
		}
	}
	return nil
}

func (o *Operations) resend(ctx context.Context, by relayer, w *ent.ChainTx, head uint64) error {
	last, err := o.lastAttempt(ctx, w.ID)
	if err != nil {
		return err
	}
	if head < uint64(last.AtBlock)+bumpAfter {
		err = o.chain.Send(ctx, last.Raw)
		if !errors.Is(err, evm.ErrUnderpriced) {
			return known(err)
		}
	}
	dearer, err := o.bump(ctx, by, w, last, head)
	if err != nil {
		return err
	}
	return known(o.chain.Send(ctx, dearer))
}

// known drops the refusals that mean that the node has the bytes, or that their nonce is mined.
func known(err error) error {
	if errors.Is(err, evm.ErrKnown) {
		return nil
	}
	return err
}

// bump stores the same carrier at a higher price and returns its bytes, or the old ones at the ceiling.
func (o *Operations) bump(ctx context.Context, by relayer, w *ent.ChainTx, last *ent.Attempt, head uint64) ([]byte, error) {
	suggested, err := o.chain.Fees(ctx)
	if err != nil {
		return nil, err
	}
	most := min(bumpMost*suggested.CapWei, ceilingWei)
	fees, ok := evm.Bump(evm.Fees{TipWei: last.TipWei, CapWei: last.CapWei}, suggested, most)
	if !ok {
		return last.Raw, nil
	}
	raw, hash, err := evm.Resign(by.key, last.Raw, fees)
	if err != nil {
		return nil, err
	}
	err = o.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if err := tx.Attempt.Create().SetChainTxID(w.ID).SetHash(hash.Hex()).SetRaw(raw).SetTipWei(fees.TipWei).SetCapWei(fees.CapWei).
			SetAtBlock(int64(head)).SetCreatedAt(tx.Now).Exec(ctx); err != nil {
			return err
		}
		return tx.Operation.Update().Where(operation.ChainTxID(w.ID), operation.StatusIn(operation.StatusSigned, operation.StatusSent)).
			SetTxHash(hash.Hex()).Exec(ctx)
	})
	if ent.IsConstraintError(err) {
		err = nil // another process made the very same
	}
	return raw, err
}
