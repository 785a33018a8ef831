package core_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/evm"
	"bursar/money"
	"bursar/pay/paytest"
)

// A session is opened, used and closed over nodes that do what public nodes have been seen doing. It takes longer;
// nothing is lost, paid twice, or left over.
func TestMoneyOverBadNodes(t *testing.T) {
	const send = "eth_sendRawTransaction"
	for name, nodes := range map[string][][]chaintest.Rule{
		"answers to sends are lost":       {{chaintest.On(chaintest.LoseAnswer(), send)}},
		"sends arrive twice":              {{chaintest.On(chaintest.Twice(), send)}},
		"some requests fail":              {{chaintest.Sometimes(1, 5, chaintest.Status(http.StatusInternalServerError))}},
		"some answers are lost":           {{chaintest.Sometimes(2, 4, chaintest.LoseAnswer())}, {chaintest.Sometimes(3, 7, chaintest.LoseAnswer())}},
		"the preferred lies 20 behind":    {{chaintest.Stale(20)}, {}},
		"the second lies 20 behind":       {{}, {chaintest.Stale(20)}},
		"the preferred lags now and then": {{chaintest.Sometimes(4, 3, chaintest.Stale(20))}, {}},
		"20 behind, and answers lost":     {{chaintest.Stale(20)}, {chaintest.On(chaintest.LoseAnswer(), send)}},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) { liveOver(t, w, nodes) })
		})
	}
}

func liveOver(t *testing.T, w *coretest.World, nodes [][]chaintest.Rule) {
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 6*money.One)
	for range 25 {
		w.Net.Node.Commit()
	}
	var proxies []*chaintest.Proxy
	var urls []string
	for range nodes {
		proxy := w.Net.Proxy()
		proxies, urls = append(proxies, proxy), append(urls, proxy.URL())
	}
	client, err := chain.Open(w.Ctx, chain.Config{URLs: urls, Network: w.Net.Network(), Clock: w.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for i, rules := range nodes {
		proxies[i].Set(rules...)
	}
	deps := w.Deps
	deps.Chain = client
	over, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	s := w.Seller(cent)
	v, err := over.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: 5 * money.One})
	if err != nil {
		t.Fatal(err)
	}
	// What the jobs do, whatever they meet: an error is tried again.
	until := func(want session.Status) {
		t.Helper()
		var met error
		for range 200 {
			met = errors.Join(
				over.Operations.AdvanceDue(w.Ctx), over.Operations.Rebroadcast(w.Ctx), over.Funding.ReadChain(w.Ctx),
				over.Sessions.ExpireDue(w.Ctx), over.Funding.ExpireOperations(w.Ctx), over.Payments.ResolveHolds(w.Ctx),
			)
			got, err := over.Sessions.Get(w.Ctx, p, v.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status == want {
				return
			}
			w.Net.Node.Commit()
		}
		t.Fatalf("the session does not become %s: %v", want, met)
	}
	until(session.StatusOpen)
	for i := range 4 {
		r, err := over.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: a.ID.String(), SessionID: v.ID.String(), URL: s.Link(1+i%2, paytest.Serve, 0)})
		if err != nil || !r.Paid {
			t.Fatalf("call %d: %+v %v", i, r, err)
		}
	}
	if _, err := over.Sessions.Close(w.Ctx, p, v.ID, nil); err != nil {
		t.Fatal(err)
	}
	until(session.StatusClosed)
	w.Settle()
	if got, want := w.Net.Balance(common.HexToAddress(a.Address)), 6*money.One-4*cent; got != want {
		t.Errorf("the wallet has %s, want %s", got, want)
	}
	if seller, platform := w.Net.Balance(s.PayTo), w.Net.Balance(w.Platform); seller != 4*cent || platform != 0 {
		t.Errorf("the seller has %s, the platform %s", seller, platform)
	}
	w.Balanced()
}

// What was booked is not taken back because one of two nodes has left the chain.
func TestOneNodeOnAnotherBranch(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	booked, err := w.Net.Head(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	strayed, honest := w.Net.Proxy(), w.Net.Proxy()
	client, err := chain.Open(w.Ctx, chain.Config{URLs: []string{strayed.URL(), honest.URL()}, Network: w.Net.Network(), Clock: w.Clock.Now})
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
		v, err := over.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || v.Wallet.Posted != want {
			t.Errorf("the wallet has %s, want %s, %v", v.Wallet.Posted, want, err)
		}
	}
	strayed.Set(chaintest.OtherHash(booked.Number))
	w.Net.Fund(common.HexToAddress(a.Address), money.One)
	if err := over.Funding.ReadChain(w.Ctx); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("the nodes disagree: %v", err)
	}
	has(money.One)
	strayed.Set()
	if err := over.Funding.ReadChain(w.Ctx); err != nil {
		t.Error(err)
	}
	has(2 * money.One)
	w.Balanced()
}
