package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/evm"
)

// Movements lists the USDC transfers of the blocks from..to, both included, in chain order. It is
// evm.ErrUnavailable when no node has block to yet: a node that lags would else answer "none", and the caller
// would pass over money.
func (c *Client) Movements(ctx context.Context, from, to uint64) ([]evm.Movement, error) {
	if from > to {
		return nil, nil
	}
	var logs []types.Log
	err := c.read(ctx, func(n *node) error {
		_, err := n.header(ctx, hexutil.EncodeUint64(to))
		if errors.Is(err, evm.ErrNotFound) {
			return fmt.Errorf("%w: %s has not reached block %d", evm.ErrUnavailable, n.host, to)
		}
		if err != nil {
			return err
		}
		logs, err = n.logs(ctx, c.network.USDC, from, to)
		return err
	})
	if err != nil {
		return nil, err
	}
	return evm.Movements(c.network.USDC, logs), nil
}

// logs reads the token's logs of Transfer and AuthorizationUsed, halving the range as often as the node asks for.
// The two logs of a pair share a block, so no cut can part them.
func (n *node) logs(ctx context.Context, token common.Address, from, to uint64) ([]types.Log, error) {
	var out []types.Log
	err := n.call(ctx, &out, "eth_getLogs", map[string]any{
		"address":   token,
		"topics":    [][]common.Hash{{evm.TopicTransfer, evm.TopicAuthorizationUsed}},
		"fromBlock": hexutil.EncodeUint64(from),
		"toBlock":   hexutil.EncodeUint64(to),
	})
	if !errors.Is(err, errTooLarge) {
		return out, err
	}
	if from == to {
		return nil, fmt.Errorf("%w: the logs of block %d alone: %w", evm.ErrUnavailable, from, err)
	}
	middle := from + (to-from)/2
	first, err := n.logs(ctx, token, from, middle)
	if err != nil {
		return nil, err
	}
	second, err := n.logs(ctx, token, middle+1, to)
	return append(first, second...), err
}
