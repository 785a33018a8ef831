package coretest

import (
	"context"
	"crypto/ecdsa"
	"math/big"
	"net/http"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

// Seller is a paid service that settles on the world's chain.
type Seller struct {
	*paytest.Service
	PayTo common.Address
	Key   *ecdsa.PrivateKey // of its facilitator
}

// Seller starts a paid service whose facilitator settles each proof that it serves, to an address of its own.
func (w *World) Seller(price money.USDC) *Seller {
	w.T.Helper()
	key, err := crypto.GenerateKey()
	w.no(err)
	return w.SellerTo(crypto.PubkeyToAddress(key.PublicKey), price)
}

// SellerTo is Seller with a payee.
func (w *World) SellerTo(payTo common.Address, price money.USDC) *Seller {
	w.T.Helper()
	key, settle := w.Facilitator()
	return &Seller{
		PayTo: payTo, Key: key,
		Service: paytest.New(w.T, paytest.Options{
			Network: w.Net.Client.Network(), PayTo: payTo, Clock: w.Clock.Now, Price: price,
			Settle: func(r *http.Request, p pay.Proof) (common.Hash, error) { return settle(r.Context(), p) },
		}),
	}
}

// Facilitator returns what carries a proof to the chain and waits until it is mined, and the key that it sends with.
func (w *World) Facilitator() (*ecdsa.PrivateKey, func(context.Context, pay.Proof) (common.Hash, error)) {
	w.T.Helper()
	key, err := crypto.GenerateKey()
	w.no(err)
	facilitator := crypto.PubkeyToAddress(key.PublicKey)
	w.Net.Ether(facilitator, big.NewInt(1e18))
	var mu sync.Mutex
	return key, func(ctx context.Context, p pay.Proof) (common.Hash, error) {
		mu.Lock()
		defer mu.Unlock()
		n := w.Net.Client
		call := evm.Call{To: n.Network().USDC, Data: evm.TransferWithAuthorizationData(p.Authorization, p.Signature), Gas: 150_000}
		if err := n.Simulate(ctx, facilitator, call); err != nil {
			return common.Hash{}, err
		}
		got, err := chaintest.Deliver(ctx, n, key, call)
		if err == nil && !got.OK {
			err = evm.ErrReverted
		}
		return got.TxHash, err
	}
}
