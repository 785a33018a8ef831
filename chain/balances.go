package chain

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/money"
)

// balancesPerCall bounds one batch: some 10,000 gas a balance is far below what nodes allow a call.
const balancesPerCall = 500

// BalancesOf is each address's USDC at the end of a block, in the order asked; block 0 is the newest. It reads many at
// once through Multicall3, and one by one where a node or a block does not have it.
func (c *Client) BalancesOf(ctx context.Context, addresses []common.Address, block uint64) ([]money.USDC, error) {
	out := make([]money.USDC, 0, len(addresses))
	for len(addresses) > 0 {
		n := min(len(addresses), balancesPerCall)
		some, err := c.batchOf(ctx, addresses[:n], block)
		if errors.Is(err, errNoBatch) || errors.Is(err, evm.ErrReverted) {
			some, err = c.eachOf(ctx, addresses[:n], block)
		}
		if err != nil {
			return nil, err
		}
		out, addresses = append(out, some...), addresses[n:]
	}
	return out, nil
}

// errNoBatch says that Multicall3 did not answer as it does; before it was deployed there is nothing at its address.
var errNoBatch = errors.New("chain: no answer of Multicall3")

func (c *Client) eachOf(ctx context.Context, addresses []common.Address, block uint64) ([]money.USDC, error) {
	out := make([]money.USDC, len(addresses))
	var err error
	for i, a := range addresses {
		if out[i], err = c.BalanceOf(ctx, a, block); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *Client) batchOf(ctx context.Context, addresses []common.Address, block uint64) (out []money.USDC, err error) {
	calls := make([]evm.Call, len(addresses))
	for i, a := range addresses {
		calls[i] = evm.Call{To: c.network.USDC, Data: balanceOfData(a)}
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
		words, err := wordResults(answer, len(calls))
		if err != nil {
			return err
		}
		out = make([]money.USDC, len(words))
		for i, w := range words {
			if out[i], err = money.FromBig(w); err != nil {
				return fmt.Errorf("chain: balance of %s: %w", addresses[i], err)
			}
		}
		return nil
	})
	return out, err
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
