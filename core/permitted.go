package core

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

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

// tellApart finds the payments through Permit2 that movements are of: Permit2 logs no nonce. since is a time before all of the
// movements, in unix seconds.
//
// Whoever settles hands the nonce to Permit2, so it stands in the transaction's call data, unless a contract has kept it from
// before; and what stands there need not be what was settled. The movements of one block that a payer's payments to one payee
// have made can so be told apart by nothing that the payee cannot make look otherwise. What holds in any case: a payment has
// one movement, of no more than it may be, and only once Permit2 has used its nonce; and each movement has a payment. One
// that had none would be paid from the deposits of all sessions.
func (f *Funding) tellApart(ctx context.Context, moved []evm.Movement, since int64) ([]told, error) {
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

// named are the payments of the movements, nil for one that has none, and the same payments as a set.
type named struct {
	payments []*ent.Transaction
	taken    map[*ent.Transaction]bool
}

// names are the payments of the movements. The call data is believed unless a movement is left over by it.
func (n *naming) names(ctx context.Context) ([]*ent.Transaction, error) {
	first := named{make([]*ent.Transaction, len(n.moved)), map[*ent.Transaction]bool{}}
	if err := n.byCallData(ctx, first); err != nil {
		return nil, err
	}
	if err := n.byAmount(ctx, first); err != nil || len(first.taken) == len(n.moved) {
		return first.payments, err
	}
	second := named{make([]*ent.Transaction, len(n.moved)), map[*ent.Transaction]bool{}}
	err := n.byAmount(ctx, second)
	if len(second.taken) > len(first.taken) {
		first = second
	}
	return first.payments, err
}

// byCallData names the movements whose payments' nonces stand in the call data. A transaction may carry several, some of
// which have failed; they are settled in the order in which they stand there.
func (n *naming) byCallData(ctx context.Context, to named) error {
	known := map[common.Hash]*ent.Transaction{}
	for _, t := range n.open {
		known[nonceOf(t)] = t
	}
	data, err := n.f.callData(ctx, n.moved)
	if err != nil {
		return err
	}
	carried, inBlock := map[common.Hash][]*ent.Transaction{}, map[uint64][]*ent.Transaction{}
	for _, m := range n.moved {
		if _, met := carried[m.TxHash]; !met {
			carried[m.TxHash] = inData(data[m.TxHash], known)
			inBlock[m.Block] = append(inBlock[m.Block], carried[m.TxHash]...)
		}
	}
	for block, shown := range inBlock { // all of a block by one question
		if _, err := n.usedAt(ctx, shown, block); err != nil {
			return err
		}
	}
	for i, m := range n.moved {
		if err := n.take(ctx, to, i, carried[m.TxHash]); err != nil {
			return err
		}
	}
	return nil
}

// readTogether is how many transactions' call data are asked for at one time.
const readTogether = 16

// callData is what the transactions of movements were sent with.
func (f *Funding) callData(ctx context.Context, moved []evm.Movement) (map[common.Hash][]byte, error) {
	out := map[common.Hash][]byte{}
	var hashes []common.Hash
	for _, m := range moved {
		if _, met := out[m.TxHash]; !met {
			out[m.TxHash], hashes = nil, append(hashes, m.TxHash)
		}
	}
	found, errs := make([][]byte, len(hashes)), make([]error, len(hashes))
	gate := make(chan struct{}, readTogether)
	var wg sync.WaitGroup
	for i, hash := range hashes {
		gate <- struct{}{}
		wg.Go(func() {
			found[i], errs[i] = f.chain.CallData(ctx, hash)
			<-gate
		})
	}
	wg.Wait()
	for i, hash := range hashes {
		out[hash] = found[i]
	}
	return out, errors.Join(errs...)
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

// byAmount names the movements that have no name yet, each by the payment that may be the least: the others may be all that it
// may. So no movement is left over that another choice would have had a payment for.
func (n *naming) byAmount(ctx context.Context, to named) error {
	if len(to.taken) == len(n.moved) {
		return nil
	}
	least, err := n.usedAt(ctx, n.open, n.moved[len(n.moved)-1].Block) // one that is not used in the end never was
	if err != nil {
		return err
	}
	slices.SortStableFunc(least, func(a, b *ent.Transaction) int {
		if c := cmp.Compare(a.Quoted, b.Quoted); c != 0 || upTo(a) == upTo(b) {
			return c
		} else if upTo(b) {
			return -1
		}
		return 1
	})
	for i := range n.moved {
		if to.payments[i] == nil {
			if err := n.take(ctx, to, i, least); err != nil {
				return err
			}
		}
	}
	return nil
}

// take names a movement by the first payment of a list that no other has, and whose nonce Permit2 has used.
func (n *naming) take(ctx context.Context, to named, i int, list []*ent.Transaction) error {
	var free []*ent.Transaction
	for _, t := range list {
		if mayBe(t, n.moved[i]) && !to.taken[t] {
			free = append(free, t)
		}
	}
	used, err := n.usedAt(ctx, free, n.moved[i].Block)
	if err == nil && len(used) > 0 {
		to.payments[i], to.taken[used[0]] = used[0], true
	}
	return err
}

// usedAt are the payments of a list whose nonces Permit2 had used by the end of a block; of now, where no node has the state
// of that block any more.
func (n *naming) usedAt(ctx context.Context, list []*ent.Transaction, block uint64) (used []*ent.Transaction, err error) {
	var nonces []common.Hash
	var unknown []useAt
	for _, t := range list {
		if at := (useAt{t.ID, block}); !n.knows(at) {
			nonces, unknown = append(nonces, nonceOf(t)), append(unknown, at)
		}
	}
	said, err := n.f.chain.Permit2UsedOf(ctx, n.moved[0].From, nonces, block)
	if errors.Is(err, evm.ErrUnavailable) {
		var head evm.Block
		if head, err = n.f.chain.Head(ctx); err != nil {
			return nil, err
		}
		said, err = n.f.chain.Permit2UsedOf(ctx, n.moved[0].From, nonces, head.Number)
	}
	if err != nil {
		return nil, err
	}
	for i, at := range unknown {
		n.used[at] = said[i]
	}
	for _, t := range list {
		if n.used[useAt{t.ID, block}] {
			used = append(used, t)
		}
	}
	return used, nil
}

func (n *naming) knows(at useAt) bool {
	_, known := n.used[at]
	return known
}
