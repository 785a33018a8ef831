package evm_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
)

// The place of a nonce in Permit2's bitmap: 256 nonces to a word (SignatureTransfer.sol, bitmapPositions).
func TestBitmapData(t *testing.T) {
	owner := common.HexToAddress("0x857b06519E91e3A54538791bDbb0E22373e36b66")
	for nonce, want := range map[string]struct {
		word string
		bit  uint
	}{
		"0x00":   {"00", 0},
		"0xff":   {"00", 255},
		"0x0102": {"01", 2},
		"0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff07": {"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", 7},
	} {
		data, bit := evm.Permit2Transfer{Owner: owner, Nonce: common.HexToHash(nonce)}.BitmapData()
		word := common.HexToHash(want.word)
		if got := hexutil.Encode(data); got != "0x4fe02b44000000000000000000000000857b06519e91e3a54538791bdbb0e22373e36b66"+word.Hex()[2:] || bit != want.bit {
			t.Errorf("nonce %s: %s, bit %d", nonce, got, bit)
		}
	}
}
