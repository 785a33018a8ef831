package core_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/money"
)

// business registers one of the seller's at a cent a call, and returns it with its seller.
func (m *metering) business(name string) (core.Principal, *core.Registered, common.Address) {
	m.T.Helper()
	key, err := crypto.GenerateKey()
	must(m.World, err)
	wallet := crypto.PubkeyToAddress(key.PublicKey)
	seller, _ := m.User(name + "@example.com")
	made, err := m.Core.Gateway.Register(m.Ctx, seller, core.RegisterInput{Name: name, Wallet: wallet.Hex(), WebhookURL: m.api.URL + "/v1", PricePerRequest: cent})
	must(m.World, err)
	return seller, made, wallet
}

// figures are those of the seller's only business.
func (m *metering) figures(seller core.Principal) *core.BusinessFigures {
	m.T.Helper()
	own, err := m.Core.Gateway.Stats(m.Ctx, seller)
	must(m.World, err)
	if len(own) != 1 {
		m.T.Fatalf("%d businesses", len(own))
	}
	return own[0]
}

// arrived settles until nothing is on its way to a seller's only business. What was sent may take a moment to be mined.
func (m *metering) arrived(seller core.Principal) {
	m.T.Helper()
	for give := time.Now().Add(time.Minute); ; {
		m.Settle()
		f := m.figures(seller)
		if f.Sending == 0 {
			return
		}
		if time.Now().After(give) {
			m.T.Fatalf("still on its way: %+v", f)
		}
	}
}

// TestGatewayIsPaid: a wallet pays the business directly, sessions into its account, from which it is sent once.
func TestGatewayIsPaid(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w)
		seller, made, wallet := m.business("weather")
		r, err := m.call(false, made.Slug, "find")
		if err != nil || r.TxHash == nil || r.Service != "gateway/weather" || r.Payment.ToAddress != wallet.Hex() {
			t.Fatalf("%+v %v", r, err)
		}
		for _, path := range []string{"find", "fail", "find", "find"} {
			if _, err := m.call(true, made.Slug, path); err != nil {
				t.Fatal(err)
			}
		}
		w.Settle()
		w.Balanced()
		if f := m.figures(seller); f.Calls != 4 || f.Revenue != 4*cent || f.Owed != 3*cent || f.Sent != 0 {
			t.Errorf("%+v", f)
		}
		// Many processes pay at once, again and again.
		for range 2 {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					other, err := core.New(w.Ctx, w.Deps)
					if err == nil {
						err = other.Gateway.PayOut(w.Ctx)
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			w.Balanced()
		}
		if f := m.figures(seller); f.Owed != 0 || f.Sending != 3*cent {
			t.Errorf("%+v", f)
		}
		if _, err := m.call(true, made.Slug, "find"); err != nil { // gathers
			t.Error(err)
		}
		must(w, w.Core.Gateway.PayOut(w.Ctx))
		if f := m.figures(seller); f.Owed != cent || f.Sending != 3*cent {
			t.Errorf("%+v", f)
		}
		m.arrived(seller)
		w.Jobs()
		m.arrived(seller)
		if f := m.figures(seller); f.Calls != 5 || f.Revenue != 5*cent || f.Owed != 0 || f.Sending != 0 || f.Sent != 4*cent {
			t.Errorf("%+v", f)
		}
		if got := w.Net.Balance(wallet); got != 5*cent {
			t.Errorf("the business has %s", got)
		}
		w.Balanced()
		c, err := w.Core.Sessions.Close(w.Ctx, m.p, m.session.ID, nil)
		if err != nil || c.Status != session.StatusClosed || c.Refunded != money.One-4*cent {
			t.Errorf("%+v %v", c, err)
		}
		w.Settle()
		w.Balanced()
	})
}

