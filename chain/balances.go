package chain

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/money"
)

// viewsPerCall bounds one batch: some 10,000 gas a view is far below what nodes allow a call.
const viewsPerCall = 500

// BalancesOf is each address's USDC at the end of a block, in the order asked; block 0 is the newest.
func (c *Client) BalancesOf(ctx context.Context, addresses []common.Address, block uint64) ([]money.USDC, error) {
	views := make([][]byte, len(addresses))
	for i, a := range addresses {
		views[i] = balanceOfData(a)
	}
	words, err := c.wordsAt(ctx, c.network.USDC, views, block)
	if err != nil {
		return nil, err
	}
	out := make([]money.USDC, len(words))
	for i, w := range words {
		if out[i], err = money.FromBig(w); err != nil {
			return nil, fmt.Errorf("chain: balance of %s: %w", addresses[i], err)
		}
	}
	return out, nil
}

// wordsAt calls views of a contract that return one word each, as of the end of a block; block 0 is the newest. It reads many
// at once through Multicall3, and one by one where a node or a block does not have it.
func (c *Client) wordsAt(ctx context.Context, to common.Address, views [][]byte, block uint64) ([]*big.Int, error) {
	out := make([]*big.Int, 0, len(views))
	for some := range slices.Chunk(views, viewsPerCall) {
		words, err := c.batchAt(ctx, to, some, block)
		if errors.Is(err, errNoBatch) || errors.Is(err, evm.ErrReverted) {
			words, err = c.eachAt(ctx, to, some, block)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, words...)
	}
	return out, nil
}

// errNoBatch says that Multicall3 did not answer as it does; before it was deployed there is nothing at its address.
var errNoBatch = errors.New("chain: no answer of Multicall3")

func (c *Client) eachAt(ctx context.Context, to common.Address, views [][]byte, block uint64) ([]*big.Int, error) {
	out := make([]*big.Int, len(views))
	for i, data := range views {
		word, err := c.wordBy(ctx, to, data, block, tagOf(block))
		if err != nil {
			return nil, err
		}
		out[i] = word.Big()
	}
	return out, nil
}

func (c *Client) batchAt(ctx context.Context, to common.Address, views [][]byte, block uint64) (words []*big.Int, err error) {
	calls := make([]evm.Call, len(views))
	for i, data := range views {
		calls[i] = evm.Call{To: to, Data: data}
	}
	msg := map[string]any{"to": c.network.Multicall3, "input": hexutil.Bytes(evm.Aggregate3Data(calls))}
	err = c.read(ctx, func(n *node) error {
		if err := c.mustHave(ctx, n, block); err != nil {
			return err
		}
		var answer hexutil.Bytes
		if err := n.call(ctx, &answer, "eth_call", msg, tagOf(block)); err != nil {
			return err
		}
		words, err = wordResults(answer, len(calls))
		return err
	})
	return words, err
}

// wordResults reads what aggregate3 returns of n views that return one word each: (bool success, bytes returnData)[].
// Anything else, a view that failed included, is errNoBatch.
func wordResults(answer []byte, n int) ([]*big.Int, error) {
	const head, each = 2 * wordLength, 4 * wordLength // offset and length; success, offset, length and the word
	word := func(at int) *big.Int { return new(big.Int).SetBytes(answer[at : at+wordLength]) }
	is := func(at int, v int64) bool { return word(at).Cmp(big.NewInt(v)) == 0 }
	if len(answer) != head+n*(wordLength+each) || !is(0, wordLength) || !is(wordLength, int64(n)) {
		return nil, fmt.Errorf("%w: %d bytes for %d calls", errNoBatch, len(answer), n)
	}
	out := make([]*big.Int, n)
	for i := range out {
		tuple := n*wordLength + i*each // from the first offset, which follows the length
		at := head + tuple
		if !is(head+i*wordLength, int64(tuple)) || !is(at, 1) || !is(at+wordLength, 2*wordLength) || !is(at+2*wordLength, wordLength) {
			return nil, fmt.Errorf("%w: call %d", errNoBatch, i)
		}
		out[i] = word(at + 3*wordLength)
	}
	return out, nil
}

func balanceOfData(a common.Address) []byte {
	return append(append([]byte(nil), selBalanceOf...), common.LeftPadBytes(a[:], wordLength)...)
}

// tagOf names a block in a request; 0 is the newest.
func tagOf(block uint64) string {
	if block == 0 {
		return "latest"
	}
	return hexutil.EncodeUint64(block)
}
