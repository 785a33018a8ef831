package evm

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/money"
)

var (
	selTransferFrom = crypto.Keccak256([]byte("transferFrom(address,address,uint256)"))[:4]
	selPermit       = crypto.Keccak256([]byte("permit(address,address,uint256,uint256,bytes)"))[:4]

	permitType = crypto.Keccak256([]byte("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"))
)

// Permit is an EIP-2612 permit: Owner lets Spender take up to Value, in place of what it could take before. The token
// accepts it once, while Nonce is the owner's next one and the block time is not above Deadline (unix seconds). Anyone
// may hand it in, and whoever sees it on its way can repeat it elsewhere: it proves nothing about who shows it.
type Permit struct {
	Owner, Spender common.Address
	Value          money.USDC
	Nonce          uint64
	Deadline       int64
}

// Digest is the EIP-712 hash that the owner signs.
func (p Permit) Digest(d Domain) common.Hash {
	var b [192]byte
	copy(b[0:], permitType)
	copy(b[44:], p.Owner[:])
	copy(b[76:], p.Spender[:])
	p.Value.Big().FillBytes(b[96:128])
	copy(b[128:], Uint256(p.Nonce))
	big.NewInt(p.Deadline).FillBytes(b[160:192])
	sep := d.Separator()
	return crypto.Keccak256Hash([]byte{0x19, 1}, sep[:], crypto.Keccak256(b[:]))
}

// TypedData is the permit as a wallet's eth_signTypedData_v4 takes it, JSON.
func (p Permit) TypedData(d Domain) (string, error) {
	type field struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	text, err := json.Marshal(map[string]any{
		"types": map[string][]field{
			"EIP712Domain": {{"name", "string"}, {"version", "string"}, {"chainId", "uint256"}, {"verifyingContract", "address"}},
			"Permit":       {{"owner", "address"}, {"spender", "address"}, {"value", "uint256"}, {"nonce", "uint256"}, {"deadline", "uint256"}},
		},
		"primaryType": "Permit",
		"domain": map[string]any{
			"name": d.Name, "version": d.Version, "chainId": d.ChainID.String(), "verifyingContract": d.Token.Hex(),
		},
		"message": map[string]any{
			"owner": p.Owner.Hex(), "spender": p.Spender.Hex(), "value": p.Value.String(),
			"nonce": fmt.Sprint(p.Nonce), "deadline": fmt.Sprint(p.Deadline),
		},
	})
	if err != nil {
		return "", fmt.Errorf("evm: permit: %w", err)
	}
	return string(text), nil
}

// PersonalDigest is what a wallet's personal_sign hashes (EIP-191, version 0x45). It can be no transaction and no typed
// data, whatever the text says.
func PersonalDigest(text string) common.Hash {
	return crypto.Keccak256Hash(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(text), text))
}

// PermitData is the call data that hands a permit in (bytes form). The nonce is not in it: the token knows.
func PermitData(owner, spender common.Address, value money.USDC, deadline int64, sig []byte) []byte {
	b := append([]byte(nil), selPermit...)
	b = append(b, common.LeftPadBytes(owner[:], 32)...)
	b = append(b, common.LeftPadBytes(spender[:], 32)...)
	b = append(b, common.LeftPadBytes(value.Big().Bytes(), 32)...)
	b = append(b, common.LeftPadBytes(big.NewInt(deadline).Bytes(), 32)...)
	b = append(b, Uint256(5*32)...) // offset of the bytes argument
	b = append(b, Uint256(uint64(len(sig)))...)
	return append(b, common.RightPadBytes(sig, (len(sig)+31)/32*32)...)
}

// TransferFromData is the call data by which a spender takes amount out of from's wallet, within its allowance.
func TransferFromData(from, to common.Address, amount money.USDC) []byte {
	b := append([]byte(nil), selTransferFrom...)
	b = append(b, common.LeftPadBytes(from[:], 32)...)
	b = append(b, common.LeftPadBytes(to[:], 32)...)
	return append(b, common.LeftPadBytes(amount.Big().Bytes(), 32)...)
}