// TestPayoutExpires: one that no block has taken in its time ends, and what it carried is sent anew, once.
func TestPayoutExpires(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w)
		seller, made, wallet := m.business("weather")
		_, err := m.call(true, made.Slug, "find")
		must(w, err)
		r, err := m.call(false, made.Slug, "find")
		must(w, err)
		must(w, w.Core.Gateway.PayOut(w.Ctx))
		exec(t, raw(t, w), "UPDATE operations SET status = 'authorized', valid_before_unix = 1, auth_nonce = 'n' || id, signature = 'x', chain_tx_id = NULL WHERE kind IN ('payout')")
		w.Net.Node.Commit()
		must(w, w.Core.Funding.ReadChain(w.Ctx))
		must(w, w.Core.Funding.ExpireOperations(w.Ctx))
		if f := m.figures(seller); f.Owed != cent || f.Sending != 0 {
			t.Errorf("%+v", f)
		}
		must(w, w.Core.Gateway.PayOut(w.Ctx))
		w.Settle()
		if got := w.Net.Balance(wallet); got != 2*cent {
			t.Errorf("the business has %s (%s)", got, *r.TxHash)
		}
		w.Balanced()
	})
}

// TestGatewayToOurs: the business's wallet may be an agent's of this server.
func TestGatewayToOurs(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w)
	seller, _ := w.User("seller@example.com")
	earner := w.Agent(seller, "earner", money.One)
	made, err := w.Core.Gateway.Register(w.Ctx, seller, core.RegisterInput{Name: "Weather", Wallet: earner.Address, WebhookURL: m.api.URL + "/v1", PricePerRequest: cent})
	must(w, err)
	for _, inSession := range []bool{true, false} {
		_, err = m.call(inSession, made.Slug, "find")
		must(w, err)
	}
	must(w, w.Core.Gateway.PayOut(w.Ctx))
	w.Settle()
	if v, err := w.Core.Agents.Get(w.Ctx, seller, earner.ID); err != nil || v.Wallet.Posted != money.One+2*cent {
		t.Errorf("%+v %v", v.Wallet, err)
	}
	w.Balanced()
}

