package chain

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
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
	Parent  common.Hash    `json:"parentHash"`
	Time    hexutil.Uint64 `json:"timestamp"`
	BaseFee *hexutil.Big   `json:"baseFeePerGas"`
}

func (h header) block() evm.Block {
	return evm.Block{Number: uint64(h.Number), Hash: h.Hash, Parent: h.Parent, Time: time.Unix(int64(h.Time), 0).UTC()}
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

// BalanceOf is an address's USDC at the end of a block; block 0 is the newest. A node that lacks the block or its
// state makes it evm.ErrUnavailable.
func (c *Client) BalanceOf(ctx context.Context, a common.Address, block uint64) (amount money.USDC, err error) {
	tag, data := tagOf(block), balanceOfData(a)
	err = c.read(ctx, func(n *node) error {
		if err := c.mustHave(ctx, n, block); err != nil {
			return err
		}
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

// CallData is what a transaction was sent with; evm.ErrNotFound when no node has it.
func (c *Client) CallData(ctx context.Context, hash common.Hash) (data []byte, err error) {
	err = c.find(ctx, func(n *node) error {
		var sent *struct {
			Input hexutil.Bytes `json:"input"`
		}
		if err := n.call(ctx, &sent, "eth_getTransactionByHash", hash); err != nil {
			return err
		}
		if sent == nil {
			return fmt.Errorf("chain: transaction %s: %w", hash, evm.ErrNotFound)
		}
		data = sent.Input
		return nil
	})
	return data, err
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

// NonceAt is the number of an address's mined transactions, which is its next account nonce when none waits: the most
// that any node knows of, since a nonce used twice is a transaction lost.
func (c *Client) NonceAt(ctx context.Context, a common.Address) (uint64, error) {
	count := func(ctx context.Context, n *node) (nonce hexutil.Uint64, err error) {
		err = n.call(ctx, &nonce, "eth_getTransactionCount", a, "latest")
		return nonce, err
	}
	if nodes := c.awake(); len(nodes) > 1 {
		most, answered := hexutil.Uint64(0), false
		for _, got := range gather(ctx, c, graceTime, nodes, count) {
			if got.err == nil {
				most, answered = max(most, got.value), true
			}
		}
		if answered {
			return uint64(most), nil
		}
	}
	var nonce hexutil.Uint64
	err := c.read(ctx, func(n *node) (err error) {
		nonce, err = count(ctx, n)
		return err
	})
	return uint64(nonce), err
}

// NonceAtBlock is the number of an address's transactions up to a block, which must be there.
func (c *Client) NonceAtBlock(ctx context.Context, a common.Address, block uint64) (uint64, error) {
	var nonce hexutil.Uint64
	err := c.read(ctx, func(n *node) error {
		if err := c.mustHave(ctx, n, block); err != nil {
			return err
		}
		return n.call(ctx, &nonce, "eth_getTransactionCount", a, hexutil.EncodeUint64(block))
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

// receipt is a node's, with the fee for data that an OP-stack node adds.
type receipt struct {
	types.Receipt
	L1Fee *hexutil.Big
}

// UnmarshalJSON reads both parts; the embedded one alone would hide the other.
func (r *receipt) UnmarshalJSON(text []byte) error {
	var extra struct {
		L1Fee *hexutil.Big `json:"l1Fee"`
	}
	if err := json.Unmarshal(text, &extra); err != nil {
		return err
	}
	r.L1Fee = extra.L1Fee
	return r.Receipt.UnmarshalJSON(text)
}

func (r *receipt) value() evm.Receipt {
	return evm.Receipt{
		TxHash: r.TxHash, Block: r.BlockNumber.Uint64(), BlockHash: r.BlockHash, OK: r.Status == types.ReceiptStatusSuccessful,
		GasUsed: r.GasUsed, PriceWei: r.EffectiveGasPrice, L1FeeWei: (*big.Int)(r.L1Fee), Logs: r.Logs,
	}
}

// Receipt is what a mined transaction left behind. It is evm.ErrNotFound while no node has it, and
// evm.ErrUnavailable when they cannot tell, as while one lags or indexes transactions after its start.
func (c *Client) Receipt(ctx context.Context, hash common.Hash) (r evm.Receipt, err error) {
	err = c.find(ctx, func(n *node) error {
		r, err = n.receipt(ctx, hash)
		return err
	})
	return r, err
}

func (n *node) receipt(ctx context.Context, hash common.Hash) (evm.Receipt, error) {
	var got *receipt
	if err := n.call(ctx, &got, "eth_getTransactionReceipt", hash); err != nil {
		return evm.Receipt{}, err
	}
	if got == nil || got.BlockNumber == nil || got.BlockHash == (common.Hash{}) {
		return evm.Receipt{}, fmt.Errorf("chain: receipt of %s: %w", hash, evm.ErrNotFound)
	}
	return got.value(), nil
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

// SimulateEach runs calls in one batch against the newest state: an error a call, evm.ErrReverted with the contract's
// reason for those that fail.
func (c *Client) SimulateEach(ctx context.Context, from common.Address, calls []evm.Call) ([]error, error) {
	var gas uint64
	for _, call := range calls {
		gas += call.Gas
	}
	msg := map[string]any{
		"from": from, "to": c.network.Multicall3, "input": hexutil.Bytes(evm.Aggregate3Data(calls)), "gas": hexutil.Uint64(gas + batchGas),
	}
	verdicts := make([]error, len(calls))
	err := c.read(ctx, func(n *node) error {
		var out hexutil.Bytes
		if err := n.call(ctx, &out, "eth_call", msg, "latest"); err != nil {
			return err
		}
		results, err := evm.Aggregate3Results(out)
		if err != nil || len(results) != len(calls) {
			return fmt.Errorf("%w: %s: %w", evm.ErrUnavailable, n.host, cmp.Or(err, evm.ErrMulticall))
		}
		for i, r := range results {
			if verdicts[i] = nil; !r.OK {
				verdicts[i] = fmt.Errorf("%w: %s", evm.ErrReverted, revertText(r.Data))
			}
		}
		return nil
	})
	return verdicts, err
}

// batchGas is what a batch takes besides its calls.
const batchGas = 200_000

func revertText(data []byte) string {
	if why, err := abi.UnpackRevert(data); err == nil {
		return why
	}
	return hexutil.Encode(data)
}
