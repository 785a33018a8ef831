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
	for _, shown := range []bool{true, false} { // all that are told by call data first, so that none is taken for a hidden one
		for i, m := range moved {
			fit := fitting(m, open)
			if len(fit) == 0 {
				continue
			}
			if _, known := data[m.TxHash]; !known {
				if data[m.TxHash], err = f.chain.CallData(ctx, m.TxHash); err != nil {
					return nil, err
				}
			}
			is, err := f.pick(ctx, m, fit, shown, data[m.TxHash])
			if err != nil {
				return nil, err
			}
			if is != nil {
				nonce := nonceOf(is)
				moved[i].AuthNonce = &nonce
				open = slices.DeleteFunc(open, func(t *ent.Transaction) bool { return t == is })
			}
		}
	}
	return moved, nil
}

// pick is the payment that has made a movement, or nil. With shown only those count whose nonce is in the call data; one alone
// needs no other proof. A transaction may carry several, some of which have failed.
func (f *Funding) pick(ctx context.Context, m evm.Movement, fit []*ent.Transaction, shown bool, data []byte) (*ent.Transaction, error) {
	if shown {
		fit = slices.DeleteFunc(fit, func(t *ent.Transaction) bool {
			nonce := nonceOf(t)
			return !bytes.Contains(data, nonce[:])
		})
		if len(fit) == 1 {
			return fit[0], nil
		}
	}
	for _, t := range fit {
		if used, err := f.usedBy(ctx, m, nonceOf(t)); err != nil || used {
			return t, err
		}
	}
	return nil, nil
}

// fitting are the open payments that a movement without a name may be of.
func fitting(m evm.Movement, open []*ent.Transaction) (fit []*ent.Transaction) {
	for _, t := range open {
		if m.AuthNonce == nil && t.FromAddress == m.From.Hex() && t.ToAddress == m.To.Hex() && fits(t, m.Amount) {
			fit = append(fit, t)
		}
	}
	return fit
}

func nonceOf(t *ent.Transaction) common.Hash { return common.HexToHash(*t.AuthNonce) }

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
