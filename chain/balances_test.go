package chain_test

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/money"
)

// Many balances at once are the same as one by one, at any block, in any number, and where there is no Multicall3.
func TestBalancesOf(t *testing.T) {
	n := chaintest.New(t)
	addresses := make([]common.Address, 1203)
	for i := range addresses {
		_, addresses[i] = newKey(t)
	}
	n.Fund(addresses[0], 7)
	old, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.Fund(addresses[0], 1)
	n.Fund(addresses[601], 3*money.One)
	n.Fund(addresses[1202], money.Max/1000)
	bare := n.Network()
	bare.Multicall3 = common.Address{1}
	without, err := chain.Open(t.Context(), chain.Config{URLs: []string{n.Node.URL()}, Network: bare, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(without.Close)
	check := func(name string, c *chain.Client, of []common.Address, block uint64, want map[int]money.USDC) {
		t.Helper()
		got, err := c.BalancesOf(t.Context(), of, block)
		if err != nil || len(got) != len(of) {
			t.Fatalf("%s: %d of %d, %v", name, len(got), len(of), err)
		}
		for i, v := range got {
			if v != want[i] {
				t.Errorf("%s: %d has %s, want %s", name, i, v, want[i])
			}
		}
	}
	newest := map[int]money.USDC{0: 8, 601: 3 * money.One, 1202: money.Max / 1000}
	check("newest", n.Client, addresses, 0, newest)
	check("old", n.Client, addresses, old.Number, map[int]money.USDC{0: 7})
	check("none", n.Client, nil, 0, nil)
	check("one", n.Client, addresses[:1], 0, newest)
	check("without", without, addresses[:20], 0, newest)
	if _, err := n.BalancesOf(t.Context(), addresses, old.Number+1000); err == nil {
		t.Error("balances of a block to come")
	}
}
