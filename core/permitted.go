package core

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/evm"
)

// named puts the nonces of our Permit2 payments on the movements that they have made: Permit2 logs none. since is a time
// before all of the movements, in unix seconds.
//
// Whoever settles hands the nonce to Permit2, so it stands in the transaction's call data, unless a contract has kept it
// from before. Then the payment is told by Permit2 having used its nonce: between two that are alike but for who is charged,
// which only a seller can make who hides so, the older one is taken.
func (f *Funding) named(ctx context.Context, moved []evm.Movement, since int64) ([]evm.Movement, error) {
	open, err := f.promises(ctx, moved, since)
	if err != nil || len(open) == 0 {
		return moved, err
	}
	data := map[common.Hash][]byte{}
	for _, told := range []func(evm.Movement, common.Hash) (bool, error){
		func(m evm.Movement, nonce common.Hash) (bool, error) {
			if _, known := data[m.TxHash]; !known {
				if data[m.TxHash], err = f.chain.CallData(ctx, m.TxHash); err != nil {
					return false, err
				}
			}
			return bytes.Contains(data[m.TxHash], nonce[:]), nil
		},
		func(m evm.Movement, nonce common.Hash) (bool, error) { return f.usedBy(ctx, m, nonce) },
	} {
		for i, m := range moved {
			if m.AuthNonce != nil {
				continue
			}
			if moved[i].AuthNonce, open, err = pick(m, open, told); err != nil {
				return nil, err
			}
		}
	}
	return moved, nil
}

// promises are the Permit2 payments that may have made one of the movements, oldest first.
func (f *Funding) promises(ctx context.Context, moved []evm.Movement, since int64) ([]*ent.Transaction, error) {
	var from []string
	for _, m := range moved {
		if a := m.From.Hex(); m.AuthNonce == nil && !slices.Contains(from, a) {
			from = append(from, a)
		}
	}
	var all []*ent.Transaction
	for some := range slices.Chunk(from, addressesPerQuery) {
		found, err := f.db.writeEnt.Transaction.Query().Where(
			transaction.Permit2(true), transaction.FromAddressIn(some...), transaction.ValidBeforeUnixGT(since), transaction.TxHashIsNil(),
		).Order(transaction.ByID()).All(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// pick takes the first payment out of the open ones that a movement may be of, and that is told to be it.
func pick(m evm.Movement, open []*ent.Transaction, told func(evm.Movement, common.Hash) (bool, error)) (*common.Hash, []*ent.Transaction, error) {
	for i, t := range open {
		if t.FromAddress != m.From.Hex() || t.ToAddress != m.To.Hex() || !fits(t, m.Amount) {
			continue
		}
		nonce := common.HexToHash(*t.AuthNonce)
		if is, err := told(m, nonce); err != nil {
			return nil, open, err
		} else if is {
			return &nonce, slices.Delete(open, i, i+1), nil
		}
	}
	return nil, open, nil
}

// usedBy reports whether Permit2 had used a nonce by the end of the movement's block; of now, where no node has the state of
// that block any more.
func (f *Funding) usedBy(ctx context.Context, m evm.Movement, nonce common.Hash) (bool, error) {
	used, err := f.chain.Permit2Used(ctx, m.From, nonce, m.Block)
	if !errors.Is(err, evm.ErrUnavailable) {
		return used, err
	}
	head, err := f.chain.Head(ctx)
	if err != nil {
		return false, err
	}
	return f.chain.Permit2Used(ctx, m.From, nonce, head.Number)
}
