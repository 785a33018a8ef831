package core_test

import (
	"math/big"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

func reviewCarry(t *testing.T, w *coretest.World, data []byte) {
	t.Helper()
	key, _ := crypto.GenerateKey()
	from := crypto.PubkeyToAddress(key.PublicKey)
	w.Net.Ether(from, big.NewInt(1e18))
	fees, err := w.Net.Client.Fees(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	raw, hash, err := evm.SignTx(key, w.Net.Client.Network().ChainID, 0, fees, evm.Call{To: w.Net.Client.Network().USDC, Data: data, Gas: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Net.Client.Send(w.Ctx, raw); err != nil {
		t.Fatal(err)
	}
	if r := w.Net.Mined(hash); !r.OK {
		t.Fatal("reverted")
	}
}

func reviewPaySeller(w *coretest.World, to common.Address) *paytest.Service {
	return paytest.New(w.T, paytest.Options{Network: w.Net.Client.Network(), PayTo: to, Clock: w.Clock.Now, Price: cent,
		Settle: func(r *http.Request, p pay.Proof) (common.Hash, error) {
			reviewCarry(w.T.(*testing.T), w, evm.TransferWithAuthorizationData(p.Authorization, p.Signature))
			return common.Hash{1}, nil
		}})
}

// F1: an owner with an exported key reuses a payment's nonce for another amount: the watcher stops for everybody.
func TestReviewPoison(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
		t.Fatal(err)
	}
	seen := s.Seen()
	auth := seen[len(seen)-1].Proof.Authorization
	_, hexKey, err := w.Core.Agents.ExportKey(w.Ctx, p, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := crypto.HexToECDSA(hexKey[2:])
	auth.Value++
	sig, _ := evm.Sign(key, auth.Digest(w.Net.Client.Network().Domain()))
	reviewCarry(t, w, evm.TransferWithAuthorizationData(auth, sig))
	for range 2 {
		if err := w.Core.Funding.ReadChain(w.Ctx); err != nil {
			t.Errorf("the watcher stands still: %v", err)
		}
	}
}

// F1b: the same after the hold was voided, with the very same amount.
func TestReviewPoisonAfterVoid(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
		t.Fatal(err)
	}
	seen := s.Seen()
	auth := seen[len(seen)-1].Proof.Authorization
	w.Pass(2 * time.Minute)
	w.Settle()
	if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
		t.Fatal(err)
	}
	_, hexKey, err := w.Core.Agents.ExportKey(w.Ctx, p, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := crypto.HexToECDSA(hexKey[2:])
	auth.ValidBefore += 100000
	sig, _ := evm.Sign(key, auth.Digest(w.Net.Client.Network().Domain()))
	reviewCarry(t, w, evm.TransferWithAuthorizationData(auth, sig))
	if err := w.Core.Funding.ReadChain(w.Ctx); err != nil {
		t.Errorf("the watcher stands still: %v", err)
	}
}

// F2: payTo is another wallet of this server.
func TestReviewPayOurOwnAgent(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "buyer", 2*money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	q, _ := w.User("seller@example.com")
	b := w.Agent(q, "seller", 0)
	s := reviewPaySeller(w, common.HexToAddress(b.Address))
	for _, id := range []string{"", v.ID.String()} {
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: id, Agent: "buyer", URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	w.Settle()
	got, _ := w.Core.Agents.Get(w.Ctx, q, b.ID)
	t.Logf("books %s, chain %s", got.Wallet.Posted, w.Net.Balance(common.HexToAddress(b.Address)))
	w.Balanced()
}

// F2b: the owner's payout address is another agent of this server.
func TestReviewDrainToOwnAgent(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "one", money.One)
	b := w.Agent(p, "two", 0)
	if _, err := w.Core.Auth.SetWallet(w.Ctx, p, b.Address); err != nil {
		t.Skip(err)
	}
	if _, err := w.Core.Funding.Drain(w.Ctx, p, a.ID, ""); err != nil {
		t.Fatal(err)
	}
	w.Settle()
	w.Balanced()
}

// F2c: the owner's payout address is the agent itself.
func TestReviewDrainToItself(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "one", money.One)
	if _, err := w.Core.Auth.SetWallet(w.Ctx, p, a.Address); err != nil {
		t.Skip(err)
	}
	go func() {}()
	if _, err := w.Core.Funding.Drain(w.Ctx, p, a.ID, ""); err != nil {
		t.Log(err)
	}
	w.Pass(11 * time.Minute)
	w.Settle()
	if err := w.Core.Funding.ExpireOperations(w.Ctx); err != nil {
		t.Error(err)
	}
	v, _ := w.Core.Agents.Get(w.Ctx, p, a.ID)
	if v.Wallet.Available != money.One {
		t.Errorf("frozen: %+v", v.Wallet)
	}
}

// F3: two charges that were never collected, after the session was closed.
func TestReviewTwoUnusedAfterClose(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 2*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		for range 2 {
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := w.Core.Sessions.Close(w.Ctx, p, v.ID); err != nil || c.Status != session.StatusClosed {
			t.Fatalf("%+v %v", c, err)
		}
		w.Pass(2 * time.Minute)
		w.Settle()
		for range 4 {
			if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
				t.Fatal(err)
			}
			w.Settle()
		}
		got, _ := w.Core.Agents.Get(w.Ctx, p, a.ID)
		sv, _ := w.Core.Sessions.Get(w.Ctx, p, v.ID)
		if got.Wallet.Posted != 2*money.One {
			t.Errorf("wallet has %s of %s; the closed session keeps %s (%s)", got.Wallet.Posted, 2*money.One, sv.Remaining, sv.Status)
		}
	})
}

