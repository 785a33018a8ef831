package demo

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
)

// Chain is what a Settler needs of a network; *chain.Client has it.
type Chain interface {
	Network() evm.Network
	NonceAt(ctx context.Context, a common.Address) (uint64, error)
	Fees(ctx context.Context) (evm.Fees, error)
	Simulate(ctx context.Context, from common.Address, call evm.Call) error
	Send(ctx context.Context, raw []byte) error
	Receipt(ctx context.Context, hash common.Hash) (evm.Receipt, error)
}

// Settler carries authorizations to the chain by one account, which pays the gas. Settlements may run at once; the
// account must not be used elsewhere while they do. Nothing is stored: a facilitator for production needs an
// outbox, and this one is for the demo.
type Settler struct {
	chain Chain
	key   *ecdsa.PrivateKey
	from  common.Address

	mu       sync.Mutex
	next     uint64 // account nonce of the next transaction, while any is in flight
	inFlight int
}

const (
	settleGas   = 150_000 // gas limit; generous, since what is not used is not paid
	sendTries   = 4       // account nonces that are tried when a node says that one is taken
	receiptPoll = 20 * time.Millisecond
)

// NewSettler is a settler that sends from key's account.
func NewSettler(client Chain, key *ecdsa.PrivateKey) *Settler {
	return &Settler{chain: client, key: key, from: crypto.PubkeyToAddress(key.PublicKey)}
}

// Address is the account that pays the gas.
func (s *Settler) Address() common.Address { return s.from }

// Settle sends an authorization and waits until it is mined or ctx ends. It is evm.ErrReverted when the token
// refuses, as it does a second use. The hash is set as soon as a transaction was sent; with another error beside
// it, the outcome is unknown.
func (s *Settler) Settle(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	call := evm.Call{To: s.chain.Network().USDC, Data: evm.TransferWithAuthorizationData(a, sig), Gas: settleGas}
	if err := s.chain.Simulate(ctx, s.from, call); err != nil {
		return common.Hash{}, fmt.Errorf("demo: settle: %w", err)
	}
	hash, err := s.send(ctx, call)
	if err != nil {
		return hash, fmt.Errorf("demo: settle: %w", err)
	}
	defer s.landed()
	poll := time.NewTicker(receiptPoll)
	defer poll.Stop()
	for {
		receipt, err := s.chain.Receipt(ctx, hash)
		switch {
		case err == nil && receipt.OK:
			return hash, nil
		case err == nil:
			return hash, fmt.Errorf("demo: settle: %w", evm.ErrReverted)
		case !errors.Is(err, evm.ErrNotFound) && !errors.Is(err, evm.ErrUnavailable):
			return hash, fmt.Errorf("demo: settle: %w", err)
		}
		select {
		case <-ctx.Done():
			return hash, fmt.Errorf("demo: settle: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// send gives the call the next account nonce and sends it. The lock is held until the node has it, because a
// nonce that is given away and not used would block all later ones. On success one more is in flight.
func (s *Settler) send(ctx context.Context, call evm.Call) (common.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight == 0 { // nothing of ours waits: what the chain says is true, whatever happened before
		nonce, err := s.chain.NonceAt(ctx, s.from)
		if err != nil {
			return common.Hash{}, err
		}
		s.next = nonce
	}
	fees, err := s.chain.Fees(ctx)
	if err != nil {
		return common.Hash{}, err
	}
	var hash common.Hash
	for range sendTries {
		var raw []byte
		if raw, hash, err = evm.SignTx(s.key, s.chain.Network().ChainID, s.next, fees, call); err != nil {
			return common.Hash{}, err
		}
		err = s.chain.Send(ctx, raw)
		if err == nil {
			s.next++
			s.inFlight++
			return hash, nil
		}
		if !errors.Is(err, evm.ErrKnown) && !errors.Is(err, evm.ErrUnderpriced) {
			return common.Hash{}, err
		}
		// The nonce is taken by a transaction that waits or was mined. Sending the same authorization under the
		// next one can cost gas at worst: the token lets it pass once.
		s.next++
	}
	return common.Hash{}, err
}

func (s *Settler) landed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}
