package core_test

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
)

// A node shows a block without its logs, and has them later: the second pass books what was missed, once.
func TestSecondPassBooksWhatANodeLeftOut(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		node := w.Net.Proxy(chaintest.OmitLogs(func(types.Log) bool { return true }))
		client, err := chain.Open(w.Ctx, chain.Config{URLs: []string{node.URL()}, Network: w.Net.Network(), Clock: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		deps := w.Deps
		deps.Chain = client
		over, err := core.New(w.Ctx, deps)
		if err != nil {
			t.Fatal(err)
		}
		has := func(want money.USDC) {
			t.Helper()
			if got, err := over.Agents.Get(w.Ctx, p, a.ID); err != nil || got.Wallet.Posted != want {
				t.Fatalf("the wallet has %s, want %s, %v", got.Wallet.Posted, want, err)
			}
		}
		w.Fund(a, money.One)
		w.Mine(2)
		must(w, over.Funding.ReadChain(w.Ctx))
		has(money.One)
		node.Set()
		w.Mine(70)
		must(w, over.Funding.ReadChain(w.Ctx))
		has(money.One)
		for range 2 {
			must(w, over.Funding.Recheck(w.Ctx))
			has(2 * money.One)
		}
		w.Balanced()
	})
}