// F4: a charge comes back while the refund is under way.
func TestReviewUnusedWhileRefundTravels(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 2*money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	s := w.Seller(cent)
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
		t.Fatal(err)
	}
	w.Pass(2 * time.Minute)
	if err := w.Core.Funding.ReadChain(w.Ctx); err != nil {
		t.Fatal(err)
	}
	// Close commits its hold; the caller leaves at once, so nothing is sent yet.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	deps := w.Deps
	poor, _ := crypto.GenerateKey()
	deps.RelayerKey = poor // cannot send
	slow, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	_ = slow
	wg.Go(func() { <-stop })
	ctx, cancel := ctxTimeout(w, 300*time.Millisecond)
	_, _ = slow.Sessions.Close(ctx, p, v.ID)
	cancel()
	close(stop)
	if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
		t.Fatal(err)
	}
	mid, _ := w.Core.Sessions.Get(w.Ctx, p, v.ID)
	t.Logf("while the refund travels: %s, remaining %s", mid.Status, mid.Remaining)
	w.Net.Ether(crypto.PubkeyToAddress(poor.PublicKey), big.NewInt(1e18))
	for range 4 {
		_ = slow.Operations.AdvanceDue(w.Ctx)
		w.Settle()
		_ = w.Core.Payments.ResolveHolds(w.Ctx)
	}
	got, _ := w.Core.Agents.Get(w.Ctx, p, a.ID)
	sv, _ := w.Core.Sessions.Get(w.Ctx, p, v.ID)
	if got.Wallet.Posted != 2*money.One {
		t.Errorf("wallet has %s of %s; the session is %s and keeps %s", got.Wallet.Posted, 2*money.One, sv.Status, sv.Remaining)
	}
}

// F5: the relayer had no ether for ten minutes; the nonce that it took is never used.
func TestReviewNonceGap(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 2*money.One)
	deps := w.Deps
	poor, _ := crypto.GenerateKey()
	deps.RelayerKey = poor
	c, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := ctxTimeout(w, 300*time.Millisecond)
	_, err = c.Sessions.Open(ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	cancel()
	t.Logf("poor: %v", err)
	w.Pass(11 * time.Minute)
	if err := c.Funding.ReadChain(w.Ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Funding.ExpireOperations(w.Ctx); err != nil {
		t.Fatal(err)
	}
	w.Net.Ether(crypto.PubkeyToAddress(poor.PublicKey), big.NewInt(1e18))
	ctx, cancel = ctxTimeout(w, 5*time.Second)
	v, err := c.Sessions.Open(ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	cancel()
	if err != nil {
		list, _ := c.Sessions.List(w.Ctx, p, nil)
		for _, l := range list {
			t.Logf("session %s", l.Status)
		}
		t.Fatalf("after the relayer got ether: %v", err)
	}
	if v.Status != session.StatusOpen {
		t.Errorf("after the relayer got ether the new session is %s", v.Status)
	}
}

// F6: our own credentials reach the seller.
func TestReviewCredentialLeak(t *testing.T) {
	w := coretest.New(t)
	p, l := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	k, err := w.Core.APIKeys.Create(w.Ctx, p, "k")
	if err != nil {
		t.Fatal(err)
	}
	s := w.Seller(cent)
	for name, h := range map[string]http.Header{
		"login JWT":       {"Authorization": {"Bearer " + l.Token}},
		"bearer key":      {"Authorization": {"bearer " + k.Secret}},
		"second value":    {"Authorization": {"Basic eDp5", "Bearer " + k.Secret}},
		"own header":      {"Cookie": {"token=" + k.Secret}},
		"Token scheme":    {"X-Auth": {"Token " + k.Secret}},
		"lower-case host": {"host": {"evil"}, "transfer-encoding": {"chunked"}},
	} {
		before := len(s.Seen())
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.Serve, 0), Header: h}); err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		got := s.Seen()[before].Header
		for n := range h {
			if v := got.Values(n); len(v) > 0 {
				t.Errorf("%s reaches the seller: %s: %.30q", name, n, v)
			}
		}
	}
}

// F7: a blocked host by other spellings.
func TestReviewBlockedSpelling(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	blocked := []string{"localhost"}
	if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{BlockedServices: &blocked}); err != nil {
		t.Fatal(err)
	}
	s := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {}))
	port := s[len("http://127.0.0.1"):]
	for _, host := range []string{"localhost", "localhost.", "ｌocalhost", "LOCALHOST"} {
		_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: "http://" + host + port})
		if code(err) != core.Forbidden {
			t.Errorf("%s: %v", host, err)
		}
	}
}
