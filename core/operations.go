package core

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/attempt"
	"bursar/ent/chaintx"
	"bursar/ent/operation"
	"bursar/ent/sender"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// Operations are the movements that we send. A row is the intent; what is signed is stored before it is sent;
// only the chain makes it final, through the watcher. Advance takes a row as far as it goes now: the request
// calls it for speed, the job for certainty.
//
//	queued → authorized → signed → sent → included → final, or expired / failed
type Operations struct{ *store }

// Bounds of operations.
const (
	authorizationLife = 10 * time.Minute
	advanceBatch      = 50
	relayGas          = 150_000 // a first USDC transfer by authorization takes some 86,000
	etherGas          = 21_000
)

type newOperation struct {
	Key           string
	Kind          operation.Kind
	History       transaction.Kind
	OrgID         uuid.UUID
	AgentID       uuid.UUID
	SessionID     *uuid.UUID
	From, To      common.Address
	Debit, Credit uuid.UUID // the hold
	Amount        money.USDC
	Wei           *big.Int // kind gas: ether, outside the ledger
}

// queue writes an operation, its hold and its history record in the caller's transaction.
func (o *Operations) queue(ctx context.Context, tx *Tx, n newOperation) (uuid.UUID, error) {
	id, history := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	create := tx.Operation.Create().SetID(id).SetKey(n.Key).SetChainID(int64(o.chainID())).SetOrgID(n.OrgID).SetAgentID(n.AgentID).
		SetNillableSessionID(n.SessionID).SetTransactionID(history).SetKind(n.Kind).SetFromAddress(n.From.Hex()).SetToAddress(n.To.Hex()).
		SetAmount(n.Amount).SetCreatedAt(tx.Now)
	record := tx.Transaction.Create().SetID(history).SetOrgID(n.OrgID).SetAgentID(n.AgentID).SetNillableSessionID(n.SessionID).
		SetKind(n.History).SetQuoted(n.Amount).SetFromAddress(n.From.Hex()).SetToAddress(n.To.Hex()).
		SetNetwork(o.chain.Network().Name).SetCreatedAt(tx.Now)
	switch {
	case n.Kind == operation.KindGas:
		create.SetWei(n.Wei.String())
		record.SetWei(n.Wei.String())
	case guarded(n.Kind): // what is pulled is outside of the ledger until the watcher sees it
	default:
		r, err := tx.move(ctx, ledger.Move{
			Verb: ledger.Hold, Key: n.Key, Debit: n.Debit, Credit: n.Credit, Amount: n.Amount, Code: n.Kind.String(), TransactionID: history,
		})
		if err != nil {
			return uuid.Nil, err
		}
		if r.Repeated {
			return uuid.Nil, E(Conflict, "The same is under way already")
		}
		create.SetHoldID(r.Transfers[0].ID)
		record.SetHoldID(r.Transfers[0].ID)
	}
	if err := create.Exec(ctx); err != nil {
		return uuid.Nil, err
	}
	return id, record.Exec(ctx)
}

