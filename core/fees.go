package core

import (
	"context"
	"errors"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"

	"bursar/ent"
	"bursar/ent/attempt"
	"bursar/ent/chaintx"
	"bursar/ent/transaction"
	"bursar/evm"
)

// feeWindow is how many of a relayer's newest account nonces NoteFees looks at. One whose transaction never got a
// receipt, because the key was used elsewhere, is so forgotten in the end.
const feeWindow = 500

// NoteFees writes down what each of the relayers' transactions has cost, once it is mined at the confirmed depth. It is
// apart from what makes operations final: the watcher may end one before anybody has read its receipt.
func (o *Operations) NoteFees(ctx context.Context) error {
	var all error
	for _, r := range o.keys.relayers {
		all = errors.Join(all, o.noteFees(ctx, r.at))
	}
	return all
}

func (o *Operations) noteFees(ctx context.Context, by common.Address) error {
	mined, err := o.chain.NonceAt(ctx, by)
	if err != nil || mined == 0 {
		return err
	}
	head, err := o.chain.Head(ctx)
	if err != nil {
		return err
	}
	unknown, err := o.db.readEnt.ChainTx.Query().Where(
		chaintx.ChainID(int64(o.chainID())), chaintx.Sender(by.Hex()), chaintx.FeeWeiIsNil(),
		chaintx.NonceLT(int64(mined)), chaintx.NonceGTE(int64(mined)-feeWindow),
	).Order(chaintx.ByNonce()).All(ctx)
	if err != nil {
		return err
	}
	for _, t := range unknown {
		if err := o.noteFee(ctx, t, head.Number); err != nil {
			return err
		}
	}
	return nil
}

// noteFee finds the one of a transaction's forms that was mined.
func (o *Operations) noteFee(ctx context.Context, t *ent.ChainTx, head uint64) error {
	attempts, err := o.db.readEnt.Attempt.Query().Where(attempt.ChainTxID(t.ID)).Order(attempt.ByCreatedAt(desc())).All(ctx)
	if err != nil {
		return err
	}
	for _, a := range attempts {
		r, err := o.chain.Receipt(ctx, common.HexToHash(a.Hash))
		if errors.Is(err, evm.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if r.Block+o.chain.Network().Confirmations > head {
			return nil // a reorganisation may still mine it at another price
		}
		return o.db.writeEnt.ChainTx.UpdateOneID(t.ID).SetFeeWei(r.Fee().String()).Exec(ctx)
	}
	return nil
}

// GasFee is what the chain transaction that carries a record has cost this server in wei: nil when none of ours carries
// it, or it is not confirmed yet. Several records may share one.
func (s *Transactions) GasFee(ctx context.Context, p Principal, t *ent.Transaction) (*string, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	if t.OrgID != p.OrgID {
		return nil, E(NotFound, "Transaction not found")
	}
	switch t.Kind {
	case transaction.KindPayment, transaction.KindFund, transaction.KindOnramp:
		if t.ServiceID == nil || t.SessionID != nil {
			return nil, nil // carried by others, whose gas it was
		}
	case transaction.KindDeposit, transaction.KindRefund, transaction.KindDrain, transaction.KindAutoTopup, transaction.KindGasSponsor:
	}
	if t.TxHash == nil {
		return nil, nil
	}
	carrier, err := s.db.readEnt.ChainTx.Query().Where(chaintx.FeeWeiNotNil(), func(q *entsql.Selector) {
		a := entsql.Table(attempt.Table)
		q.Where(entsql.In(q.C(chaintx.FieldID), entsql.Select(a.C(attempt.FieldChainTxID)).From(a).Where(entsql.EQ(a.C(attempt.FieldHash), *t.TxHash))))
	}).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &carrier.FeeWei, nil
}
