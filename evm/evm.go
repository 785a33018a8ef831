// Package evm holds the values of an Ethereum chain that the domain, the payment protocols and the chain
// client all speak, and the pure functions over them: hashes, signatures, call data. It does no I/O and
// knows no storage, so that core, pay and chain can share it without importing each other.
package evm

import (
	"errors"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/money"
)

// Errors that a chain client returns; callers compare with errors.Is.
var (
	// ErrNotFound says that the node does not know the block, transaction or receipt (yet).
	ErrNotFound = errors.New("evm: not found")
	// ErrKnown says that the node has the transaction already, or that its nonce was used: the receipt decides.
	ErrKnown = errors.New("evm: already known or nonce used")
	// ErrUnderpriced says that the fee is too low for the pool.
	ErrUnderpriced = errors.New("evm: underpriced")
	// ErrNoGas says that the sender has too little ether.
	ErrNoGas = errors.New("evm: insufficient ether for gas")
	// ErrReverted says that the call or transaction reverts.
	ErrReverted = errors.New("evm: reverted")
	// ErrUnavailable says that no node gave a usable answer; the outcome is unknown and the call may be repeated.
	ErrUnavailable = errors.New("evm: no node answered")
)

// Block is a block's identity, the block that it stands on, and its time.
type Block struct {
	Number uint64
	Hash   common.Hash
	Parent common.Hash
	Time   time.Time
}

// Movement is one USDC Transfer log. AuthNonce is set when an EIP-3009 authorization of From moved it, which
// tells whose operation or payment it is.
type Movement struct {
	From, To  common.Address
	Amount    money.USDC
	TxHash    common.Hash
	LogIndex  uint
	Block     uint64
	BlockHash common.Hash
	AuthNonce *common.Hash
}

// Receipt is what a mined transaction left behind.
type Receipt struct {
	TxHash    common.Hash
	Block     uint64
	BlockHash common.Hash
	OK        bool // false: reverted
	GasUsed   uint64
	PriceWei  *big.Int // per gas, as charged; nil when the node does not say
	L1FeeWei  *big.Int // what an OP-stack chain charged on top for its data; nil on other chains
	Logs      []*types.Log
}
