package chain

import (
	"context"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
)

// AuthorizationUsed says whether an EIP-3009 nonce of an address was used or canceled by the end of a block. A node
// that lacks the block or its state makes it evm.ErrUnavailable: "unused" frees money, so it must not come from a node
// that has yet to see the use.
func (c *Client) AuthorizationUsed(ctx context.Context, from common.Address, nonce common.Hash, block uint64) (bool, error) {
	data := append(append([]byte(nil), selAuthState...), common.LeftPadBytes(from[:], wordLength)...)
	state, err := c.wordAt(ctx, c.network.USDC, append(data, nonce[:]...), block)
	return state != common.Hash{}, err
}

// Permit2Used says whether a nonce of an address was used or invalidated in Permit2 by the end of a block, with the same
// care. A chain without Permit2 makes it evm.ErrUnavailable too.
func (c *Client) Permit2Used(ctx context.Context, owner common.Address, nonce common.Hash, block uint64) (bool, error) {
	data, bit := evm.Permit2Transfer{Owner: owner, Nonce: nonce}.BitmapData()
	bitmap, err := c.wordAt(ctx, evm.Permit2, data, block)
	return bitmap.Big().Bit(int(bit)) == 1, err
}

// Permit2UsedOf is Permit2Used for many nonces of an owner, in the order asked.
func (c *Client) Permit2UsedOf(ctx context.Context, owner common.Address, nonces []common.Hash, block uint64) ([]bool, error) {
	views, bits := make([][]byte, len(nonces)), make([]uint, len(nonces))
	for i, nonce := range nonces {
		views[i], bits[i] = evm.Permit2Transfer{Owner: owner, Nonce: nonce}.BitmapData()
	}
	words, err := c.wordsAt(ctx, evm.Permit2, views, block)
	used := make([]bool, len(words))
	for i, w := range words {
		used[i] = w.Bit(int(bits[i])) == 1
	}
	return used, err
}

// wordAt calls a view that returns one word, as of the end of a block, which the node must have.
func (c *Client) wordAt(ctx context.Context, to common.Address, data []byte, block uint64) (common.Hash, error) {
	return c.wordBy(ctx, to, data, block, hexutil.EncodeUint64(block))
}

// wordBy is wordAt by a block's tag.
func (c *Client) wordBy(ctx context.Context, to common.Address, data []byte, block uint64, tag string) (word common.Hash, err error) {
	err = c.read(ctx, func(n *node) error {
		if err := c.mustHave(ctx, n, block); err != nil {
			return err
		}
		word, err = n.word(ctx, to, data, tag)
		return err
	})
	return word, err
}
