package coretest

import (
	"context"
	"crypto/ecdsa"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/google/uuid"

	"bursar/chain"
	"bursar/core"
	"bursar/ent/session"
	"bursar/evm"
	"bursar/money"
)

// deep is the chain with confirmations.
type deep struct {
	*chain.Client
	depth uint64
}

// Network is the chain's, with the confirmations.
func (d deep) Network() evm.Network {
	n := d.Client.Network()
	n.Confirmations = d.depth
	return n
}

// Confirmations is how many blocks the world waits for on top of a log.
func Confirmations(n uint64) Option { return func(s *settings) { s.depth = n } }

// Mine seals blocks, one a second of the world's time.
func (w *World) Mine(blocks int) {
	for range blocks {
		w.Net.Node.Commit()
		w.Clock.ahead.Add(int64(time.Second))
	}
}

// Height is the newest block's number.
func (w *World) Height() uint64 {
	w.T.Helper()
	head, err := w.Net.Head(w.Ctx)
	w.no(err)
	return head.Number
}

// Reorg abandons the newest blocks. Their transactions come again, in other blocks, as soon as any are sealed; the new
// branch is a block longer than the old one.
func (w *World) Reorg(blocks int) { w.Replace(w.Height() - uint64(blocks)) }

// Replace abandons the blocks above a number. The transactions in them of some senders never come again: others take
// their nonces.
func (w *World) Replace(back uint64, senders ...*ecdsa.PrivateKey) {
	w.T.Helper()
	node, err := ethclient.Dial(w.Net.Node.URL())
	w.no(err)
	defer node.Close()
	height := w.Height()
	to, err := w.Net.BlockByNumber(w.Ctx, back)
	w.no(err)
	var by []*types.Transaction
	for _, key := range senders {
		by = append(by, w.usurpers(node, key, back)...)
	}
	w.no(w.Net.Node.Replace(to.Hash, by...))
	for w.Height() <= height {
		w.Mine(1)
	}
}

// usurpers take the nonces that a sender has used above a block.
func (w *World) usurpers(node *ethclient.Client, key *ecdsa.PrivateKey, back uint64) []*types.Transaction {
	w.T.Helper()
	from := crypto.PubkeyToAddress(key.PublicKey)
	first, err := node.NonceAt(w.Ctx, from, new(big.Int).SetUint64(back))
	w.no(err)
	next, err := node.NonceAt(w.Ctx, from, nil)
	w.no(err)
	var out []*types.Transaction
	for ; first < next; first++ {
		raw, _, err := evm.SignTx(key, w.Net.Client.Network().ChainID, first, evm.Fees{TipWei: 50e9, CapWei: 200e9}, evm.Call{To: from, Gas: 21_000})
		w.no(err)
		tx := new(types.Transaction)
		w.no(tx.UnmarshalBinary(raw))
		out = append(out, tx)
	}
	return out
}

// Session opens a session and mines just as many blocks on its deposit as it takes.
func (w *World) Session(p core.Principal, a *core.AgentView, deposit money.USDC) *core.SessionView {
	w.T.Helper()
	var v *core.SessionView
	var err error
	w.confirm(func() {
		v, err = w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: deposit})
	}, func() *string {
		all, err := w.Core.Sessions.List(w.Ctx, p, &a.ID)
		w.no(err)
		if len(all) == 0 {
			return nil
		}
		return all[0].DepositTxHash
	})
	w.no(err)
	if v.Status != session.StatusOpen {
		w.T.Fatalf("the session is %s", v.Status)
	}
	return v
}

// Close closes a session and mines just as many blocks on its refund as it takes.
func (w *World) Close(p core.Principal, id uuid.UUID) *core.SessionView {
	w.T.Helper()
	var v *core.SessionView
	var err error
	w.confirm(func() { v, err = w.Core.Sessions.Close(w.Ctx, p, id, nil) }, func() *string {
		v, err := w.Core.Sessions.Get(w.Ctx, p, id)
		w.no(err)
		return v.RefundTxHash
	})
	w.no(err)
	return v
}

// confirm runs f, and mines the confirmations once the transaction is there that hash names.
func (w *World) confirm(f func(), hash func() *string) {
	ctx, done := context.WithCancel(w.Ctx)
	go func() {
		defer done()
		f()
	}()
	for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if h := hash(); h != nil {
			if _, err := w.Net.Receipt(w.Ctx, common.HexToHash(*h)); err == nil {
				w.Mine(int(w.Deps.Chain.Network().Confirmations))
				break
			}
		}
	}
	<-ctx.Done()
}

// Fund brings USDC to an agent's wallet, on chain.
func (w *World) Fund(a *core.AgentView, amount money.USDC) {
	w.T.Helper()
	w.Net.Fund(common.HexToAddress(a.Address), amount)
}
