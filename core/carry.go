package core

import (
	"context"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/sender"
	"bursar/ent/transaction"
	"bursar/evm"
)

// A carrier is a transaction of a relayer that carries operations. Authorizations share one through Multicall3:
// whoever sends takes all that wait. What needs the first relayer as the caller (ether, pulls) has one of its own, and so has a
// transfer, whose hash is shown to its seller.

// Bounds of carriers.
const (
	carryBatch = 40      // authorizations in one: at most a tenth of a block's gas, and of a node's limit for a transaction
	innerGas   = 110_000 // a first USDC transfer by authorization takes some 86,000
	carrierGas = 60_000  // of a batch, besides its calls
	etherGas   = 21_000
	leaseTime  = 15 * time.Second // of the right to send; given back after each run
)

// carried shares a run of carry, and reports whether it took the operation along.
func (o *Operations) carried(ctx context.Context, op *ent.Operation) (bool, error) {
	if err := o.carrying.do(ctx, o.carry); err != nil {
		return false, err
	}
	now, err := o.db.writeEnt.Operation.Get(ctx, op.ID)
	return err == nil && now.Status != operation.StatusAuthorized, err
}

// carry sends everything that is authorized, by the relayers that no other process is sending with now.
func (o *Operations) carry(ctx context.Context) error {
	order := o.keys.relayers
	for i := range order {
		waiting, err := o.db.writeEnt.Operation.Query().Where(operation.ChainID(int64(o.chainID())), operation.StatusEQ(operation.StatusAuthorized)).Exist(ctx)
		if err != nil || !waiting {
			return err
		}
		if i == 0 {
			if order, err = o.idlest(ctx); err != nil {
				return err
			}
		}
		if err := o.carryBy(ctx, order[i]); err != nil {
			return err
		}
	}
	return nil
}

// carryBy sends what a relayer may, if no other process is sending with it.
func (o *Operations) carryBy(ctx context.Context, by relayer) error {
	mine, err := o.lease(ctx, by)
	if err != nil || !mine {
		return err
	}
	defer o.giveBack(context.WithoutCancel(ctx), by)
	var after uuid.UUID
	for {
		ops, err := o.db.writeEnt.Operation.Query().Where(operation.IDGT(after), operation.ChainID(int64(o.chainID())),
			operation.StatusEQ(operation.StatusAuthorized)).Order(operation.ByID()).Limit(carryBatch).All(ctx)
		if err != nil {
			return err
		}
		var shared []*ent.Operation
		for _, op := range ops {
			after = op.ID
			switch {
			case guarded(op.Kind) && by.at != o.keys.relayerAddress():
			case guarded(op.Kind), op.Kind == operation.KindTransfer:
				if err := o.load(ctx, by, []*ent.Operation{op}); err != nil {
					return err
				}
			default:
				shared = append(shared, op)
			}
		}
		if err := o.load(ctx, by, shared); err != nil {
			return err
		}
		if len(ops) < carryBatch {
			return nil
		}
	}
}

// load puts operations on one carrier and sends it. What would fail now stays, with the reason.
func (o *Operations) load(ctx context.Context, by relayer, ops []*ent.Operation) error {
	if len(ops) == 0 {
		return nil
	}
	fit, calls, err := o.fit(ctx, by.at, ops)
	if err != nil || len(fit) == 0 {
		return err
	}
	carrier := calls[0]
	if len(calls) > 1 {
		carrier = evm.Call{To: o.chain.Network().Multicall3, Data: evm.Aggregate3Data(calls), Gas: carrierGas + uint64(len(calls))*innerGas}
	}
	fees, err := o.chain.Fees(ctx)
	if err != nil {
		return err
	}
	head, err := o.chain.Head(ctx)
	if err != nil {
		return err
	}
	mined, err := o.chain.NonceAt(ctx, by.at)
	if err != nil {
		return err
	}
	err = o.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		return o.sign(ctx, tx, by, fit, carrier, fees, head.Number, mined)
	})
	if errors.Is(err, errMoved) {
		return nil
	}
	if err != nil {
		return err
	}
	o.step(StepStored)
	for _, op := range fit {
		if err := o.Advance(ctx, op.ID); err != nil {
			o.log.WarnContext(ctx, "operation does not advance", "operation_id", op.ID, "error", err)
		}
	}
	return nil
}

