package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
)

// Head is the newest block. With several nodes it does not go back because one of them lags: it is of the first
// that has reached what was told before. It goes back when all nodes agree that the chain has, or when none has
// confirmed the higher block for forgetTime; until then it is evm.ErrUnavailable.
func (c *Client) Head(ctx context.Context) (b evm.Block, err error) {
	newest := func(n *node) error {
		h, err := n.header(ctx, "latest")
		if err != nil {
			return unexpected(n, err)
		}
		b = h.block()
		n.reached(b.Number)
		return nil
	}
	if len(c.nodes) == 1 {
		return b, c.read(ctx, newest)
	}
	nodes := c.awake()
	if len(nodes) == 0 {
		nodes = c.order()
	}
	if len(nodes) > 0 && !c.surveyDue() {
		if c.ready(ctx, nodes[0]) == nil && newest(nodes[0]) == nil && c.confirm(b.Number) {
			c.worked(nodes[0])
			return b, nil
		}
	}
	return c.survey(ctx, nodes)
}

func (c *Client) surveyDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock().Sub(c.heads.surveyed) >= surveyTime
}

// confirm takes a height for the chain's unless it is behind what was told.
func (c *Client) confirm(number uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number < c.heads.told {
		return false
	}
	c.heads.told, c.heads.toldAt = number, c.clock()
	return true
}

// survey compares the heads of all nodes, marks those that lag, and takes the first fit one.
func (c *Client) survey(ctx context.Context, nodes []*node) (evm.Block, error) {
	answers := gather(ctx, c, graceTime, nodes, func(ctx context.Context, n *node) (evm.Block, error) {
		h, err := n.header(ctx, "latest")
		return h.block(), unexpected(n, err)
	})
	if ctx.Err() != nil {
		return evm.Block{}, fmt.Errorf("%w: %w", evm.ErrUnavailable, ctx.Err())
	}
	var best evm.Block
	var failures []error
	for _, a := range answers {
		if a.err != nil {
			failures = append(failures, a.err)
		} else if a.value.Number >= best.Number {
			best = a.value
		}
	}
	if len(failures) == len(answers) {
		return best, errors.Join(append(failures, fmt.Errorf("%w: no node has a newest block", evm.ErrUnavailable))...)
	}
	for _, a := range answers {
		if a.err == nil {
			c.compare(a.node, a.value.Number, best.Number)
		}
	}
	all := len(answers) == len(c.nodes) && len(failures) == 0
	told, err := c.settle(ctx, best.Number, all)
	if err != nil {
		return evm.Block{}, errors.Join(append(failures, err)...)
	}
	for _, a := range answers {
		if a.err == nil && a.value.Number >= told && a.value.Number+maxLag >= best.Number {
			c.confirm(a.value.Number)
			return a.value, nil
		}
	}
	c.confirm(best.Number)
	return best, nil
}

// settle decides whether the best height of a survey may be told, and returns the least that may.
func (c *Client) settle(ctx context.Context, best uint64, all bool) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	c.heads.surveyed = now
	told := c.heads.told
	if best >= told {
		return told, nil
	}
	if !all && now.Sub(c.heads.toldAt) < forgetTime {
		return 0, fmt.Errorf("%w: block %d was told, and the nodes that answer have reached %d only", evm.ErrUnavailable, told, best)
	}
	c.log.WarnContext(ctx, "the chain is shorter than it was", "was", told, "is", best)
	c.heads.told, c.heads.toldAt = best, now
	return best, nil
}

// compare notes a node's height, and whether it lags.
func (c *Client) compare(n *node, number, best uint64) {
	n.reached(number)
	if lags := number+maxLag < best; n.lag(lags) != lags {
		c.log.Info("chain node's distance from the best", "host", n.host, "lags", lags, "block", number, "best", best)
	}
}

// BlockByNumber is the canonical block at a height, evm.ErrNotFound above the head. A node that lacks a block below
// its own head, as one of several behind one URL may, makes it evm.ErrUnavailable.
func (c *Client) BlockByNumber(ctx context.Context, number uint64) (b evm.Block, err error) {
	err = c.find(ctx, func(n *node) error {
		h, err := n.header(ctx, hexutil.EncodeUint64(number))
		if errors.Is(err, evm.ErrNotFound) {
			if head, bad := n.header(ctx, "latest"); bad != nil {
				return unexpected(n, bad)
			} else if n.reached(uint64(head.Number)) >= number {
				return fmt.Errorf("%w: %s has block %d and lacks block %d", evm.ErrUnavailable, n.host, head.Number, number)
			}
		}
		b = h.block()
		return err
	})
	return b, err
}

// Agreed is the block at a height when all nodes that can be asked and have reached it name the same one, else
// evm.ErrUnavailable. With one node it is BlockByNumber. It is for decisions that a wrong hash would make costly, as
// to call what was booked reorganised.
func (c *Client) Agreed(ctx context.Context, number uint64) (evm.Block, error) {
	b, err := c.BlockByNumber(ctx, number)
	if err != nil || len(c.nodes) == 1 {
		return b, err
	}
	_, err = c.agreeing(ctx, c.awake(), number, b.Hash)
	return b, err
}

// agreeing are the nodes that name a hash at a height. Another hash is an error: no node says which is right. Nodes that
// lag or fail are passed over.
func (c *Client) agreeing(ctx context.Context, nodes []*node, number uint64, hash common.Hash) ([]*node, error) {
	answers := gather(ctx, c, graceTime, nodes, func(ctx context.Context, n *node) (header, error) {
		h, err := n.header(ctx, hexutil.EncodeUint64(number))
		if errors.Is(err, evm.ErrNotFound) {
			return h, behind(n, number)
		}
		return h, err
	})
	var out []*node
	for _, a := range answers {
		switch {
		case a.err != nil:
		case a.value.Hash != hash:
			return nil, fmt.Errorf("%w: the nodes disagree on block %d: %s says %s, another %s", evm.ErrUnavailable, number, a.node.host, a.value.Hash, hash)
		default:
			out = append(out, a.node)
		}
	}
	return out, nil
}