// AdvanceDue takes every unfinished operation as far as it goes.
func (o *Operations) AdvanceDue(ctx context.Context) error {
	var after uuid.UUID // ids are in order of time: page on, so that stuck ones do not keep the others waiting
	for {
		ids, err := o.db.readEnt.Operation.Query().Where(
			operation.IDGT(after), operation.StatusNotIn(operation.StatusFinal, operation.StatusExpired, operation.StatusFailed),
			operation.Or(operation.StatusNEQ(operation.StatusIncluded), // the watcher ends the others
				operation.KindIn(operation.KindGas, operation.KindTopUp, operation.KindPermit)),
		).Order(operation.ByID()).Limit(advanceBatch).IDs(ctx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := o.Advance(ctx, id); err != nil {
				o.log.WarnContext(ctx, "operation does not advance", "operation_id", id, "error", err)
			}
			after = id
		}
		if len(ids) < advanceBatch || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// Advance takes one operation step by step until it waits for the chain.
func (o *Operations) Advance(ctx context.Context, id uuid.UUID) error {
	for {
		op, err := o.db.writeEnt.Operation.Get(ctx, id)
		if err != nil {
			return err
		}
		moved, err := o.transition(ctx, op)
		if err != nil || !moved {
			return err
		}
	}
}

// transition makes one transition. Each names the state it leaves in its WHERE, so of several processes one makes it.
func (o *Operations) transition(ctx context.Context, op *ent.Operation) (bool, error) {
	switch op.Status {
	case operation.StatusQueued:
		o.step(StepQueued)
		return o.authorize(ctx, op)
	case operation.StatusAuthorized:
		o.step(StepAuthorized)
		return o.sign(ctx, op)
	case operation.StatusSigned:
		o.step(StepStored)
		return o.broadcast(ctx, op)
	case operation.StatusSent:
		return o.include(ctx, op)
	case operation.StatusIncluded:
		o.step(StepIncluded)
		return o.finishGuarded(ctx, op)
	case operation.StatusFinal, operation.StatusExpired, operation.StatusFailed:
	}
	return false, nil
}

func (o *Operations) move(ctx context.Context, op *ent.Operation, set func(*ent.OperationUpdate)) (bool, error) {
	u := o.db.writeEnt.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(op.Status))
	set(u)
	n, err := u.Save(ctx)
	return n == 1, err
}

// authorize signs the EIP-3009 authorization. Its nonce follows from the operation's id, so signing again after a
// crash is the same authorization: the token executes it at most once, whoever sends it and however often.
func (o *Operations) authorize(ctx context.Context, op *ent.Operation) (bool, error) {
	if guarded(op.Kind) { // nothing to sign
		return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusAuthorized) })
	}
	auth := o.authorization(op, o.clock().Add(authorizationLife).Unix())
	var signer *ent.Agent
	if op.Kind != operation.KindRefund {
		a, err := o.db.readEnt.Agent.Get(ctx, op.AgentID)
		if err != nil {
			return false, err
		}
		signer = a
	}
	sig, err := o.keys.sign(signer, o.chain.Network(), auth)
	if err != nil {
		return false, err
	}
	return o.move(ctx, op, func(u *ent.OperationUpdate) {
		u.SetStatus(operation.StatusAuthorized).SetAuthNonce(auth.Nonce.Hex()).SetValidBeforeUnix(auth.ValidBefore).SetSignature(sig)
	})
}

func (o *Operations) authorization(op *ent.Operation, validBefore int64) evm.Authorization {
	return evm.Authorization{
		From: common.HexToAddress(op.FromAddress), To: common.HexToAddress(op.ToAddress), Value: op.Amount,
		ValidBefore: validBefore, Nonce: o.nonce("operation", op.ID),
	}
}

func (o *Operations) call(op *ent.Operation) (evm.Call, error) {
	if op.Kind == operation.KindGas {
		wei, ok := new(big.Int).SetString(op.Wei, 10)
		if !ok {
			return evm.Call{}, fmt.Errorf("core: operation %s: bad wei %q", op.ID, op.Wei)
		}
		return evm.Call{To: common.HexToAddress(op.ToAddress), ValueWei: wei, Gas: etherGas}, nil
	}
	if guarded(op.Kind) {
		return o.pullCall(op), nil
	}
	data := evm.TransferWithAuthorizationData(o.authorization(op, op.ValidBeforeUnix), op.Signature)
	return evm.Call{To: o.chain.Network().USDC, Data: data, Gas: relayGas}, nil
}

