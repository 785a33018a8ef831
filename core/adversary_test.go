package core_test

import (
	"context"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/evm"
	"bursar/money"
	"bursar/pay/paytest"
)

// An owner may export an agent's key and use it behind our back. Nothing that they do may stop the watcher, freeze
// money for ever, or put the books out of step with the chain.

// carry mines a call from a fresh wallet.
func carry(t *testing.T, w *coretest.World, data []byte) {
	t.Helper()
	if r := mine(t, w, data); !r.OK {
		t.Fatal("reverted")
	}
}

// mine sends a call to the token from a fresh wallet, whether or not it will be reverted.
func mine(t *testing.T, w *coretest.World, data []byte) evm.Receipt {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w.Net.Ether(crypto.PubkeyToAddress(key.PublicKey), big.NewInt(1e18))
	w.Net.Node.Commit() // the pool looks at the state a moment after the receipt is there
	fees, err := w.Net.Fees(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := w.Net.Network()
	raw, hash, err := evm.SignTx(key, n.ChainID, 0, fees, evm.Call{To: n.USDC, Data: data, Gas: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Net.Send(w.Ctx, raw); err != nil {
		t.Fatal(err)
	}
	return w.Net.Mined(hash)
}

// resign signs a changed authorization with the agent's exported key and mines it.
func resign(t *testing.T, w *coretest.World, p core.Principal, a *core.AgentView, auth evm.Authorization) {
	t.Helper()
	_, text, err := w.Core.Agents.ExportKey(w.Ctx, p, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.HexToECDSA(text[2:])
	if err != nil {
		t.Fatal(err)
	}
	sig, err := evm.Sign(key, auth.Digest(w.Net.Network().Domain()))
	if err != nil {
		t.Fatal(err)
	}
	carry(t, w, evm.TransferWithAuthorizationData(auth, sig))
}

func TestNonceUsedForAnotherTransfer(t *testing.T) {
	for name, change := range map[string]func(*evm.Authorization, *core.AgentView){
		"another amount": func(auth *evm.Authorization, _ *core.AgentView) { auth.Value++ },
		"another payee":  func(auth *evm.Authorization, _ *core.AgentView) { auth.To = common.HexToAddress("0xb0b") },
		"to itself":      func(auth *evm.Authorization, a *core.AgentView) { auth.To = common.HexToAddress(a.Address) },
	} {
		t.Run(name, func(t *testing.T) {
			w := coretest.New(t)
			p, _ := w.User("dev@example.com")
			a := w.Agent(p, "bot", money.One)
			s := w.Seller(cent)
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
				t.Fatal(err)
			}
			auth := s.Seen()[0].Proof.Authorization
			change(&auth, a)
			resign(t, w, p, a, auth)
			w.Settle()
			w.Pass(7 * time.Minute)
			w.Settle()
			must(w, w.Core.Funding.Recheck(w.Ctx))
			if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
				t.Fatal(err)
			}
			v, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
			if err != nil || v.Wallet.Pending != 0 {
				t.Errorf("the hold never ends: %+v %v", v.Wallet, err)
			}
			w.Balanced()
		})
	}
}

func TestNonceUsedAfterTheHoldWasGivenUp(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
		t.Fatal(err)
	}
	w.Pass(2 * time.Minute)
	w.Settle()
	if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
		t.Fatal(err)
	}
	auth := s.Seen()[0].Proof.Authorization
	auth.ValidBefore += 100_000
	resign(t, w, p, a, auth)
	w.Settle()
	w.Balanced()
}

func TestPayingAnotherWalletOfThisServer(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "buyer", 2*money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	q, _ := w.User("seller@example.com")
	b := w.Agent(q, "seller", 0)
	s := w.SellerTo(common.HexToAddress(b.Address), cent)
	for _, id := range []string{"", v.ID.String()} {
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: id, Agent: "buyer", URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	w.Settle()
	if got, err := w.Core.Agents.Get(w.Ctx, q, b.ID); err != nil || got.Wallet.Posted != 2*cent {
		t.Errorf("%+v %v", got.Wallet, err)
	}
	w.Balanced()
}

func TestDrainToAWalletOfThisServer(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	one, two := w.Agent(p, "one", money.One), w.Agent(p, "two", 0)
	if _, err := w.Core.Auth.SetWallet(w.Ctx, p, two.Address); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Core.Funding.Drain(w.Ctx, p, one.ID, "", nil); err != nil {
		t.Fatal(err)
	}
	w.Settle()
	w.Balanced()
	if _, err := w.Core.Funding.Drain(w.Ctx, p, two.ID, "", nil); code(err) != core.InvalidRequest {
		t.Errorf("a wallet drains to itself: %v", err)
	}
}

func TestUnusedChargesComeBackAfterClose(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 2*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		for range 3 {
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Core.Sessions.Close(w.Ctx, p, v.ID, nil); err != nil {
			t.Fatal(err)
		}
		w.Pass(2 * time.Minute)
		for range 3 {
			w.Settle()
			if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
				t.Fatal(err)
			}
		}
		got, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || got.Wallet.Posted != 2*money.One {
			left, _ := w.Core.Sessions.Get(w.Ctx, p, v.ID)
			t.Errorf("the wallet has %+v %v; the session %+v", got.Wallet, err, left)
		}
		w.Balanced()
	})
}

// The relayer runs out of ether; the nonce that it took meanwhile must not block what comes after.
func TestRelayerWithoutEther(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 2*money.One)
	poor, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	deps := w.Deps
	deps.RelayerKey = poor
	c, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Operations.AdvanceDue(w.Ctx)
	ctx, cancel := context.WithTimeout(w.Ctx, 300*time.Millisecond)
	_, _ = c.Sessions.Open(ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	cancel()
	w.Pass(11 * time.Minute)
	if err := c.Funding.ReadChain(w.Ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Funding.ExpireOperations(w.Ctx); err != nil {
		t.Fatal(err)
	}
	w.Net.Ether(crypto.PubkeyToAddress(poor.PublicKey), big.NewInt(1e18))
	w.Net.Node.Commit()
	for err := c.Operations.Rebroadcast(w.Ctx); err != nil; err = c.Operations.Rebroadcast(w.Ctx) { // as the job does
		t.Log(err)
		time.Sleep(10 * time.Millisecond)
	}
	v, err := c.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil || v.Status != "open" {
		t.Errorf("%+v %v", v, err)
	}
	w.Balanced()
}

func TestHostHasOneSpelling(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	blocked := []string{"localhost", "exa"}
	if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{BlockedServices: &blocked}); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{
		"http://localhost/", "http://LOCALHOST:80/", "http://localhost./", "http://ｌocalhost/", "https://API.exa.ai:443/", "https://api.exa.ai./", "https://api.ｅxa.ai/",
	} {
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url}); code(err) != core.Forbidden {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestPolicyTightenedDuringTheCallCounts(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	slow := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{DailyLimit: core.Set(money.USDC(0))}); err != nil {
			t.Error(err)
		}
		s.ServeHTTP(rw, r)
	}))
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: slow + "/v2/serve"}); code(err) != core.SpendingLimit {
		t.Errorf("paid under a daily limit of 0: %v", err)
	}
}
