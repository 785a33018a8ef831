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
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// Operations are the movements that we send. A row is the intent; what is signed is stored before it is sent;
// only the chain makes it final, through the watcher. Advance takes a row as far as it goes now: the request
// calls it for speed, the job for certainty. Carrying is in carry.go, the way of a carrier into a block in include.go.
//
//	queued → authorized → signed → sent → included → final, or expired / failed
type Operations struct {
	*store
	carrying *together
}

// Bounds of operations.
const (
	authorizationLife = 10 * time.Minute
	advanceBatch      = 50
)

type newOperation struct {
	Key           string
	Kind          operation.Kind
	History       transaction.Kind // empty: no record; a payout is in no agent's history
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
	id, history := uuid.Must(uuid.NewV7()), uuid.Nil
	if n.History != "" {
		history = uuid.Must(uuid.NewV7())
	}
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
	if err := create.Exec(ctx); err != nil || n.History == "" {
		return id, err
	}
	return id, record.Exec(ctx)
}

// AdvanceDue takes every unfinished operation as far as it goes: first all are authorized, so that they share carriers.
func (o *Operations) AdvanceDue(ctx context.Context) error {
	err := o.each(ctx, o.authorize, operation.StatusQueued)
	if err == nil {
		err = o.carrying.do(ctx, o.carry)
	}
	return errors.Join(err, o.each(ctx, func(ctx context.Context, op *ent.Operation) (bool, error) {
		return false, o.Advance(ctx, op.ID)
	}, operation.StatusSigned, operation.StatusSent, operation.StatusIncluded))
}

// each runs f on all operations in some states. Ids are in order of time: it pages on, so that stuck ones do not keep
// the others waiting.
func (o *Operations) each(ctx context.Context, f func(context.Context, *ent.Operation) (bool, error), in ...operation.Status) error {
	var after uuid.UUID
	for {
		ops, err := o.db.readEnt.Operation.Query().Where(operation.IDGT(after), operation.ChainID(int64(o.chainID())), operation.StatusIn(in...)).
			Order(operation.ByID()).Limit(advanceBatch).All(ctx)
		if err != nil {
			return err
		}
		for _, op := range ops {
			if _, err := f(ctx, op); err != nil {
				o.log.WarnContext(ctx, "operation does not advance", "operation_id", op.ID, "error", err)
			}
			after = op.ID
		}
		if len(ops) < advanceBatch || ctx.Err() != nil {
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
		return o.authorize(ctx, op)
	case operation.StatusAuthorized:
		return o.carried(ctx, op)
	case operation.StatusSigned:
		o.step(StepStored)
		return o.broadcast(ctx, op)
	case operation.StatusSent:
		return o.include(ctx, op)
	case operation.StatusIncluded:
		o.step(StepIncluded)
		return o.stillIncluded(ctx, op)
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
	o.step(StepQueued)
	if guarded(op.Kind) { // nothing to sign
		return o.move(ctx, op, func(u *ent.OperationUpdate) { u.SetStatus(operation.StatusAuthorized) })
	}
	auth := o.authorization(op, o.clock().Add(authorizationLife).Unix())
	var signer *ent.Agent
	if !platforms(op) {
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

// platforms reports whether it is the platform's money that an operation moves.
func platforms(op *ent.Operation) bool {
	return op.Kind == operation.KindRefund || op.Kind == operation.KindPayout || (op.Kind == operation.KindTransfer && op.SessionID != nil)
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
	return evm.Call{To: o.chain.Network().USDC, Data: data, Gas: innerGas}, nil
}

// note keeps why an operation does not go on; it is tried again until its authorization is dead.
func (o *Operations) note(ctx context.Context, op *ent.Operation, cause error) error {
	text := cause.Error()
	if len(text) > 500 {
		text = text[:500]
	}
	return o.db.writeEnt.Operation.UpdateOneID(op.ID).SetError(text).Exec(ctx)
}

var errMoved = errors.New("core: another process was faster")

// finish marks an operation and its record as done by a block.
func finish(ctx context.Context, tx *Tx, op *ent.Operation, txHash string, block uint64) error {
	if err := tx.Operation.UpdateOneID(op.ID).SetStatus(operation.StatusFinal).SetTxHash(txHash).SetBlock(int64(block)).SetError("").Exec(ctx); err != nil {
		return err
	}
	return tx.Transaction.Update().Where(transaction.ID(op.TransactionID)).SetStatus(transaction.StatusSuccess).SetAmount(op.Amount).SetTxHash(txHash).
		SetReason("").SetSettledAt(tx.Now).Exec(ctx)
}
