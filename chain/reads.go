package chain

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/evm"
	"bursar/money"
)

// header is the part of a block that we read. The hash is the node's own: computing it here would break with the
// next fork that adds a field.
type header struct {
	Number  hexutil.Uint64 `json:"number"`
	Hash    common.Hash    `json:"hash"`
	Time    hexutil.Uint64 `json:"timestamp"`
	BaseFee *hexutil.Big   `json:"baseFeePerGas"`
}

func (h header) block() evm.Block {
	return evm.Block{Number: uint64(h.Number), Hash: h.Hash, Time: time.Unix(int64(h.Time), 0).UTC()}
}

// header reads a block by tag; evm.ErrNotFound when the node does not have it.
func (n *node) header(ctx context.Context, tag string) (header, error) {
	var h *header
	if err := n.call(ctx, &h, "eth_getBlockByNumber", tag, false); err != nil {
		return header{}, err
	}
	if h == nil {
		return header{}, fmt.Errorf("chain: block %s: %w", tag, evm.ErrNotFound)
	}
	return *h, nil
}

// Head is the newest block.
func (c *Client) Head(ctx context.Context) (b evm.Block, err error) {
	err = c.read(ctx, func(n *node) error {
		h, err := n.header(ctx, "latest")
		b = h.block()
		return err
	})
	return b, err
}

// BlockByNumber is the canonical block at a height, evm.ErrNotFound above the head.
func (c *Client) BlockByNumber(ctx context.Context, number uint64) (b evm.Block, err error) {
	err = c.read(ctx, func(n *node) error {
		h, err := n.header(ctx, hexutil.EncodeUint64(number))
		b = h.block()
		return err
	})
	return b, err
}

// BalanceOf is an address's USDC at the end of a block; block 0 is the newest. A node that lacks the block or its
// state makes it evm.ErrUnavailable.
func (c *Client) BalanceOf(ctx context.Context, a common.Address, block uint64) (amount money.USDC, err error) {
	tag := "latest"
	if block != 0 {
		tag = hexutil.EncodeUint64(block)
	}
	data := append(append([]byte(nil), selBalanceOf...), common.LeftPadBytes(a[:], wordLength)...)
	err = c.read(ctx, func(n *node) error {
		word, err := n.word(ctx, c.network.USDC, data, tag)
		if err != nil {
			return err
		}
		if amount, err = money.FromBig(word.Big()); err != nil {
			return fmt.Errorf("chain: balance of %s: %w", a, err)
		}
		return nil
	})
	return amount, err
}

// EtherOf is an address's ether in wei at the newest block.
func (c *Client) EtherOf(ctx context.Context, a common.Address) (*big.Int, error) {
	var wei hexutil.Big
	err := c.read(ctx, func(n *node) error {
		return n.call(ctx, &wei, "eth_getBalance", a, "latest")
	})
	return wei.ToInt(), err
}

// AuthorizationUsed says whether an EIP-3009 nonce of an address was used or canceled, as of the newest block.
func (c *Client) AuthorizationUsed(ctx context.Context, from common.Address, nonce common.Hash) (used bool, err error) {
	data := append(append([]byte(nil), selAuthState...), common.LeftPadBytes(from[:], wordLength)...)
	data = append(data, nonce[:]...)
	err = c.read(ctx, func(n *node) error {
		word, err := n.word(ctx, c.network.USDC, data, "latest")
		used = word != common.Hash{}
		return err
	})
	return used, err
}

// Allowance is what a spender may take of an owner's USDC, as of the newest block. More than money.Max, as an unlimited
// allowance is, reads as money.Max.
func (c *Client) Allowance(ctx context.Context, owner, spender common.Address) (amount money.USDC, err error) {
	data := append(append([]byte(nil), selAllowance...), common.LeftPadBytes(owner[:], wordLength)...)
	data = append(data, common.LeftPadBytes(spender[:], wordLength)...)
	err = c.read(ctx, func(n *node) error {
		word, err := n.word(ctx, c.network.USDC, data, "latest")
		if err != nil {
			return err
		}
		amount = money.Max
		if v := word.Big(); v.Cmp(money.Max.Big()) < 0 {
			amount = money.USDC(v.Int64())
		}
		return nil
	})
	return amount, err
}

