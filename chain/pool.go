package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bursar/evm"
)

const (
	maxLag     = 3               // blocks behind the best node at which one is asked after the others
	surveyTime = 5 * time.Second // the heads of all nodes are compared so often
	graceTime  = time.Second     // for the other nodes, when one of several has answered
	forgetTime = 2 * time.Minute // after it, what no node confirms any more is no longer held against those that answer
)

// errBehind says that a node has not reached a block. It goes along with evm.ErrUnavailable: another node may have.
var errBehind = errors.New("chain: node is behind")

func behind(n *node, number uint64) error {
	return fmt.Errorf("%w: %w: %s has not reached block %d", evm.ErrUnavailable, errBehind, n.host, number)
}

// heads is what the nodes have said of the chain's height.
type heads struct {
	told     uint64    // by Head to its caller, which must not see the chain go back because another node answers
	toldAt   time.Time // when a node last confirmed that
	surveyed time.Time
}

// read runs f against the nodes, most useful first, until one gives an answer. evm.ErrUnavailable moves on to the
// next node; every other error is the answer.
func (c *Client) read(ctx context.Context, f func(*node) error) error {
	var failures []error
	for _, n := range c.order() {
		err := c.ready(ctx, n)
		if err == nil {
			err = f(n)
		}
		if err == nil || !errors.Is(err, evm.ErrUnavailable) {
			c.worked(n)
			return err
		}
		if ctx.Err() != nil { // the caller gave up: that says nothing about the node
			return fmt.Errorf("%w: %w", evm.ErrUnavailable, ctx.Err())
		}
		c.failed(n, err)
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		return errPaused()
	}
	return errors.Join(failures...)
}

func errPaused() error { return fmt.Errorf("%w: every node has asked for a pause", evm.ErrUnavailable) }

// find is read for what may not be there: evm.ErrNotFound is the answer only when no node that answers has it, and one
// of those that lack it has reached the block that Head has told of.
func (c *Client) find(ctx context.Context, f func(*node) error) error {
	if len(c.nodes) == 1 {
		return c.read(ctx, f)
	}
	var missing error
	err := c.read(ctx, func(n *node) error {
		err := f(n)
		if !errors.Is(err, evm.ErrNotFound) {
			return err
		}
		told := c.told()
		if missing == nil {
			if err := c.mustHave(ctx, n, told); err != nil {
				return err
			}
			missing = err
		}
		return fmt.Errorf("%w: %w: %s lacks it", evm.ErrUnavailable, errBehind, n.host)
	})
	if missing != nil && err != nil && ctx.Err() == nil {
		return missing
	}
	return err
}

// mustHave tells a node that has not reached a block, which may answer for another one instead of refusing. It is
// asked for its height only if it is not known to have come so far.
func (c *Client) mustHave(ctx context.Context, n *node, block uint64) error {
	if n.height() >= block {
		return nil
	}
	h, err := n.header(ctx, "latest")
	if err != nil {
		return unexpected(n, err)
	}
	if n.reached(uint64(h.Number)) < block {
		return behind(n, block)
	}
	return nil
}

// unexpected is a node without a newest block.
func unexpected(n *node, err error) error {
	if errors.Is(err, evm.ErrNotFound) {
		return fmt.Errorf("%w: %s has no newest block", evm.ErrUnavailable, n.host)
	}
	return err
}

func (c *Client) told() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heads.told
}

// order lists the nodes that may be asked: fit ones, then those that lag, then those that failed just now; by
// preference among each. One that has asked for a pause is left alone.
func (c *Client) order() []*node {
	now := c.clock()
	var classes [3][]*node
	for _, n := range c.nodes {
		switch n.state(now) {
		case fit:
			classes[0] = append(classes[0], n)
		case lagging:
			classes[1] = append(classes[1], n)
		case resting:
			classes[2] = append(classes[2], n)
		case paused:
		}
	}
	return append(append(classes[0], classes[1]...), classes[2]...)
}

// awake are the nodes that are neither resting nor paused.
func (c *Client) awake() []*node {
	now := c.clock()
	var out []*node
	for _, n := range c.order() {
		if s := n.state(now); s == fit || s == lagging {
			out = append(out, n)
		}
	}
	return out
}

// heard is one node's answer to gather.
type heard[T any] struct {
	node  *node
	value T
	err   error
}

// gather asks several nodes at once and waits until all have answered, or until grace has passed after the first
// good answer. The answers come in the order of nodes; one that is too slow counts as failed.
func gather[T any](ctx context.Context, c *Client, grace time.Duration, nodes []*node, f func(context.Context, *node) (T, error)) []heard[T] {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type numbered struct {
		index int
		heard[T]
	}
	answers := make(chan numbered, len(nodes))
	for i, n := range nodes {
		c.running.Go(func() {
			a := numbered{i, heard[T]{node: n, err: c.ready(ctx, n)}}
			if a.err == nil {
				a.value, a.err = f(ctx, n)
			}
			answers <- a
		})
	}
	out := make([]heard[T], len(nodes))
	for i, n := range nodes {
		out[i] = heard[T]{node: n, err: fmt.Errorf("%w: %s is slower than the others", evm.ErrUnavailable, n.host)}
	}
	var end <-chan time.Time
	for range nodes {
		select {
		case a := <-answers:
			out[a.index] = a.heard
			if a.err == nil && end == nil {
				timer := time.NewTimer(grace)
				defer timer.Stop()
				end = timer.C
			}
			continue
		case <-end:
		case <-ctx.Done():
		}
		break
	}
	for _, a := range out {
		switch {
		case a.err == nil || !errors.Is(a.err, evm.ErrUnavailable):
			c.worked(a.node)
		case ctx.Err() == nil:
			c.failed(a.node, a.err)
		}
	}
	return out
}