// TestGatewayRegister: who may, and what is no business.
func TestGatewayRegister(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("seller@example.com")
	good := core.RegisterInput{Name: "Weather & Co", Wallet: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", WebhookURL: "https://weather.example.com/hook", PricePerRequest: cent}
	made, err := w.Core.Gateway.Register(w.Ctx, p, good)
	if err != nil || made.Slug != "weather-co" || !strings.HasPrefix(made.Key, "ig_gw_") || made.Host != "weather.example.com" {
		t.Fatalf("%+v %v", made, err)
	}
	if _, err := w.Core.Gateway.Register(w.Ctx, p, good); code(err) != core.Conflict {
		t.Error(err)
	}
	for name, change := range map[string]func(*core.RegisterInput){
		"no name":          func(in *core.RegisterInput) { in.Name = " " },
		"no letter":        func(in *core.RegisterInput) { in.Name = "天気" },
		"no wallet":        func(in *core.RegisterInput) { in.Wallet = "" },
		"zero wallet":      func(in *core.RegisterInput) { in.Wallet = common.Address{}.Hex() },
		"the platform's":   func(in *core.RegisterInput) { in.Wallet = w.Platform.Hex() },
		"the token":        func(in *core.RegisterInput) { in.Wallet = w.Net.Network().USDC.Hex() },
		"no URL":           func(in *core.RegisterInput) { in.WebhookURL = "" },
		"no http":          func(in *core.RegisterInput) { in.WebhookURL = "ftp://example.com" },
		"credentials":      func(in *core.RegisterInput) { in.WebhookURL = "https://a:b@example.com" },
		"a query":          func(in *core.RegisterInput) { in.WebhookURL = "https://example.com/?x=1" },
		"bad webhook":      func(in *core.RegisterInput) { in.UpstreamURL, in.WebhookURL = in.WebhookURL, "nonsense" },
		"free":             func(in *core.RegisterInput) { in.PricePerRequest = 0 },
		"a control letter": func(in *core.RegisterInput) { in.Description = "a\x00b" },
	} {
		in := good
		in.Name = "another"
		change(&in)
		if r, err := w.Core.Gateway.Register(w.Ctx, p, in); code(err) != core.InvalidRequest {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
	for _, change := range []func(*core.Principal){
		func(p *core.Principal) { p.Credential = core.ByAPIKey }, func(p *core.Principal) { p.Role = core.Member }, func(p *core.Principal) { p.Role = core.Viewer },
	} {
		other := p
		change(&other)
		if _, err := w.Core.Gateway.Register(w.Ctx, other, good); code(err) != core.Forbidden {
			t.Error(err)
		}
	}
	// A stranger can neither see the figures nor change or remove it.
	stranger, _ := w.User("stranger@example.com")
	if own, err := w.Core.Gateway.Stats(w.Ctx, stranger); err != nil || len(own) != 0 {
		t.Errorf("%+v %v", own, err)
	}
	name := "mine"
	if _, err := w.Core.Services.Update(w.Ctx, stranger, made.ID, core.ServiceUpdate{Name: &name}); code(err) != core.NotFound {
		t.Error(err)
	}
	if _, err := w.Core.Services.Remove(w.Ctx, stranger, made.ID); code(err) != core.NotFound {
		t.Error(err)
	}
}

// TestStrangersNameNobody: leave to pay a host or a name of the operator's is no leave to pay whoever says to sell it.
func TestStrangersNameNobody(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w)
	_, made, _ := m.business("weather")
	for rule, ok := range map[string]bool{"gateway/weather": true, "weather": false, "127.0.0.1": false, "GATEWAY/Weather ": true} {
		list := []string{rule}
		_, err := w.Core.Policies.Update(w.Ctx, m.p, m.agent.ID, core.PolicyInput{AllowedServices: &list})
		must(w, err)
		if _, err := m.call(true, made.Slug, "find"); (err == nil) != ok {
			t.Errorf("allowed %q: %v", rule, err)
		}
	}
	none := []string{}
	for _, rule := range []string{"gateway/weather", "weather", "127.0.0.1"} {
		list := []string{rule}
		_, err := w.Core.Policies.Update(w.Ctx, m.p, m.agent.ID, core.PolicyInput{AllowedServices: &none, BlockedServices: &list})
		must(w, err)
		if _, err := m.call(true, made.Slug, "find"); code(err) != core.Forbidden {
			t.Errorf("blocked %q: %v", rule, err)
		}
	}
	_, err := w.Core.Policies.Update(w.Ctx, m.p, m.agent.ID, core.PolicyInput{BlockedServices: &none})
	must(w, err)
	calls := m.api.calls.Load()
	r, err := m.Core.Payments.Fetch(m.Ctx, m.p, core.FetchInput{URL: m.api.URL + "/v1/find", Method: http.MethodGet})
	if err != nil || r.Paid || m.api.calls.Load() != calls+1 {
		t.Errorf("a business bills the host that it names: %+v %v", r, err)
	}
}

// TestGatewayVerify: what counts, and that it counts once.
func TestGatewayVerify(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w)
		seller, made, wallet := m.business("weather")
		ask := func(in core.VerifyInput) (*core.Verified, error) {
			if in.Key == "" {
				in.Key = made.Key
			}
			if in.Amount == 0 {
				in.Amount = cent
			}
			return w.Core.Gateway.Verify(w.Ctx, in)
		}
		paid := w.Net.Fund(wallet, cent).Hex()
		for want, in := range map[string]core.VerifyInput{
			core.NotFoundOnChain: {TxHash: common.Hash{7}.Hex()}, core.AmountTooSmall: {TxHash: paid, Amount: cent + 1},
			core.WrongRecipient: {TxHash: paid, Recipient: w.Platform.Hex()},
		} {
			if v, err := ask(in); err != nil || v.Reason != want {
				t.Errorf("%s: %+v %v", want, v, err)
			}
		}
		if v, err := ask(core.VerifyInput{TxHash: w.Net.Fund(w.Platform, cent).Hex()}); err != nil || v.Reason != core.WrongRecipient {
			t.Errorf("%+v %v", v, err)
		}
		counted, again := 0, 0
		var all sync.WaitGroup
		var mu sync.Mutex
		for range 8 {
			all.Go(func() {
				v, err := ask(core.VerifyInput{TxHash: strings.ToUpper(paid[2:]), Recipient: strings.ToLower(wallet.Hex())})
				if err == nil {
					t.Errorf("a hash without 0x: %+v", v)
				}
				v, err = ask(core.VerifyInput{TxHash: paid, Recipient: strings.ToLower(wallet.Hex())})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				switch v.Reason {
				case "":
					counted++
				case core.AlreadyUsed:
					again++
				default:
					t.Errorf("%+v", v)
				}
			})
		}
		all.Wait()
		if counted != 1 || again != 7 {
			t.Errorf("counts %d times, %d times used", counted, again)
		}
		// A transfer that paid for a call which this server carried is no payment for another.
		r, err := m.call(false, made.Slug, "find")
		must(w, err)
		w.Settle()
		if v, err := ask(core.VerifyInput{TxHash: *r.TxHash}); err != nil || v.Reason != core.PaidForOtherCall {
			t.Errorf("%+v %v", v, err)
		}
		exec(t, raw(t, w), "UPDATE operations SET tx_hash = '"+common.Hash{8}.Hex()+"' WHERE kind = 'charge'")
		if v, err := ask(core.VerifyInput{TxHash: *r.TxHash}); err != nil || v.Reason != core.PaidForOtherCall {
			t.Errorf("by its carrier: %+v %v", v, err)
		}
		// Another business of the organisation at the same address: what was counted for one is not for the other.
		second, err := w.Core.Gateway.Register(w.Ctx, seller, core.RegisterInput{Name: "News", Wallet: wallet.Hex(), WebhookURL: m.api.URL, PricePerRequest: cent})
		must(w, err)
		if v, err := ask(core.VerifyInput{Key: second.Key, TxHash: paid}); err != nil || v.Reason != core.AlreadyUsed {
			t.Errorf("%+v %v", v, err)
		}
		twice, hash := []string{"", ""}, w.Net.Fund(wallet, cent).Hex()
		for i, key := range []string{made.Key, second.Key} {
			all.Go(func() {
				v, err := ask(core.VerifyInput{Key: key, TxHash: hash})
				must(w, err)
				twice[i] = v.Reason
			})
		}
		all.Wait()
		if slices.Sort(twice); twice[0] != "" || twice[1] != core.AlreadyUsed {
			t.Errorf("two businesses, one payment: %q", twice)
		}
		// A stranger who says to be paid there counts for himself alone.
		thief, _ := w.User("thief@example.com")
		third, err := w.Core.Gateway.Register(w.Ctx, thief, core.RegisterInput{Name: "Mine", Wallet: wallet.Hex(), WebhookURL: m.api.URL, PricePerRequest: cent})
		must(w, err)
		hash = w.Net.Fund(wallet, cent).Hex()
		for _, key := range []string{third.Key, made.Key} {
			if v, err := ask(core.VerifyInput{Key: key, TxHash: hash}); err != nil || v.Reason != "" {
				t.Errorf("%+v %v", v, err)
			}
		}
		for _, key := range []string{"ig_gw_0", "x", made.Key + "0", strings.ToUpper(made.Key)} {
			if _, err := ask(core.VerifyInput{Key: key, TxHash: paid}); code(err) != core.Unauthorized {
				t.Errorf("%q: %v", key, err)
			}
		}
		for _, in := range []core.VerifyInput{{TxHash: "0x1"}, {TxHash: paid, Amount: -1}, {TxHash: paid, Recipient: "x"}} {
			if _, err := ask(in); code(err) != core.InvalidRequest {
				t.Errorf("%+v: %v", in, err)
			}
		}
		own, err := w.Core.Gateway.Stats(w.Ctx, seller)
		if err != nil || len(own) != 2 || own[0].Verified+own[1].Verified != 3 {
			t.Errorf("%+v %v", own, err)
		}
		// Without its key nobody asks any more.
		if _, err := w.Core.Services.Remove(w.Ctx, seller, made.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(core.VerifyInput{TxHash: paid}); code(err) != core.Unauthorized {
			t.Error(err)
		}
		if _, err := m.call(true, made.Slug, "find"); code(err) != core.NotFound {
			t.Error(err)
		}
		on := true
		if _, err := w.Core.Services.Update(w.Ctx, seller, made.ID, core.ServiceUpdate{Active: &on}); code(err) != core.NotFound {
			t.Error(err)
		}
		w.Balanced()
	})
}

