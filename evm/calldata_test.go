package evm_test

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
)

// A dearer transaction takes the place of the cheaper one: it differs in its price alone.
func TestResignReplaces(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	call := evm.Call{To: common.HexToAddress("0x02"), Data: []byte{1, 2, 3}, ValueWei: big.NewInt(5), Gas: 100_000}
	raw, first, err := evm.SignTx(key, 7, 41, evm.Fees{TipWei: 1, CapWei: 10}, call)
	if err != nil {
		t.Fatal(err)
	}
	again, second, err := evm.Resign(key, raw, evm.Fees{TipWei: 2, CapWei: 20})
	if err != nil {
		t.Fatal(err)
	}
	var old, dearer types.Transaction
	if err := old.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if err := dearer.UnmarshalBinary(again); err != nil {
		t.Fatal(err)
	}
	from, err := types.Sender(types.LatestSignerForChainID(big.NewInt(7)), &dearer)
	if err != nil || from != crypto.PubkeyToAddress(key.PublicKey) {
		t.Errorf("signed by %s %v", from, err)
	}
	if dearer.Nonce() != 41 || *dearer.To() != call.To || !bytes.Equal(dearer.Data(), call.Data) || dearer.Value().Cmp(call.ValueWei) != 0 || dearer.Gas() != call.Gas {
		t.Errorf("another transaction: nonce %d, to %s", dearer.Nonce(), dearer.To())
	}
	if first == second || dearer.Hash() != second || dearer.GasTipCap().Int64() != 2 || dearer.GasFeeCap().Int64() != 20 {
		t.Errorf("price %s/%s", dearer.GasTipCap(), dearer.GasFeeCap())
	}
}
