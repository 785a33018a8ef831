// Package devnet runs a complete Ethereum development chain inside the process: a go-ethereum node with stand-ins for
// USDC, WETH, Multicall3, Permit2 and the two proxies of x402 at the addresses of Base Sepolia, and a faucet. It seals a
// block as soon as a transaction is there, keeps its blocks through a crash, and answers JSON-RPC on loopback only.
package devnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/catalyst"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/rpc"

	"bursar/evm"
)

// Config says where and how the chain runs. The zero value of a field has the meaning that is named there.
type Config struct {
	// DataDir is the folder of the chain's data; empty keeps everything in memory. Each chain id has its own
	// folder in it.
	DataDir string
	// ChainID must be a network of the registry whose USDC is named "USDC"; 0 is evm.DevID. Another id than that
	// is for tests with clients that know public networks only.
	ChainID uint64
	// RPCAddr is host:port of the JSON-RPC listener (HTTP and websocket); port 0 takes a free one, empty has none.
	// Only loopback is accepted, since the RPC does not ask who calls.
	RPCAddr string
	// MaxAhead bounds how far block times may run ahead of the wall clock in a burst; 0 is 2 seconds. Block times
	// are whole and strictly increasing seconds, and a chain in the future expires authorizations too early.
	MaxAhead time.Duration
	// Heartbeat is the age of the head at which an empty block is sealed; 0 is 60 seconds. Calls are simulated at
	// the head's time, so an idle chain would refuse authorizations that are valid since a minute ago.
	Heartbeat time.Duration
	// Clock tells the wall time and is required. Blocks themselves are stamped by go-ethereum's own clock.
	Clock func() time.Time
	// Log takes the sealer's troubles; nil discards them.
	Log *slog.Logger
}

const (
	defaultMaxAhead  = 2 * time.Second
	defaultHeartbeat = time.Minute
	indexPatience    = 10 * time.Second
	indexPoll        = 2 * time.Millisecond
)

// InUseError says that another program listens on the RPC address.
type InUseError struct{ Addr string }

func (e *InUseError) Error() string { return fmt.Sprintf("devnet: %s is in use", e.Addr) }

// Node is a running development chain.
type Node struct {
	network evm.Network
	cfg     Config
	log     *slog.Logger
	stack   *node.Node
	eth     *eth.Ethereum
	beacon  *catalyst.SimulatedBeacon
	rpc     *rpc.Client
	faucet  faucet

	mu     sync.Mutex    // around Commit, Sync and Fork: the pool keeps one waiter, and a second would wait for ever
	last   uint64        // highest block time so far, unix seconds; a fork does not lower it
	offset time.Duration // how far Advance has moved this chain's notion of now

	quit chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// Start opens or creates the chain and returns when it answers. An address in use is an *InUseError.
func Start(cfg Config) (*Node, error) {
	cfg, network, err := complete(cfg)
	if err != nil {
		return nil, err
	}
	host, port, err := loopback(cfg.RPCAddr)
	if err != nil {
		return nil, err
	}
	n := &Node{network: network, cfg: cfg, log: cfg.Log, quit: make(chan struct{})}
	if n.stack, err = newStack(cfg.DataDir, network.ChainID, host, port); err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		_ = n.stack.Close() // the first error tells more
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, &InUseError{Addr: cfg.RPCAddr}
		}
		return nil, err
	}
	return n, nil
}

func (n *Node) start() error {
	if err := n.buildChain(); err != nil {
		return err
	}
	if err := n.stack.Start(); err != nil {
		return fmt.Errorf("devnet: start: %w", err)
	}
	n.rpc = n.stack.Attach()
	if err := n.faucet.init(); err != nil {
		return err
	}
	n.last = n.eth.BlockChain().CurrentBlock().Time
	if n.wait() <= 0 {
		n.Commit() // the head may be old, see Config.Heartbeat; it also sets the transaction index going
	}
	if err := n.awaitIndex(); err != nil {
		return err
	}
	n.done.Add(1)
	go n.seal()
	return nil
}

// awaitIndex waits until the node answers "no such receipt" plainly. Until its index has caught up it answers with
// an error, which a careless caller would take for a lost transaction.
func (n *Node) awaitIndex() error {
	poll := time.NewTicker(indexPoll)
	defer poll.Stop()
	give := time.NewTimer(indexPatience)
	defer give.Stop()
	for {
		var receipt any
		err := n.rpc.Call(&receipt, "eth_getTransactionReceipt", common.Hash{1})
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-give.C:
			return fmt.Errorf("devnet: the transaction index did not become ready: %w", err)
		}
	}
}

// Network is what the chain's users should know of it.
func (n *Node) Network() evm.Network { return n.network }

// URL is the HTTP address of the JSON-RPC, "" without one.
func (n *Node) URL() string {
	if n.cfg.RPCAddr == "" {
		return ""
	}
	return n.stack.HTTPEndpoint()
}

// WS is the websocket address of the JSON-RPC, on the same port; "" without one.
func (n *Node) WS() string {
	if n.cfg.RPCAddr == "" {
		return ""
	}
	return n.stack.WSEndpoint()
}

// Close stops the chain and writes what is still in memory. A second call does nothing.
func (n *Node) Close() error {
	var err error
	n.once.Do(func() {
		close(n.quit)
		n.done.Wait()
		n.rpc.Close()
		err = n.stack.Close()
	})
	return err
}

func complete(cfg Config) (Config, evm.Network, error) {
	if cfg.Clock == nil {
		return cfg, evm.Network{}, errors.New("devnet: Config.Clock is missing")
	}
	if cfg.ChainID == 0 {
		cfg.ChainID = evm.DevID
	}
	if cfg.MaxAhead <= 0 {
		cfg.MaxAhead = defaultMaxAhead
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	network, ok := evm.NetworkByID(cfg.ChainID)
	if !ok || network.DomainName != "USDC" { // the name is part of the stand-in's code
		return cfg, evm.Network{}, fmt.Errorf("devnet: cannot play chain %d", cfg.ChainID)
	}
	return cfg, network, nil
}

// loopback reads the RPC address and refuses every host that other machines can reach. It also tries the port,
// because the node notices a taken one only after it has opened its database.
func loopback(addr string) (string, int, error) {
	if addr == "" {
		return "", 0, nil
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("devnet: RPC address: %w", err)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", 0, fmt.Errorf("devnet: RPC address %s is not on loopback", addr)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("devnet: RPC address %s: bad port", addr)
	}
	probe, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(host), Port: int(port)})
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", 0, &InUseError{Addr: addr}
	}
	if err != nil {
		return "", 0, fmt.Errorf("devnet: RPC address %s: %w", addr, err)
	}
	return host, int(port), probe.Close()
}