// PermitNonce is the number that an owner's next EIP-2612 permit must carry, as of the newest block.
func (c *Client) PermitNonce(ctx context.Context, owner common.Address) (nonce uint64, err error) {
	data := append(append([]byte(nil), selNonces...), common.LeftPadBytes(owner[:], wordLength)...)
	err = c.read(ctx, func(n *node) error {
		word, err := n.word(ctx, c.network.USDC, data, "latest")
		if err != nil {
			return err
		}
		v := word.Big()
		if !v.IsUint64() {
			return fmt.Errorf("%w: %s: absurd permit nonce %s", evm.ErrUnavailable, n.host, v)
		}
		nonce = v.Uint64()
		return nil
	})
	return nonce, err
}

// NonceAt is the number of an address's mined transactions, which is its next account nonce when none waits.
func (c *Client) NonceAt(ctx context.Context, a common.Address) (uint64, error) {
	var nonce hexutil.Uint64
	err := c.read(ctx, func(n *node) error {
		return n.call(ctx, &nonce, "eth_getTransactionCount", a, "latest")
	})
	return uint64(nonce), err
}

// Fees suggests prices in wei per gas: the node's tip (at least 1), and a cap that outlives five full blocks.
func (c *Client) Fees(ctx context.Context) (fees evm.Fees, err error) {
	err = c.read(ctx, func(n *node) error {
		var tip hexutil.Big
		if err := n.call(ctx, &tip, "eth_maxPriorityFeePerGas"); err != nil {
			return err
		}
		h, err := n.header(ctx, "latest")
		if err != nil {
			return err
		}
		if h.BaseFee == nil {
			return fmt.Errorf("%w: %s: block without a base fee", evm.ErrUnavailable, n.host)
		}
		tipWei := tip.ToInt()
		if tipWei.Sign() <= 0 {
			tipWei = big.NewInt(1)
		}
		capWei := new(big.Int).Add(tipWei, new(big.Int).Lsh(h.BaseFee.ToInt(), 1))
		if !capWei.IsInt64() {
			return fmt.Errorf("%w: %s: absurd price of %s wei", evm.ErrUnavailable, n.host, capWei)
		}
		fees = evm.Fees{TipWei: tipWei.Int64(), CapWei: capWei.Int64()}
		return nil
	})
	return fees, err
}

// Receipt is what a mined transaction left behind. It is evm.ErrNotFound while the node has none, and
// evm.ErrUnavailable when the node cannot tell, as while it indexes transactions after its start.
func (c *Client) Receipt(ctx context.Context, hash common.Hash) (r evm.Receipt, err error) {
	err = c.read(ctx, func(n *node) error {
		var got *types.Receipt
		if err := n.call(ctx, &got, "eth_getTransactionReceipt", hash); err != nil {
			return err
		}
		if got == nil || got.BlockNumber == nil || got.BlockHash == (common.Hash{}) {
			return fmt.Errorf("chain: receipt of %s: %w", hash, evm.ErrNotFound)
		}
		r = evm.Receipt{
			TxHash: got.TxHash, Block: got.BlockNumber.Uint64(), BlockHash: got.BlockHash,
			OK: got.Status == types.ReceiptStatusSuccessful, GasUsed: got.GasUsed, Logs: got.Logs,
		}
		return nil
	})
	return r, err
}

// Simulate runs a call against the newest state without sending it. It is evm.ErrReverted with the contract's
// reason when the call fails, and evm.ErrNoGas when from lacks the ether that the call carries.
func (c *Client) Simulate(ctx context.Context, from common.Address, call evm.Call) error {
	msg := map[string]any{"from": from, "to": call.To, "input": hexutil.Bytes(call.Data)}
	if call.ValueWei != nil {
		msg["value"] = (*hexutil.Big)(call.ValueWei)
	}
	if call.Gas != 0 {
		msg["gas"] = hexutil.Uint64(call.Gas)
	}
	return c.read(ctx, func(n *node) error {
		var out hexutil.Bytes
		return sendClass(n.call(ctx, &out, "eth_call", msg, "latest"))
	})
}
