package core_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// noLogs is a node that has blocks before their logs.
var noLogs = chaintest.OmitLogs(func(types.Log) bool { return true })

// through is another process of the world, that sees the chain by a proxy.
func through(t *testing.T, w *coretest.World, node *chaintest.Proxy) *core.Core {
	t.Helper()
	network := w.Net.Network()
	network.Confirmations = w.Deps.Chain.Network().Confirmations
	client, err := chain.Open(w.Ctx, chain.Config{URLs: []string{node.URL()}, Network: network, Clock: w.Clock.Now})
	must(w, err)
	t.Cleanup(client.Close)
	deps := w.Deps
	deps.Chain = client
	over, err := core.New(w.Ctx, deps)
	must(w, err)
	return over
}

// A node shows a block without its logs, and has them later: the second pass books what was missed, once.
func TestSecondPassBooksWhatANodeLeftOut(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		node := w.Net.Proxy(noLogs)
		over := through(t, w, node)
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

// A proof is used in a block that its node shows without logs. However long ago it has died, its money stays reserved until
// the second pass has read that block, in whatever process, and is charged then.
func TestHoldWaitsForTheSecondPass(t *testing.T) {
	for name, seller := range map[string]func(*coretest.World) string{
		"authorization": func(w *coretest.World) string { return w.Seller(cent).Link(2, paytest.Serve, 0) },
		"permit2":       func(w *coretest.World) string { return w.Permit2Seller(cent).URL },
	} {
		t.Run(name, func(t *testing.T) { holdWaits(t, seller) })
	}
}

func holdWaits(t *testing.T, seller func(*coretest.World) string) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		node := w.Net.Proxy(noLogs)
		over := through(t, w, node)
		r, err := over.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: seller(w)})
		must(w, err)
		is := func(when string, want transaction.Status, amount, pending money.USDC) {
			t.Helper()
			must(w, over.Payments.ResolveHolds(w.Ctx))
			got, err := w.Core.Transactions.Get(w.Ctx, p, r.Payment.ID)
			if v := agentOf(w, p, a.ID); err != nil || got.Status != want || got.Amount != amount || v.Wallet.Pending != pending {
				t.Fatalf("%s: %s %s, %s pending, %v", when, got.Status, got.Amount, v.Wallet.Pending, err)
			}
		}
		w.Pass(7 * time.Minute) // the proof lived for one
		must(w, over.Funding.ReadChain(w.Ctx))
		is("nobody has shown its log", transaction.StatusPending, 0, cent)
		node.Set()
		must(w, another(w, "", nil).Funding.Recheck(w.Ctx))
		is("after the second pass", transaction.StatusSuccess, cent, 0)
		w.Balanced()
	})
}

// An authorization that was used for something else holds no money once the second pass is past its end, nor for ever
// when no node can be read twice.
func TestHoldOfAUsedNonceEnds(t *testing.T) {
	for name, end := range map[string]func(w *coretest.World, node *chaintest.Proxy, validBefore int64){
		"by the second pass": func(w *coretest.World, _ *chaintest.Proxy, _ int64) {
			w.Pass(3 * time.Minute)
			must(w, w.Core.Funding.ReadChain(w.Ctx))
			must(w, w.Core.Funding.Recheck(w.Ctx))
		},
		"by time": func(w *coretest.World, node *chaintest.Proxy, validBefore int64) {
			node.Set(chaintest.AddField("eth_getBlockByNumber", "timestamp", strconv.Quote(hexutil.EncodeUint64(uint64(validBefore)+3600))))
			w.Mine(1)
			must(w, w.Core.Funding.ReadChain(w.Ctx))
			node.Set()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := coretest.New(t)
			p, _ := w.User("dev@example.com")
			a := w.Agent(p, "bot", money.One)
			node := w.Net.Proxy()
			w.Core = through(t, w, node)
			s := w.Seller(cent)
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
				t.Fatal(err)
			}
			auth := s.Seen()[0].Proof.Authorization
			auth.Value++
			resign(t, w, p, a, auth)
			w.Pass(2 * time.Minute)
			w.Settle()
			must(w, w.Core.Payments.ResolveHolds(w.Ctx))
			if v := agentOf(w, p, a.ID); v.Wallet.Pending != cent {
				t.Errorf("before: %s pending", v.Wallet.Pending)
			}
			end(w, node, auth.ValidBefore)
			must(w, w.Core.Payments.ResolveHolds(w.Ctx))
			if v := agentOf(w, p, a.ID); v.Wallet.Pending != 0 {
				t.Errorf("after: %s pending", v.Wallet.Pending)
			}
			w.Mine(1)
			w.Balanced()
		})
	}
}

// A reorganisation takes the second pass back to where the branches part.
func TestSecondPassGoesBackWithTheChain(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		w.Settle()
		back := w.Height()
		w.Mine(100)
		must(w, w.Core.Funding.ReadChain(w.Ctx))
		must(w, w.Core.Funding.Recheck(w.Ctx))
		must(w, w.Core.Funding.Recheck(w.Ctx)) // nothing more
		node := w.Net.Proxy(noLogs)
		over := through(t, w, node)
		to, err := w.Net.BlockByNumber(w.Ctx, back)
		must(w, err)
		must(w, w.Net.Node.Replace(to.Hash))
		w.Fund(a, money.One) // at a height that was read twice, and that no node shows
		w.Mine(110)
		must(w, over.Funding.ReadChain(w.Ctx))
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != money.One {
			t.Fatalf("the wallet has %s", got.Wallet.Posted)
		}
		must(w, w.Core.Funding.Recheck(w.Ctx))
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 2*money.One {
			t.Errorf("the wallet has %s", got.Wallet.Posted)
		}
		w.Balanced()
	})
}
