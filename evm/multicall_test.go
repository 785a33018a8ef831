package evm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"bursar/evm"
)

// As mds1/multicall declares it.
const multicall3ABI = `[{"type":"function","name":"aggregate3","stateMutability":"payable",
	"inputs":[{"name":"calls","type":"tuple[]","components":[{"name":"target","type":"address"},{"name":"allowFailure","type":"bool"},{"name":"callData","type":"bytes"}]}],
	"outputs":[{"name":"returnData","type":"tuple[]","components":[{"name":"success","type":"bool"},{"name":"returnData","type":"bytes"}]}]}]`

func TestAggregate3EqualsABI(t *testing.T) {
	parsed, err := abi.JSON(strings.NewReader(multicall3ABI))
	if err != nil {
		t.Fatal(err)
	}
	if got := common.Bytes2Hex(evm.Aggregate3Data(nil)[:4]); got != "82ad56cb" {
		t.Fatalf("selector %s", got)
	}
	type call3 struct {
		Target       common.Address
		AllowFailure bool
		CallData     []byte
	}
	rapid.Check(t, func(t *rapid.T) {
		var calls []evm.Call
		var packed []call3
		for range rapid.IntRange(0, 5).Draw(t, "calls") {
			to := common.BytesToAddress(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "to"))
			data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
			calls = append(calls, evm.Call{To: to, Data: data})
			packed = append(packed, call3{to, true, data})
		}
		want, err := parsed.Pack("aggregate3", packed)
		if err != nil {
			t.Fatal(err)
		}
		if got := evm.Aggregate3Data(calls); !bytes.Equal(got, want) {
			t.Fatalf("%x, want %x", got, want)
		}
	})
}
