package evm

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/money"
)

// Domain is an EIP-712 domain of a token contract.
type Domain struct {
	Name, Version string
	ChainID       *big.Int
	Token         common.Address
}

// Authorization is an EIP-3009 TransferWithAuthorization: From lets anyone move Value to To, once, while
// ValidAfter < block time < ValidBefore (unix seconds). The token refuses a second use of (From, Nonce).
type Authorization struct {
	From, To                common.Address
	Value                   money.USDC
	ValidAfter, ValidBefore int64
	Nonce                   common.Hash
}

// SignatureLength is the length of r || s || v.
const SignatureLength = 65

var (
	domainType   = crypto.Keccak256([]byte("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"))
	transferType = crypto.Keccak256([]byte("TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"))
)

// Separator is the EIP-712 domain separator, as the contract's DOMAIN_SEPARATOR() answers.
func (d Domain) Separator() common.Hash {
	var b [160]byte
	copy(b[0:], domainType)
	copy(b[32:], crypto.Keccak256([]byte(d.Name)))
	copy(b[64:], crypto.Keccak256([]byte(d.Version)))
	d.ChainID.FillBytes(b[96:128])
	copy(b[140:], d.Token[:])
	return crypto.Keccak256Hash(b[:])
}

// Digest is the EIP-712 hash that the payer signs. It is packed by hand because going through go-ethereum's
// apitypes costs nine times as much; a test holds the two equal.
func (a Authorization) Digest(d Domain) common.Hash {
	var b [224]byte
	copy(b[0:], transferType)
	copy(b[44:], a.From[:])
	copy(b[76:], a.To[:])
	a.Value.Big().FillBytes(b[96:128])
	big.NewInt(a.ValidAfter).FillBytes(b[128:160])
	big.NewInt(a.ValidBefore).FillBytes(b[160:192])
	copy(b[192:], a.Nonce[:])
	sep := d.Separator()
	return crypto.Keccak256Hash([]byte{0x19, 1}, sep[:], crypto.Keccak256(b[:]))
}

// Sign returns r || s || v with v 27 or 28 and a low s, the only form USDC accepts.
func Sign(key *ecdsa.PrivateKey, digest common.Hash) ([]byte, error) {
	sig, err := crypto.Sign(digest[:], key)
	if err != nil {
		return nil, fmt.Errorf("evm: sign: %w", err)
	}
	sig[64] += 27
	return sig, nil
}

// ErrSignature says that a signature is malformed.
var ErrSignature = errors.New("evm: malformed signature")

// Recover returns the address that signed the digest.
func Recover(digest common.Hash, sig []byte) (common.Address, error) {
	if len(sig) != SignatureLength || (sig[64] != 27 && sig[64] != 28) {
		return common.Address{}, ErrSignature
	}
	raw := append([]byte(nil), sig...)
	raw[64] -= 27
	pub, err := crypto.SigToPub(digest[:], raw)
	if err != nil {
		return common.Address{}, ErrSignature
	}
	return crypto.PubkeyToAddress(*pub), nil
}
