package core

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/ent/transfer"
	"bursar/evm"
)

// told is a movement, with the payment through Permit2 that it is of; nil: its log tells whose it is, or it is nobody's.
type told struct {
	evm.Movement
	payment *ent.Transaction
}

// named finds the payments through Permit2 that movements are of: Permit2 logs no nonce. since is a time before all of the
// movements, in unix seconds.
//
// Whoever settles hands the nonce to Permit2, so it stands in the transaction's call data, unless a contract has kept it from
// before; and what stands there need not be what was settled. The movements of one block that a payer's payments to one payee
// have made can so be told apart by nothing that the payee cannot make look otherwise. What holds in any case: a payment has
// one movement, of no more than it may be, and only once Permit2 has used its nonce; and each movement has a payment. One
// that had none would be paid from the deposits of all sessions.
func (f *Funding) named(ctx context.Context, moved []evm.Movement, since int64) ([]told, error) {
	out := make([]told, len(moved))
	for i, m := range moved {
		out[i].Movement = m
	}
	which, open, err := f.waiting(ctx, moved, since)
	if err != nil {
		return nil, err
	}
	type parties struct{ from, to string }
	between := map[parties][]int{}
	for _, i := range which {
		p := parties{moved[i].From.Hex(), moved[i].To.Hex()}
		between[p] = append(between[p], i)
	}
	for p, of := range between {
		n := naming{f: f, used: map[useAt]bool{}}
		for _, t := range open {
			if t.FromAddress == p.from && t.ToAddress == p.to {
				n.open = append(n.open, t)
			}
		}
		for _, i := range of {
			n.moved = append(n.moved, moved[i])
		}
		names, err := n.names(ctx)
		if err != nil {
			return nil, err
		}
		for k, i := range of {
			out[i].payment = names[k]
		}
	}
	return out, nil
}

// waiting are the movements without a name that are not booked and may be a Permit2 payment's, by their place, and the payments
// that wait for one, oldest first. Both are of one moment: what is booked must not be taken for another payment's.
func (f *Funding) waiting(ctx context.Context, moved []evm.Movement, since int64) (which []int, open []*ent.Transaction, err error) {
	var from []string
	for _, m := range moved {
		if a := m.From.Hex(); m.AuthNonce == nil && !slices.Contains(from, a) {
			from = append(from, a)
		}
	}
	err = f.db.atOnce(ctx, func(c *ent.Client) error {
		for some := range slices.Chunk(from, addressesPerQuery) {
			found, err := c.Transaction.Query().Where(
				transaction.Permit2(true), transaction.FromAddressIn(some...), transaction.ValidBeforeUnixGT(since), transaction.TxHashIsNil(),
			).Order(transaction.ByID()).All(ctx)
			if err != nil {
				return err
			}
			open = append(open, found...)
		}
		for i, m := range moved {
			if m.AuthNonce != nil || !slices.ContainsFunc(open, func(t *ent.Transaction) bool { return mayBe(t, m) }) {
				continue
			}
			key, err := freshKey(ctx, c, m)
			if err != nil {
				return err
			}
			if booked, err := c.Transfer.Query().Where(transfer.LogKey(key)).Exist(ctx); err != nil {
				return err
			} else if !booked {
				which = append(which, i)
			}
		}
		return nil
	})
	return which, open, err
}

// mayBe reports whether a movement may be a payment's, by what its log shows.
func mayBe(t *ent.Transaction, m evm.Movement) bool {
	return t.FromAddress == m.From.Hex() && t.ToAddress == m.To.Hex() && fits(t, m.Amount)
}

func nonceOf(t *ent.Transaction) common.Hash { return common.HexToHash(*t.AuthNonce) }

// naming is how the movements between two parties are told apart.
type naming struct {
	f     *Funding
	moved []evm.Movement     // in chain order
	open  []*ent.Transaction // oldest first
	used  map[useAt]bool     // what the chain has said
}

// useAt asks whether a payment's nonce was used by the end of a block.
type useAt struct {
	payment uuid.UUID
	block   uint64
}

// names are the payments of the movements, nil for one that has none. The call data is believed unless a movement is left
// over by it.
func (n *naming) names(ctx context.Context) ([]*ent.Transaction, error) {
	shown, err := n.byCallData(ctx)
	if err != nil {
		return nil, err
	}
	names, err := n.byAmount(ctx, shown)
	if err != nil || !slices.Contains(names, nil) {
		return names, err
	}
	others, err := n.byAmount(ctx, make([]*ent.Transaction, len(n.moved)))
	if found(others) > found(names) {
		names = others
	}
	return names, err
}

func found(names []*ent.Transaction) (count int) {
	for _, t := range names {
		if t != nil {
			count++
		}
	}
	return count
}

// byCallData names the movements whose payments' nonces stand in the call data. A transaction may carry several, some of
// which have failed; they are settled in the order in which they stand there.
func (n *naming) byCallData(ctx context.Context) ([]*ent.Transaction, error) {
	known := map[common.Hash]*ent.Transaction{}
	for _, t := range n.open {
		known[nonceOf(t)] = t
	}
	carried := map[common.Hash][]*ent.Transaction{}
	names := make([]*ent.Transaction, len(n.moved))
	for i, m := range n.moved {
		if _, read := carried[m.TxHash]; !read {
			data, err := n.f.chain.CallData(ctx, m.TxHash)
			if err != nil {
				return nil, err
			}
			carried[m.TxHash] = inData(data, known)
		}
		if err := n.take(ctx, names, i, carried[m.TxHash]); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// inData are the payments whose nonces stand in call data, in that order.
func inData(data []byte, known map[common.Hash]*ent.Transaction) (shown []*ent.Transaction) {
	for ; len(data) >= common.HashLength; data = data[1:] {
		if t := known[common.Hash(data[:common.HashLength])]; t != nil {
			shown = append(shown, t)
		}
	}
	return shown
}

// byAmount names the movements that names leaves open, each by the payment that may be the least: the others may be all that
// it may. So no movement is left over that another choice would have had a payment for.
func (n *naming) byAmount(ctx context.Context, names []*ent.Transaction) ([]*ent.Transaction, error) {
	least := slices.Clone(n.open)
	slices.SortStableFunc(least, func(a, b *ent.Transaction) int {
		if c := cmp.Compare(a.Quoted, b.Quoted); c != 0 || upTo(a) == upTo(b) {
			return c
		} else if upTo(b) {
			return -1
		}
		return 1
	})
	names = slices.Clone(names)
	for i := range n.moved {
		if names[i] == nil {
			if err := n.take(ctx, names, i, least); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// take names a movement by the first payment of a list that no other has, and whose nonce Permit2 has used.
func (n *naming) take(ctx context.Context, names []*ent.Transaction, i int, list []*ent.Transaction) error {
	for _, t := range list {
		if !mayBe(t, n.moved[i]) || slices.Contains(names, t) {
			continue
		}
		at := useAt{t.ID, n.moved[i].Block}
		used, asked := n.used[at]
		if !asked {
			var err error
			if used, err = n.f.usedBy(ctx, n.moved[i], nonceOf(t)); err != nil {
				return err
			}
			n.used[at] = used
		}
		if used {
			names[i] = t
			return nil
		}
	}
	return nil
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