// sign takes the relayer's next nonce and stores the signed bytes, in one commit and before anything is sent.
func (o *Operations) sign(ctx context.Context, op *ent.Operation) (bool, error) {
	call, err := o.call(op)
	if err != nil {
		return false, err
	}
	relayer := o.keys.relayerAddress()
	simulated := o.chain.Simulate(ctx, relayer, call)
	if ended, err := o.endUnsigned(ctx, op, simulated); err != nil || ended {
		return ended, err
	}
	if simulated != nil {
		return false, o.note(ctx, op, simulated)
	}
	fees, err := o.chain.Fees(ctx)
	if err != nil {
		return false, err
	}
	mined, err := o.chain.NonceAt(ctx, relayer)
	if err != nil {
		return false, err
	}
	signed := false
	err = o.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		nonce, err := takeNonce(ctx, tx, o.chainID(), relayer, mined, o.db.Dialect)
		if err != nil {
			return err
		}
		raw, hash, err := evm.SignTx(o.keys.relayer, o.chainID(), nonce, fees, call)
		if err != nil {
			return err
		}
		carrier, err := tx.ChainTx.Create().SetChainID(int64(o.chainID())).SetSender(relayer.Hex()).SetNonce(int64(nonce)).SetCreatedAt(tx.Now).Save(ctx)
		if err != nil {
			return err
		}
		if err := tx.Attempt.Create().SetChainTxID(carrier.ID).SetHash(hash.Hex()).SetRaw(raw).SetTipWei(fees.TipWei).SetCapWei(fees.CapWei).
			SetCreatedAt(tx.Now).Exec(ctx); err != nil {
			return err
		}
		n, err := tx.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(operation.StatusAuthorized)).
			SetStatus(operation.StatusSigned).SetChainTxID(carrier.ID).SetTxHash(hash.Hex()).SetError("").Save(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return errMoved // somebody else signed it; the nonce goes back with the transaction
		}
		if err := tx.Transaction.Update().Where(transaction.ID(op.TransactionID)).SetTxHash(hash.Hex()).Exec(ctx); err != nil { // a permit has none
			return err
		}
		signed = true
		return nil
	})
	if errors.Is(err, errMoved) {
		return false, nil
	}
	return signed, err
}

var errMoved = errors.New("core: another process was faster")

// takeNonce hands out a sender's nonces one by one under a row lock. mined is what the chain says is next.
func takeNonce(ctx context.Context, tx *Tx, chainID uint64, from common.Address, mined uint64, dialectName string) (uint64, error) {
	err := tx.Sender.Create().SetChainID(int64(chainID)).SetAddress(from.Hex()).SetNextNonce(int64(mined)).SetCreatedAt(tx.Now).
		OnConflictColumns(sender.FieldChainID, sender.FieldAddress).DoNothing().Exec(ctx)
	if err != nil && !errors.Is(err, errNoRows) && err.Error() != errNoRows.Error() {
		return 0, err
	}
	q := tx.Sender.Query().Where(sender.ChainID(int64(chainID)), sender.Address(from.Hex()))
	if dialectName == "postgres" {
		q = q.ForUpdate()
	}
	row, err := q.Only(ctx)
	if err != nil {
		return 0, err
	}
	nonce := max(row.NextNonce, int64(mined)) // the key may have been used elsewhere
	return uint64(nonce), tx.Sender.UpdateOneID(row.ID).SetNextNonce(nonce + 1).Exec(ctx)
}

// note keeps why an operation does not go on; it is tried again until its authorization is dead.
func (o *Operations) note(ctx context.Context, op *ent.Operation, cause error) error {
	text := cause.Error()
	if len(text) > 500 {
		text = text[:500]
	}
	return errors.Join(cause, o.db.writeEnt.Operation.UpdateOneID(op.ID).SetError(text).Exec(ctx))
}

// broadcast sends the stored bytes.
func (o *Operations) broadcast(ctx context.Context, op *ent.Operation) (bool, error) {
	if err := o.resend(ctx, op); err != nil {
		return false, err
	}
	o.step(StepSent)
	return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusSent) })
}

