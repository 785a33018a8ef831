// Package chain reads and writes an Ethereum chain over JSON-RPC: blocks, USDC movements and balances, receipts,
// prices and signed transactions. It holds no keys and stores nothing. Several nodes may be named; a read goes to
// the first one that works, a transaction to all.
package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
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
	sends   sync.WaitGroup // broadcasts that outlive the Send that began them
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

// Close waits for broadcasts under way and drops the connections.
func (c *Client) Close() {
	c.sends.Wait()
	for _, n := range c.nodes {
		n.close()
	}
}

// failed keeps a node that gave no usable answer from being asked first for a while.
func (c *Client) failed(n *node, err error) {
	n.rest(c.clock().Add(restTime))
	c.log.Warn("chain node failed", "host", n.host, "error", err)
}

// read runs f against the nodes, rested ones last, until one gives an answer. evm.ErrUnavailable moves on to the
// next node; every other error is the answer.
func (c *Client) read(ctx context.Context, f func(*node) error) error {
	var failures []error
	for _, n := range c.order() {
		err := c.ready(ctx, n)
		if err == nil {
			err = f(n)
		}
		if err == nil || !errors.Is(err, evm.ErrUnavailable) {
			return err
		}
		if ctx.Err() != nil { // the caller gave up: that says nothing about the node
			return fmt.Errorf("%w: %w", evm.ErrUnavailable, ctx.Err())
		}
		c.failed(n, err)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
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

func (c *Client) order() []*node {
	now := c.clock()
	var fit, resting []*node
	for _, n := range c.nodes {
		if n.resting(now) {
			resting = append(resting, n)
		} else {
			fit = append(fit, n)
		}
	}
	return append(fit, resting...)
}
