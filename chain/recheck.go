package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
)

// Recheck is Movements for a range that was read before: every node that can be asked and has reached block to reads
// it, and the union is the answer. It exists because nodes have been seen to show a block before all of its logs. A
// log that one node shows and another does not counts when the other has it in the receipt of its transaction; else
// the nodes contradict each other, which is evm.ErrUnavailable.
func (c *Client) Recheck(ctx context.Context, from, to uint64) ([]evm.Movement, error) {
	if len(c.nodes) == 1 || from > to {
		return c.Movements(ctx, from, to)
	}
	type reading struct {
		last header
		logs []types.Log
	}
	var good []heard[reading]
	var failures []error
	for _, a := range gather(ctx, c, callTimeout, c.awake(), func(ctx context.Context, n *node) (r reading, err error) {
		r.last, r.logs, err = c.logsOf(ctx, n, from, to)
		return r, err
	}) {
		switch {
		case a.err != nil:
			failures = append(failures, a.err)
		case len(good) > 0 && good[0].value.last.Hash != a.value.last.Hash:
			return nil, fmt.Errorf("%w: the nodes disagree on block %d: %s says %s, %s says %s", evm.ErrUnavailable, to,
				good[0].node.host, good[0].value.last.Hash, a.node.host, a.value.last.Hash)
		default:
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return nil, errors.Join(append(failures, fmt.Errorf("%w: no node read the blocks %d to %d", evm.ErrUnavailable, from, to))...)
	}
	var all []types.Log
	shown := map[logID][]*node{}
	for _, a := range good {
		for _, l := range a.value.logs {
			id := idOf(l)
			if shown[id] == nil {
				all = append(all, l)
			}
			if !slices.Contains(shown[id], a.node) {
				shown[id] = append(shown[id], a.node)
			}
		}
	}
	for _, l := range all {
		for _, a := range good {
			if slices.Contains(shown[idOf(l)], a.node) {
				continue
			}
			c.log.WarnContext(ctx, "a node leaves out a log", "host", a.node.host, "block", l.BlockNumber, "tx", l.TxHash, "log", l.Index)
			if err := a.node.hasLog(ctx, l); err != nil {
				return nil, err
			}
		}
	}
	return evm.Movements(c.network.USDC, all), nil
}

// logID is what two nodes must agree on to speak of the same log.
type logID struct {
	block, tx common.Hash
	index     uint
	content   common.Hash
}

func idOf(l types.Log) logID {
	b := append([]byte(nil), l.Address[:]...)
	for _, t := range l.Topics {
		b = append(b, t[:]...)
	}
	return logID{l.BlockHash, l.TxHash, l.Index, crypto.Keccak256Hash(b, l.Data)}
}

// hasLog asks for the receipt of a log's transaction, which comes from another place in a node than eth_getLogs.
func (n *node) hasLog(ctx context.Context, l types.Log) error {
	got, err := n.receipt(ctx, l.TxHash)
	if err != nil && !errors.Is(err, evm.ErrNotFound) {
		return err
	}
	if err == nil && got.BlockHash == l.BlockHash {
		for _, in := range got.Logs {
			if idOf(*in) == idOf(l) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: the nodes disagree: %s has no log %d of %s in block %d", evm.ErrUnavailable, n.host, l.Index, l.TxHash, l.BlockNumber)
}