func (o *Operations) resend(ctx context.Context, op *ent.Operation) error {
	last, err := o.db.readEnt.Attempt.Query().Where(attempt.ChainTxID(*op.ChainTxID)).Order(attempt.ByCreatedAt(desc())).First(ctx)
	if err != nil {
		return err
	}
	if err := o.chain.Send(ctx, last.Raw); err != nil && !errors.Is(err, evm.ErrKnown) {
		return o.note(ctx, op, err)
	}
	return nil
}

// Rebroadcast sends again what the relayer has signed and the chain has not mined, oldest nonce first. It also keeps
// the bytes of dead operations going: an authorization that has expired reverts, but its account nonce must be used,
// or every later one waits behind it for ever.
func (o *Operations) Rebroadcast(ctx context.Context) error {
	relayer := o.keys.relayerAddress()
	mined, err := o.chain.NonceAt(ctx, relayer)
	if err != nil {
		return err
	}
	waiting, err := o.db.readEnt.ChainTx.Query().Where(
		chaintx.ChainID(int64(o.chainID())), chaintx.Sender(relayer.Hex()), chaintx.NonceGTE(int64(mined)),
	).Order(chaintx.ByNonce()).Limit(advanceBatch).All(ctx)
	if err != nil {
		return err
	}
	for _, w := range waiting {
		last, err := o.db.readEnt.Attempt.Query().Where(attempt.ChainTxID(w.ID)).Order(attempt.ByCreatedAt(desc())).First(ctx)
		if err != nil {
			return err
		}
		if err := o.chain.Send(ctx, last.Raw); err != nil && !errors.Is(err, evm.ErrKnown) {
			return fmt.Errorf("core: relayer nonce %d: %w", w.Nonce, err)
		}
	}
	return nil
}

// include looks for the receipt. A missing one means the same bytes again. A reverted carrier moved nothing: the
// same authorization gets another.
func (o *Operations) include(ctx context.Context, op *ent.Operation) (bool, error) {
	r, err := o.chain.Receipt(ctx, common.HexToHash(*op.TxHash))
	switch {
	case errors.Is(err, evm.ErrNotFound):
		return false, o.resend(ctx, op)
	case err != nil:
		return false, err
	case r.OK:
		return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusIncluded) })
	case op.Kind == operation.KindTopUp || op.Kind == operation.KindPermit:
		return o.endReverted(ctx, op, r)
	}
	return o.move(ctx, op, func(u *ent.OperationUpdate) {
		u.SetStatus(operation.StatusAuthorized).SetError("the carrying transaction was reverted")
	})
}

// finishGuarded makes a gas grant or a permit final at its depth. What moves USDC is made final by the watcher alone, so
// that the ledger has one way in; of a top-up only a reorganisation is noticed here.
func (o *Operations) finishGuarded(ctx context.Context, op *ent.Operation) (bool, error) {
	if !guarded(op.Kind) {
		return false, nil
	}
	r, err := o.chain.Receipt(ctx, common.HexToHash(*op.TxHash))
	if errors.Is(err, evm.ErrNotFound) || (err == nil && !r.OK) { // un-mined by a reorg, and perhaps mined again with another outcome
		return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusSent) })
	}
	if err != nil || op.Kind == operation.KindTopUp {
		return false, err
	}
	head, err := o.chain.Head(ctx)
	if err != nil || head.Number < r.Block+o.chain.Network().Confirmations {
		return false, err
	}
	return true, o.inTx(ctx, func(ctx context.Context, tx *Tx) error { return finish(ctx, tx, op, *op.TxHash) })
}

// finish marks an operation and its record as done.
func finish(ctx context.Context, tx *Tx, op *ent.Operation, txHash string) error {
	if err := tx.Operation.UpdateOneID(op.ID).SetStatus(operation.StatusFinal).SetTxHash(txHash).SetError("").Exec(ctx); err != nil {
		return err
	}
	return tx.Transaction.Update().Where(transaction.ID(op.TransactionID)).SetStatus(transaction.StatusSuccess).SetAmount(op.Amount).SetTxHash(txHash).
		SetSettledAt(tx.Now).Exec(ctx)
}
