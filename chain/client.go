// Package chain reads and writes an Ethereum chain over JSON-RPC: blocks, USDC movements and balances, receipts,
// prices and signed transactions. It holds no keys and stores nothing. Several nodes may be named; a read goes to
// the first one that works and does not lag, a transaction to all.
package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"bursar/evm"
)

// Config names the nodes and the network that they must serve.
type Config struct {
	URLs    []string         // http, https, ws or wss, most preferred first; they may contain secrets and are never logged
	Network evm.Network      // what the nodes are held to
	Clock   func() time.Time // required; decides when a failed node is asked again
	Log     *slog.Logger     // takes node failures; nil discards them
}

// Client speaks to one network. Its methods may be called concurrently. Their errors wrap those of package evm;
// all amounts of ether are in wei.
type Client struct {
	network evm.Network
	nodes   []*node
	clock   func() time.Time
	log     *slog.Logger
	running sync.WaitGroup // requests that outlive the call that began them, as broadcasts do
	alone   atomic.Bool    // the last range of logs had no second node to agree on its block

	mu    sync.Mutex
	heads heads
}

// Open connects and checks each node that answers: chain id, the token's code, its decimals and its EIP-712 domain.
// A node of another network is a plain error, since to go on could lose money. It fails with evm.ErrUnavailable
// when none answers; a node that is only away now is checked before its first use.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 || cfg.Clock == nil {
		return nil, errors.New("chain: Config needs URLs and a Clock")
	}
	c := &Client{network: cfg.Network, clock: cfg.Clock, log: cfg.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for _, text := range cfg.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, errors.New("chain: an RPC URL is malformed") // without the text: it may hold a secret
		}
		c.nodes = append(c.nodes, &node{url: text, host: u.Host})
	}
	var failures []error
	for _, n := range c.nodes {
		err := n.ready(ctx, c.network)
		if errors.Is(err, errWrongNetwork) {
			c.Close()
			return nil, err
		}
		if err != nil {
			c.failed(n, err)
			failures = append(failures, err)
		}
	}
	if len(failures) == len(c.nodes) {
		c.Close()
		return nil, errors.Join(failures...)
	}
	return c, nil
}

// Network is the network that the client was opened for.
func (c *Client) Network() evm.Network { return c.network }

// Close waits for requests under way and drops the connections.
func (c *Client) Close() {
	c.running.Wait()
	for _, n := range c.nodes {
		n.close()
	}
}

// failed keeps a node that gave no usable answer from being asked first for a while, and one that asked for a pause
// from being asked at all. A node that only lacks a block has not failed. What goes on is logged once.
func (c *Client) failed(n *node, err error) {
	if errors.Is(err, errBehind) {
		return
	}
	n.failures.Add(1)
	now := c.clock()
	var busy *busyError
	fresh := false
	if errors.As(err, &busy) {
		fresh = n.pause(now, busy.after)
	} else {
		fresh = n.rest(now.Add(restTime))
	}
	if fresh {
		c.log.Warn("chain node failed", "host", n.host, "error", err)
	}
}

// worked ends what failed began.
func (c *Client) worked(n *node) {
	if n.recovered() {
		c.log.Info("chain node works again", "host", n.host)
	}
}

// Failures counts, by host, the requests that a node has left without a usable answer since the client was opened.
func (c *Client) Failures() map[string]uint64 {
	out := map[string]uint64{}
	for _, n := range c.nodes {
		out[n.host] += n.failures.Load()
	}
	return out
}

// ready checks a node before its first use. One that turns out to serve another network, which Open could not see
// because it was away, is as good as none.
func (c *Client) ready(ctx context.Context, n *node) error {
	err := n.ready(ctx, c.network)
	if errors.Is(err, errWrongNetwork) {
		return fmt.Errorf("%w: %w", evm.ErrUnavailable, err)
	}
	return err
}
