package evm

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

var selAggregate3 = crypto.Keccak256([]byte("aggregate3((address,bool,bytes)[])"))[:4]

// Aggregate3Data is the call data for Multicall3 that makes all calls in one transaction, each allowed to fail by
// itself. The transaction's receipt is OK whatever the calls did: the logs tell which of them went through. Gas and
// ether of the calls are left out; a batch needs the sum of their gas, since a call that runs out of it fails alone.
func Aggregate3Data(calls []Call) []byte {
	word := func(v int) []byte { return Uint256(uint64(v)) }
	b := append([]byte(nil), selAggregate3...)
	b = append(b, word(32)...) // offset of the array
	b = append(b, word(len(calls))...)
	tuples := make([][]byte, len(calls))
	offset := 32 * len(calls) // from the first offset word, which follows the array's length
	for i, c := range calls {
		t := common.LeftPadBytes(c.To[:], 32)
		t = append(t, word(1)...)    // allowFailure
		t = append(t, word(3*32)...) // offset of the call data in the tuple
		t = append(t, word(len(c.Data))...)
		tuples[i] = append(t, common.RightPadBytes(c.Data, (len(c.Data)+31)/32*32)...)
		b = append(b, word(offset)...)
		offset += len(tuples[i])
	}
	for _, t := range tuples {
		b = append(b, t...)
	}
	return b
}
