// Package chaintest gives a test its own development chain and a client on it. A chain costs some tens of
// milliseconds and nothing of it is faked.
package chaintest

import (
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/chain"
	"bursar/chain/devnet"
	"bursar/evm"
	"bursar/money"
)

// MaxAhead is how far the chain's clock may run ahead in a test, so that bursts do not wait. A test that sends
// thousands of dependent transactions ends up that many seconds in the future.
const MaxAhead = time.Hour

// Net is a running chain and an opened client. Both end with the test.
type Net struct {
	*chain.Client
	Node *devnet.Node

	t testing.TB
}

// Option changes the chain of a test.
type Option func(*devnet.Config)

// WithChainID plays another network, such as evm.BaseSepoliaID for clients that know public networks only.
func WithChainID(id uint64) Option { return func(c *devnet.Config) { c.ChainID = id } }

// WithHeartbeat lets an idle chain go on, as public ones do. Clients such as viem ask for a receipt once a block, and one that
// has missed its own waits for the next.
func WithHeartbeat() Option { return func(c *devnet.Config) { c.Heartbeat = time.Second } }

// WithConfig changes what the other options do not reach.
func WithConfig(change func(*devnet.Config)) Option { return change }

// New starts a chain in memory with its RPC on a free loopback port.
func New(t testing.TB, options ...Option) *Net {
	t.Helper()
	cfg := devnet.Config{
		RPCAddr: "127.0.0.1:0", MaxAhead: MaxAhead, Heartbeat: MaxAhead,
		Clock: time.Now, // the chain stamps blocks by the wall clock, so the tests of it do too
	}
	for _, o := range options {
		o(&cfg)
	}
	node, err := devnet.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := chain.Open(t.Context(), chain.Config{URLs: []string{node.URL()}, Network: node.Network(), Clock: cfg.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Net{Client: client, Node: node, t: t}
}

// Fund mints USDC at an address and returns when it is there.
func (n *Net) Fund(to common.Address, amount money.USDC) common.Hash {
	n.t.Helper()
	hash, err := n.Node.Mint(n.t.Context(), to, amount)
	if err != nil {
		n.t.Fatal(err)
	}
	return hash
}

// Ether sends ether in wei to an address and returns when it is there.
func (n *Net) Ether(to common.Address, wei *big.Int) common.Hash {
	n.t.Helper()
	hash, err := n.Node.Ether(n.t.Context(), to, wei)
	if err != nil {
		n.t.Fatal(err)
	}
	return hash
}

// Balance is an address's USDC now.
func (n *Net) Balance(a common.Address) money.USDC {
	n.t.Helper()
	amount, err := n.BalanceOf(n.t.Context(), a, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	return amount
}

// Mined waits until a transaction has a receipt, for ten seconds at most.
func (n *Net) Mined(hash common.Hash) evm.Receipt {
	n.t.Helper()
	const patience = 10 * time.Second
	give := time.NewTimer(patience)
	defer give.Stop()
	poll := time.NewTicker(pause)
	defer poll.Stop()
	for {
		receipt, err := n.Receipt(n.t.Context(), hash)
		if err == nil {
			return receipt
		}
		select {
		case <-poll.C:
		case <-give.C:
			n.t.Fatalf("no receipt of %s: %v", hash, err)
		}
	}
}
