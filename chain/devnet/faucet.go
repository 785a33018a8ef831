package devnet

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/money"
)

const (
	faucetGas   = 200_000
	faucetTip   = 1_000_000_000 // wei; the faucet is rich and should not wait
	receiptPoll = time.Millisecond
)

var selMint = crypto.Keccak256([]byte("mint(address,uint256)"))[:4]

// faucet sends from the development key. It keeps no nonce of its own: the pool knows it, also after a restart.
type faucet struct {
	mu   sync.Mutex // from reading the nonce to handing over the transaction that takes it
	key  *ecdsa.PrivateKey
	from common.Address
}

func (f *faucet) init() (err error) {
	if f.key, err = FaucetKey(); err != nil {
		return err
	}
	f.from = crypto.PubkeyToAddress(f.key.PublicKey)
	return nil
}

// Mint creates USDC at an address and returns the mined transaction.
func (n *Node) Mint(ctx context.Context, to common.Address, amount money.USDC) (common.Hash, error) {
	c, err := MintCall(n.network, to, amount)
	if err != nil {
		return common.Hash{}, err
	}
	return n.fromFaucet(ctx, c)
}

// MintCall is the call by which the holder of FaucetKey creates USDC at an address. A real chain's token refuses it.
func MintCall(network evm.Network, to common.Address, amount money.USDC) (evm.Call, error) {
	if amount <= 0 || amount > money.Max {
		return evm.Call{}, fmt.Errorf("devnet: mint: %w", money.ErrOutOfRange)
	}
	data := append(append([]byte(nil), selMint...), common.LeftPadBytes(to[:], 32)...)
	data = append(data, common.LeftPadBytes(amount.Big().Bytes(), 32)...)
	return evm.Call{To: network.USDC, Data: data, Gas: faucetGas}, nil
}

// Ether sends ether (in wei) to an address and returns the mined transaction.
func (n *Node) Ether(ctx context.Context, to common.Address, wei *big.Int) (common.Hash, error) {
	return n.fromFaucet(ctx, evm.Call{To: to, ValueWei: wei, Gas: faucetGas})
}

func (n *Node) fromFaucet(ctx context.Context, c evm.Call) (common.Hash, error) {
	hash, err := n.sendFromFaucet(ctx, c)
	if err != nil {
		return hash, fmt.Errorf("devnet: faucet: %w", err)
	}
	poll := time.NewTicker(receiptPoll)
	defer poll.Stop()
	for {
		var receipt *types.Receipt
		if err := n.rpc.CallContext(ctx, &receipt, "eth_getTransactionReceipt", hash); err != nil {
			return hash, fmt.Errorf("devnet: faucet: %w", err)
		}
		if receipt != nil {
			if receipt.Status != types.ReceiptStatusSuccessful {
				return hash, errors.New("devnet: faucet: transaction reverted")
			}
			return hash, n.settled()
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return hash, fmt.Errorf("devnet: faucet: %w", ctx.Err())
		}
	}
}

// settled waits until the head and the pool know what a receipt says already, so that a receiver can spend at once.
func (n *Node) settled() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.eth.TxPool().Sync(); err != nil {
		return fmt.Errorf("devnet: faucet: %w", err)
	}
	return nil
}

func (n *Node) sendFromFaucet(ctx context.Context, c evm.Call) (common.Hash, error) {
	n.faucet.mu.Lock()
	defer n.faucet.mu.Unlock()
	nonce, capWei, err := n.faucetNonce()
	if err != nil {
		return common.Hash{}, err
	}
	raw, hash, err := evm.SignTx(n.faucet.key, n.network.ChainID, nonce, evm.Fees{TipWei: faucetTip, CapWei: capWei}, c)
	if err != nil {
		return hash, err
	}
	return hash, n.rpc.CallContext(ctx, nil, "eth_sendRawTransaction", hexutil.Encode(raw))
}

// faucetNonce reads the next nonce and a price that outlives a few full blocks. The pool follows the head in the
// background, so it is brought up to date first; otherwise a fork could leave it with a nonce of the old branch.
func (n *Node) faucetNonce() (nonce uint64, capWei int64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.eth.TxPool().Sync(); err != nil {
		return 0, 0, err
	}
	base := n.eth.BlockChain().CurrentBlock().BaseFee
	return n.eth.TxPool().PoolNonce(n.faucet.from), faucetTip + 4*base.Int64(), nil
}
