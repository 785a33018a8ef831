package evm

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/money"
)

// Contracts that move money by Permit2 signatures. They have the same address on every network and are compiled in: a
// spender is never taken from a stranger.
var (
	// Permit2 is Uniswap's contract of that name, to which an owner's token allowance goes.
	Permit2 = common.HexToAddress("0x000000000022D473030F116dDEE9F6B43aC78BA3")
	// ExactProxy and UptoProxy are the spenders of x402 (specs/schemes/exact and upto, scheme_*_evm.md). They pay the
	// witness's receiver and nobody else.
	ExactProxy = common.HexToAddress("0x402085c248EeA27D92E8b30b2C58ed07f9E20001")
	UptoProxy  = common.HexToAddress("0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002")
)

const (
	permit2Transfer = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)"
	permit2Tokens   = "TokenPermissions(address token,uint256 amount)"
	exactWitness    = "Witness(address to,uint256 validAfter)"
	uptoWitness     = "Witness(address to,address facilitator,uint256 validAfter)"
)

var (
	permit2Separator = crypto.Keccak256([]byte("EIP712Domain(string name,uint256 chainId,address verifyingContract)")) // no version
	permit2Name      = crypto.Keccak256([]byte("Permit2"))
	tokensType       = crypto.Keccak256([]byte(permit2Tokens))
	exactType        = crypto.Keccak256([]byte(permit2Transfer + permit2Tokens + exactWitness))
	uptoType         = crypto.Keccak256([]byte(permit2Transfer + permit2Tokens + uptoWitness))
	exactWitnessType = crypto.Keccak256([]byte(exactWitness))
	uptoWitnessType  = crypto.Keccak256([]byte(uptoWitness))
)

// Permit2Transfer is a PermitWitnessTransferFrom of x402: Owner lets the proxy move Amount of Token to To, once, while
// ValidAfter <= block time <= Deadline (unix seconds). With a Facilitator it is of the scheme upto: that account alone may
// settle, and Amount is a maximum. Permit2 refuses a second use of (Owner, Nonce), a number whose order means nothing.
type Permit2Transfer struct {
	Owner, Token, To     common.Address
	Facilitator          common.Address // zero: scheme exact
	Amount               money.USDC
	Nonce                common.Hash
	ValidAfter, Deadline int64
}

// UpTo reports whether the amount is a maximum.
func (p Permit2Transfer) UpTo() bool { return p.Facilitator != common.Address{} }

// Spender is the proxy that may use the signature.
func (p Permit2Transfer) Spender() common.Address {
	if p.UpTo() {
		return UptoProxy
	}
	return ExactProxy
}

// Digest is the EIP-712 hash that the owner signs.
func (p Permit2Transfer) Digest(chainID uint64) common.Hash {
	kind, spender := exactType, p.Spender()
	witness := [][]byte{exactWitnessType, word(p.To[:])}
	if p.UpTo() {
		kind, witness = uptoType, [][]byte{uptoWitnessType, word(p.To[:]), word(p.Facilitator[:])}
	}
	witness = append(witness, number(p.ValidAfter))
	message := crypto.Keccak256(
		kind, crypto.Keccak256(tokensType, word(p.Token[:]), word(p.Amount.Big().Bytes())),
		word(spender[:]), p.Nonce[:], number(p.Deadline), crypto.Keccak256(witness...),
	)
	separator := crypto.Keccak256(permit2Separator, permit2Name, Uint256(chainID), word(Permit2[:]))
	return crypto.Keccak256Hash([]byte{0x19, 1}, separator, message)
}

// BitmapData is the call data by which Permit2 tells which nonces an owner has used, nonceBitmap(owner, word), and the bit
// of the answer that is this one's.
func (p Permit2Transfer) BitmapData() (data []byte, bit uint) {
	n := p.Nonce.Big()
	data = append(crypto.Keccak256([]byte("nonceBitmap(address,uint256)"))[:4:4], word(p.Owner[:])...)
	return append(data, word(new(big.Int).Rsh(n, 8).Bytes())...), uint(p.Nonce[common.HashLength-1])
}

// word is b in 32 bytes, from the right.
func word(b []byte) []byte { return common.LeftPadBytes(b, common.HashLength) }

// number is a non-negative count of seconds as a word.
func number(v int64) []byte { return word(big.NewInt(v).Bytes()) }
