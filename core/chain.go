package core

import (
	"context"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
)

// Chain is what the domain needs from a network. Errors are the sentinels of package evm; anything else means
// that the node gave no usable answer, so the outcome is unknown.
type Chain interface {
	// Network names the chain and its token.
	Network() evm.Network
	// Head is the newest block.
	Head(ctx context.Context) (evm.Block, error)
	// BlockByNumber returns evm.ErrNotFound above the head.
	BlockByNumber(ctx context.Context, number uint64) (evm.Block, error)
	// Agreed is BlockByNumber when all nodes that can be asked name the same block, else evm.ErrUnavailable.
	Agreed(ctx context.Context, number uint64) (evm.Block, error)
	// Movements lists the USDC movements of the blocks from..to, both included, in chain order.
	Movements(ctx context.Context, from, to uint64) ([]evm.Movement, error)
	// Recheck is Movements for a range that was read before, from every node that has it: the union of what they show.
	Recheck(ctx context.Context, from, to uint64) ([]evm.Movement, error)
	// BalanceOf is an address's USDC at a block; 0 means the newest.
	BalanceOf(ctx context.Context, a common.Address, block uint64) (money.USDC, error)
	// Allowance is what spender may take of owner's USDC, at the newest block; money.Max stands for all that is more.
	Allowance(ctx context.Context, owner, spender common.Address) (money.USDC, error)
	// PermitNonce is the number that owner's next EIP-2612 permit must carry.
	PermitNonce(ctx context.Context, owner common.Address) (uint64, error)
	// BalancesOf is BalanceOf for many addresses at one block, in the order asked.
	BalancesOf(ctx context.Context, addresses []common.Address, block uint64) ([]money.USDC, error)
	// AuthorizationUsed says whether the token had executed or cancelled an authorization by the end of a block.
	AuthorizationUsed(ctx context.Context, from common.Address, nonce common.Hash, block uint64) (bool, error)
	// Permit2Used is AuthorizationUsed for a nonce of Permit2.
	Permit2Used(ctx context.Context, owner common.Address, nonce common.Hash, block uint64) (bool, error)
	// Permit2UsedOf is Permit2Used for many nonces of an owner at one block, in the order asked.
	Permit2UsedOf(ctx context.Context, owner common.Address, nonces []common.Hash, block uint64) ([]bool, error)
	// CallData is what a transaction was sent with; evm.ErrNotFound when no node has it.
	CallData(ctx context.Context, hash common.Hash) ([]byte, error)
	// NonceAt is the next nonce of an account, counting mined transactions only.
	NonceAt(ctx context.Context, a common.Address) (uint64, error)
	// NonceAtBlock is what NonceAt was at a block.
	NonceAtBlock(ctx context.Context, a common.Address, block uint64) (uint64, error)
	// EtherOf is an address's ether in wei.
	EtherOf(ctx context.Context, a common.Address) (*big.Int, error)
	// Fees suggests a price for the next blocks.
	Fees(ctx context.Context) (evm.Fees, error)
	// Send hands signed bytes to the network. nil and evm.ErrKnown mean that it has them.
	Send(ctx context.Context, raw []byte) error
	// Receipt returns evm.ErrNotFound while the transaction is not mined.
	Receipt(ctx context.Context, hash common.Hash) (evm.Receipt, error)
	// Simulate runs a call on the newest state; evm.ErrReverted carries the reason.
	Simulate(ctx context.Context, from common.Address, c evm.Call) error
	// SimulateEach runs calls through Multicall3 as Aggregate3Data does, on the newest state: an error a call, nil for
	// those that go through.
	SimulateEach(ctx context.Context, from common.Address, calls []evm.Call) ([]error, error)
}
