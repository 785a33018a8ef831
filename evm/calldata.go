package evm

import (
	"crypto/ecdsa"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/money"
)

// Selectors and topics of USDC (circlefin/stablecoin-evm FiatTokenV2_2).
var (
	selTransferWithAuthorization = crypto.Keccak256([]byte("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"))[:4]
	selTransfer                  = crypto.Keccak256([]byte("transfer(address,uint256)"))[:4]

	// TopicTransfer is the event Transfer(from, to, value).
	TopicTransfer = crypto.Keccak256Hash([]byte("Transfer(address,address,uint256)"))
	// TopicAuthorizationUsed is the event AuthorizationUsed(authorizer, nonce).
	TopicAuthorizationUsed = crypto.Keccak256Hash([]byte("AuthorizationUsed(address,bytes32)"))
)

// TransferWithAuthorizationData is the call data that carries an authorization and its signature (bytes form).
func TransferWithAuthorizationData(a Authorization, sig []byte) []byte {
	word := func(v *big.Int) []byte { return common.LeftPadBytes(v.Bytes(), 32) }
	b := append([]byte(nil), selTransferWithAuthorization...)
	b = append(b, common.LeftPadBytes(a.From[:], 32)...)
	b = append(b, common.LeftPadBytes(a.To[:], 32)...)
	b = append(b, word(a.Value.Big())...)
	b = append(b, word(big.NewInt(a.ValidAfter))...)
	b = append(b, word(big.NewInt(a.ValidBefore))...)
	b = append(b, a.Nonce[:]...)
	b = append(b, word(big.NewInt(7*32))...) // offset of the bytes argument
	b = append(b, word(big.NewInt(int64(len(sig))))...)
	return append(b, common.RightPadBytes(sig, (len(sig)+31)/32*32)...)
}

// TransferData is the call data of an ordinary ERC-20 transfer.
func TransferData(to common.Address, amount money.USDC) []byte {
	b := append([]byte(nil), selTransfer...)
	b = append(b, common.LeftPadBytes(to[:], 32)...)
	return append(b, common.LeftPadBytes(amount.Big().Bytes(), 32)...)
}

// Call is a transaction before it has a nonce and a price. ValueWei is ether.
type Call struct {
	To       common.Address
	Data     []byte
	ValueWei *big.Int
	Gas      uint64
}

// SignTx signs an EIP-1559 transaction and returns its raw bytes and hash. The same input gives the same bytes.
func SignTx(key *ecdsa.PrivateKey, chainID, nonce uint64, fees Fees, c Call) ([]byte, common.Hash, error) {
	value := c.ValueWei
	if value == nil {
		value = new(big.Int)
	}
	id := new(big.Int).SetUint64(chainID)
	tx, err := types.SignNewTx(key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
		ChainID: id, Nonce: nonce, GasTipCap: big.NewInt(fees.TipWei), GasFeeCap: big.NewInt(fees.CapWei),
		Gas: c.Gas, To: &c.To, Value: value, Data: c.Data,
	})
	if err != nil {
		return nil, common.Hash{}, fmt.Errorf("evm: sign transaction: %w", err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		return nil, common.Hash{}, fmt.Errorf("evm: encode transaction: %w", err)
	}
	return raw, tx.Hash(), nil
}

// Resign signs a transaction of SignTx again at another price: the same account nonce and the same call.
func Resign(key *ecdsa.PrivateKey, raw []byte, fees Fees) ([]byte, common.Hash, error) {
	var tx types.Transaction
	if err := tx.UnmarshalBinary(raw); err != nil {
		return nil, common.Hash{}, fmt.Errorf("evm: decode transaction: %w", err)
	}
	c := Call{To: *tx.To(), Data: tx.Data(), ValueWei: tx.Value(), Gas: tx.Gas()}
	return SignTx(key, tx.ChainId().Uint64(), tx.Nonce(), fees, c)
}