// fit leaves the operations that would go through on the newest state, with their calls.
func (o *Operations) fit(ctx context.Context, from common.Address, ops []*ent.Operation) (fit []*ent.Operation, calls []evm.Call, err error) {
	all := make([]evm.Call, len(ops))
	for i, op := range ops {
		o.step(StepAuthorized)
		if all[i], err = o.call(op); err != nil {
			return nil, nil, err
		}
	}
	verdicts := []error{nil}
	if len(all) == 1 {
		if verdicts[0] = o.chain.Simulate(ctx, from, all[0]); errors.Is(verdicts[0], evm.ErrUnavailable) {
			return nil, nil, verdicts[0]
		}
	} else if verdicts, err = o.chain.SimulateEach(ctx, from, all); err != nil {
		return nil, nil, err
	}
	for i, op := range ops {
		if ended, err := o.endUnsigned(ctx, op, verdicts[i]); err != nil {
			return nil, nil, err
		} else if ended {
			continue
		}
		if verdicts[i] != nil {
			o.log.WarnContext(ctx, "operation would fail now", "operation_id", op.ID, "error", verdicts[i])
			if err := o.note(ctx, op, verdicts[i]); err != nil {
				return nil, nil, err
			}
			continue
		}
		fit, calls = append(fit, op), append(calls, all[i])
	}
	return fit, calls, nil
}

// sign takes a relayer's next nonce and stores the signed bytes, in one commit and before anything is sent.
func (o *Operations) sign(ctx context.Context, tx *Tx, by relayer, ops []*ent.Operation, c evm.Call, fees evm.Fees, head, mined uint64) error {
	nonce, err := o.takeNonce(ctx, tx, by.at, mined)
	if err != nil {
		return err
	}
	raw, hash, err := evm.SignTx(by.key, o.chainID(), nonce, fees, c)
	if err != nil {
		return err
	}
	carrier, err := tx.ChainTx.Create().SetChainID(int64(o.chainID())).SetSender(by.at.Hex()).SetNonce(int64(nonce)).SetCreatedAt(tx.Now).Save(ctx)
	if err != nil {
		return err
	}
	if err := tx.Attempt.Create().SetChainTxID(carrier.ID).SetHash(hash.Hex()).SetRaw(raw).SetTipWei(fees.TipWei).SetCapWei(fees.CapWei).
		SetAtBlock(int64(head)).SetCreatedAt(tx.Now).Exec(ctx); err != nil {
		return err
	}
	ids, records := make([]uuid.UUID, len(ops)), make([]uuid.UUID, len(ops))
	for i, op := range ops {
		ids[i], records[i] = op.ID, op.TransactionID
	}
	n, err := tx.Operation.Update().Where(operation.IDIn(ids...), operation.StatusEQ(operation.StatusAuthorized)).
		SetStatus(operation.StatusSigned).SetChainTxID(carrier.ID).SetTxHash(hash.Hex()).SetError("").Save(ctx)
	if err != nil {
		return err
	}
	if n != len(ops) {
		return errMoved // one has expired meanwhile; the nonce goes back with the transaction
	}
	return tx.Transaction.Update().Where(transaction.IDIn(records...)).SetTxHash(hash.Hex()).Exec(ctx)
}

// takeNonce hands out a sender's nonces one by one under a row lock. mined is what the chain says is next.
func (o *Operations) takeNonce(ctx context.Context, tx *Tx, from common.Address, mined uint64) (uint64, error) {
	q := tx.Sender.Query().Where(sender.ChainID(int64(o.chainID())), sender.Address(from.Hex()))
	if o.db.Dialect == "postgres" {
		q = q.ForUpdate()
	}
	row, err := q.Only(ctx)
	if err != nil {
		return 0, err
	}
	nonce := max(row.NextNonce, int64(mined)) // the key may have been used elsewhere
	return uint64(nonce), tx.Sender.UpdateOneID(row.ID).SetNextNonce(nonce + 1).Exec(ctx)
}

// lease takes the right to send with a relayer for a while, unless another process has it.
func (o *Operations) lease(ctx context.Context, by relayer) (bool, error) {
	now := o.now()
	err := o.db.writeEnt.Sender.Create().SetChainID(int64(o.chainID())).SetAddress(by.at.Hex()).SetNextNonce(0).SetCreatedAt(now).
		OnConflictColumns(sender.FieldChainID, sender.FieldAddress).DoNothing().Exec(ctx)
	if err != nil && !errors.Is(err, errNoRows) && err.Error() != errNoRows.Error() {
		return false, err
	}
	n, err := o.db.writeEnt.Sender.Update().Where(
		sender.ChainID(int64(o.chainID())), sender.Address(by.at.Hex()),
		sender.Or(sender.LeaseUntilUnixLT(now.Unix()), sender.LeaseOwner(o.process)),
	).SetLeaseOwner(o.process).SetLeaseUntilUnix(now.Add(leaseTime).Unix()).Save(ctx)
	return n == 1, err
}

func (o *Operations) giveBack(ctx context.Context, by relayer) {
	err := o.db.writeEnt.Sender.Update().Where(
		sender.ChainID(int64(o.chainID())), sender.Address(by.at.Hex()), sender.LeaseOwner(o.process),
	).SetLeaseUntilUnix(0).Exec(ctx)
	if err != nil {
		o.log.WarnContext(ctx, "the right to send was not given back; it runs out by itself", "error", err)
	}
}
