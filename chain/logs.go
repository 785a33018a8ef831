package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"

	"bursar/evm"
)

// Movements lists the USDC transfers of the blocks from..to, both included, in chain order. It is
// evm.ErrUnavailable when no node has block to yet: a node that lags would else answer "none", and the caller
// would pass over money. With several nodes, a second one must name the same block to, or it is evm.ErrUnavailable;
// if the others are down or have not reached it, the one that answers is taken at its word.
func (c *Client) Movements(ctx context.Context, from, to uint64) ([]evm.Movement, error) {
	if from > to {
		return nil, nil
	}
	var logs []types.Log
	var by *node
	var last header
	err := c.read(ctx, func(n *node) (err error) {
		by = n
		last, logs, err = c.logsOf(ctx, n, from, to)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(c.nodes) > 1 {
		var others []*node
		for _, n := range c.awake() {
			if n != by {
				others = append(others, n)
			}
		}
		second, err := c.agreeing(ctx, others, to, last.Hash)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", evm.ErrUnavailable, ctx.Err())
		}
		if alone := len(second) == 0; c.alone.Swap(alone) != alone {
			c.log.WarnContext(ctx, "how many nodes stand for what is read has changed", "alone", alone, "host", by.host, "block", to)
		}
	}
	return evm.Movements(c.network.USDC, logs), nil
}

// logsOf is a node's block to, and its logs of the range. It halves the range as often as the node asks for, and keeps
// to what it takes. The two logs of a pair share a block, so no cut can part them.
func (c *Client) logsOf(ctx context.Context, n *node, from, to uint64) (last header, all []types.Log, err error) {
	span := to - from + 1
	if taken := n.span.Load(); taken > 0 {
		span = min(span, 2*taken) // what was too much once need not be so for ever
	}
	for halved := false; from <= to; {
		end := min(to, from+span-1)
		var out []types.Log
		last, out, err = n.logs(ctx, c.network.USDC, from, end)
		switch {
		case errors.Is(err, errTooLarge) && from == end:
			return last, nil, fmt.Errorf("%w: the logs of block %d alone: %w", evm.ErrUnavailable, from, err)
		case errors.Is(err, errTooLarge):
			span, halved = (end-from+1)/2, true
			continue
		case err != nil:
			return last, nil, err
		case halved || n.span.Load() > 0:
			n.span.Store(span)
		}
		all = append(all, out...)
		from = end + 1
	}
	return last, all, nil
}

// logs reads the token's logs of Transfer and AuthorizationUsed, and the range's last block in the same request: of
// the nodes behind one URL, the one that answers must have the block, or it could leave out logs without a word.
func (n *node) logs(ctx context.Context, token common.Address, from, to uint64) (header, []types.Log, error) {
	var last *header
	var out []types.Log
	batch := []rpc.BatchElem{
		{Method: "eth_getBlockByNumber", Args: []any{hexutil.EncodeUint64(to), false}, Result: &last},
		{Method: "eth_getLogs", Args: []any{map[string]any{
			"address":   token,
			"topics":    [][]common.Hash{{evm.TopicTransfer, evm.TopicAuthorizationUsed}},
			"fromBlock": hexutil.EncodeUint64(from),
			"toBlock":   hexutil.EncodeUint64(to),
		}}, Result: &out},
	}
	if err := n.together(ctx, batch); err != nil {
		return header{}, nil, err
	}
	if last == nil {
		return header{}, nil, behind(n, to)
	}
	return *last, out, nil
}

// together makes requests in one batch, or one by one to a node that refuses batches: then the first is made again at
// the end, which makes it likely, though not certain, that one node has answered all.
func (n *node) together(ctx context.Context, batch []rpc.BatchElem) error {
	if !n.single.Load() {
		err := n.batch(ctx, batch)
		if err == nil || !errors.Is(err, errOneByOne) {
			return err
		}
	}
	for _, e := range append(batch, batch[0]) {
		if err := n.call(ctx, e.Result, e.Method, e.Args...); err != nil {
			return err
		}
	}
	n.single.Store(true)
	return nil
}