// TestGatewayVerifyWaits: a payment counts at the depth that every other counts at.
func TestGatewayVerifyWaits(t *testing.T) {
	w := coretest.New(t, coretest.Confirmations(3))
	p, _ := w.User("seller@example.com")
	made, err := w.Core.Gateway.Register(w.Ctx, p, core.RegisterInput{
		Name: "Weather", Wallet: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", WebhookURL: "https://example.com/", PricePerRequest: cent,
	})
	must(w, err)
	in := core.VerifyInput{Key: made.Key, TxHash: w.Net.Fund(common.HexToAddress(*made.WalletAddress), cent).Hex(), Amount: cent}
	if v, err := w.Core.Gateway.Verify(w.Ctx, in); err != nil || v.Reason != core.NotConfirmed {
		t.Errorf("%+v %v", v, err)
	}
	w.Mine(3)
	if v, err := w.Core.Gateway.Verify(w.Ctx, in); err != nil || v.Reason != "" || v.Amount != cent || v.Block == 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// TestBusinessIsNoHost: whoever says to sell a host is not taken for it: a person who is asked reads the business's name, its
// payee is none of the host's, and its callers do not learn where it is.
func TestBusinessIsNoHost(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w)
		s := newShop(w, cent)
		s.base = w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/hooks/") {
				s.one.ServeHTTP(rw, r)
			}
		}))
		key, err := crypto.GenerateKey()
		must(w, err)
		thief, _ := w.User("thief@example.com")
		made, err := w.Core.Gateway.Register(w.Ctx, thief, core.RegisterInput{
			Name: "Honest", Wallet: crypto.PubkeyToAddress(key.PublicKey).Hex(), WebhookURL: s.base + "/hooks/secret-1", PricePerRequest: cent,
		})
		must(w, err)
		setPolicy(w, m.p, m.agent.ID, core.PolicyInput{NewPayee: reaction(core.ApproveIt), ChangedPayee: reaction(core.RefuseIt), PriceJump: reaction(core.RefuseIt)})
		in := core.FetchInput{Agent: "bot", SessionID: m.session.ID.String(), Service: made.Slug, URL: "serve%20it?key=x"}
		id := asks(w, m.p, in)
		if a := approvalOf(w, m.p, id); a.Host != "gateway/honest" || a.Endpoint != "gateway/honest/serve%20it" || strings.Contains(a.Reason, "127.0.0.1") {
			t.Errorf("%+v", a)
		}
		approve(w, m.p, id)
		if r := fetch(w, m.p, in); r.Payment.Endpoint != "gateway/honest/serve%20it" {
			t.Errorf("%+v", r.Payment)
		}
		fetch(w, m.p, in) // it is known now
		// The host itself is as new as before, and whom it pays has not changed.
		host := asks(w, m.p, s.call(2*cent, false))
		if a := approvalOf(w, m.p, host); a.Rule != "new_payee" || a.Payee != s.one.PayTo.Hex() {
			t.Errorf("%+v", a)
		}
		if r, err := w.Core.Policies.Replay(w.Ctx, m.p, core.ReplayInput{AgentID: m.agent.ID, Days: 1}); err != nil || len(r.Differences) != 0 || r.Calls != 3 {
			t.Errorf("%+v %v", r, err)
		}
		db := raw(t, w)
		for _, n := range []int{
			count(t, db, "approvals WHERE endpoint LIKE '%secret-1%'"), count(t, db, "transactions WHERE endpoint LIKE '%secret-1%'"),
			count(t, db, "traces WHERE endpoint LIKE '%secret-1%'"),
		} {
			if n != 0 {
				t.Errorf("%d rows tell where the business is", n)
			}
		}
		long := in
		long.URL = strings.Repeat("x", 2048-len(s.base+"/hooks/secret-1/"))
		if _, err := w.Core.Payments.Fetch(w.Ctx, m.p, long); code(err) == core.ServerError {
			t.Error(err)
		}
		w.Balanced()
	})
}
