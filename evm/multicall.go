package evm

import (
	"errors"
	"math/big"

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

// ErrMulticall says that an answer is not one of aggregate3.
var ErrMulticall = errors.New("evm: malformed multicall answer")

// Result is what one call of a batch answered.
type Result struct {
	OK   bool
	Data []byte // the answer, or the revert's data
}

// Aggregate3Results reads the answer of aggregate3: (bool, bytes)[].
func Aggregate3Results(b []byte) ([]Result, error) {
	at := func(pos int) (int, bool) { // a word that is a small number
		if pos < 0 || pos+32 > len(b) {
			return 0, false
		}
		v := new(big.Int).SetBytes(b[pos : pos+32])
		return int(v.Int64()), v.IsInt64() && v.Int64() <= int64(len(b))
	}
	start, ok1 := at(0)
	n, ok2 := at(start)
	if !ok1 || !ok2 {
		return nil, ErrMulticall
	}
	base := start + 32
	out := make([]Result, n)
	for i := range out {
		offset, ok1 := at(base + 32*i)
		tuple := base + offset
		success, ok2 := at(tuple)
		where, ok3 := at(tuple + 32)
		length, ok4 := at(tuple + where)
		begin := tuple + where + 32
		if !ok1 || !ok2 || !ok3 || !ok4 || begin+length > len(b) {
			return nil, ErrMulticall
		}
		out[i] = Result{OK: success == 1, Data: b[begin : begin+length]}
	}
	return out, nil
}
