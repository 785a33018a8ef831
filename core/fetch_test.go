package core_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

const cent = money.One / 100

// code returns the core code of an error, or "".
func code(err error) core.Code {
	if err == nil {
		return ""
	}
	return core.AsError(err).Code
}

func eachDatabase(t *testing.T, f func(t *testing.T, w *coretest.World)) {
	t.Run("sqlite", func(t *testing.T) { f(t, coretest.New(t)) })
	if testing.Short() {
		return // SQLite alone, as Postgres() tells
	}
	t.Run("postgres", func(t *testing.T) { f(t, coretest.New(t, coretest.OnPostgres(coretest.Postgres(t)))) })
}

func TestDirectPayment(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "Research Bot", 5*money.One)
		s := w.Seller(cent)
		for _, version := range []int{1, 2} {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "research-bot", URL: s.Link(version, paytest.Serve, 0)})
			if err != nil || r.Status != 200 || !r.Paid || r.Cost != cent || r.Method != "x402" {
				t.Fatalf("%+v %v", r, err)
			}
			if r.Payment.Status != transaction.StatusPending {
				t.Errorf("before the chain was read the payment is %s", r.Payment.Status)
			}
		}
		w.Settle()
		if got := w.Net.Balance(s.PayTo); got != 2*cent {
			t.Errorf("the seller has %s", got)
		}
		v, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || v.Wallet.Posted != 5*money.One-2*cent || v.Wallet.Pending != 0 {
			t.Errorf("wallet %+v %v", v.Wallet, err)
		}
		page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true})
		if err != nil || page.Total != 2 || page.Spent != 2*cent || page.Succeeded != 2 || page.Items[0].TxHash == nil {
			t.Errorf("history %+v %v", page, err)
		}
		w.Balanced()
	})
}

func TestSessionLife(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 6*money.One)
		s := w.Seller(cent)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: 5 * money.One})
		if err != nil || v.Status != session.StatusOpen || v.Remaining != 5*money.One || v.DepositTxHash == nil {
			t.Fatalf("%+v %v", v, err)
		}
		if got := w.Net.Balance(w.Platform); got != 5*money.One {
			t.Fatalf("platform has %s", got)
		}
		for i := range 50 {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: a.ID.String(), SessionID: v.ID.String(), URL: s.Link(1+i%2, paytest.Serve, 0)})
			if err != nil || r.Method != core.PaidBySession || r.Payment.Status != transaction.StatusSuccess {
				t.Fatalf("call %d: %+v %v", i, r, err)
			}
			if want := 5*money.One - money.USDC(i+1)*cent; *r.SessionRemaining != want {
				t.Fatalf("call %d leaves %s", i, *r.SessionRemaining)
			}
		}
		for range 2 { // a second close is the same answer
			c, err := w.Core.Sessions.Close(w.Ctx, p, v.ID, nil)
			if err != nil || c.Status != session.StatusClosed || c.Refunded != 4_500_000 || c.Used != 500_000 || c.Remaining != 0 || c.CallCount != 50 || c.RefundTxHash == nil {
				t.Fatalf("%+v %v", c, err)
			}
		}
		w.Settle()
		after, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || after.Wallet.Posted != 5_500_000 {
			t.Errorf("wallet %+v %v", after.Wallet, err)
		}
		if got := w.Net.Balance(w.Platform); got != 0 {
			t.Errorf("platform keeps %s", got)
		}
		_, err = w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: a.ID.String(), SessionID: v.ID.String(), URL: s.Link(1, paytest.Serve, 0)})
		if e := core.AsError(err); err == nil || !e.Closed {
			t.Errorf("a closed session pays: %v", err)
		}
		w.Balanced()
	})
}

func TestZeroUseSessionCloses(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.Core.Sessions.Close(w.Ctx, p, v.ID, nil)
	if err != nil || c.Status != session.StatusClosed || c.Refunded != money.One {
		t.Fatalf("%+v %v", c, err)
	}
	w.Balanced()
}

func TestRefusalsReserveNothing(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	link := s.Link(2, paytest.Serve, 0)
	low := cent - 1
	policy := func(in core.PolicyInput) func() {
		return func() {
			if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, in); err != nil {
				t.Fatal(err)
			}
		}
	}
	blocked, allowed, none, yes, no := []string{"127.0.0.1"}, []string{"exa"}, []string{}, true, false
	for _, c := range []struct {
		name   string
		before func()
		in     core.FetchInput
		want   core.Code
	}{
		{"above max_cost", nil, core.FetchInput{URL: link, MaxCost: &low}, core.CostExceedsMax},
		{"above per_call_max", policy(core.PolicyInput{PerCallMax: core.Set(low)}), core.FetchInput{URL: link}, core.SpendingLimit},
		{"above the daily limit", policy(core.PolicyInput{PerCallMax: core.Optional[money.USDC]{Set: true}, DailyLimit: core.Set(low)}), core.FetchInput{URL: link}, core.SpendingLimit},
		{"above the balance", policy(core.PolicyInput{DailyLimit: core.Optional[money.USDC]{Set: true}}), core.FetchInput{URL: s.Link(2, paytest.Serve, 2*money.One)}, core.InsufficientBalance},
		{"blocked", policy(core.PolicyInput{BlockedServices: &blocked}), core.FetchInput{URL: link}, core.Forbidden},
		{"not allowed", policy(core.PolicyInput{BlockedServices: &none, AllowedServices: &allowed}), core.FetchInput{URL: link}, core.Forbidden},
		{"session required", policy(core.PolicyInput{AllowedServices: &none, RequireSession: &yes}), core.FetchInput{URL: link}, core.Forbidden},
		{"unknown agent", policy(core.PolicyInput{RequireSession: &no}), core.FetchInput{URL: link, Agent: "nobody"}, core.NotFound},
		{"unknown session", nil, core.FetchInput{URL: link, SessionID: "01890000-0000-7000-8000-000000000000"}, core.NotFound},
		{"no URL", nil, core.FetchInput{}, core.InvalidRequest},
		{"not http", nil, core.FetchInput{URL: "ftp://example.com/"}, core.InvalidRequest},
		{"private address", nil, core.FetchInput{URL: "http://10.0.0.1/"}, core.InvalidRequest},
		{"metadata address", nil, core.FetchInput{URL: "http://169.254.169.254/latest"}, core.InvalidRequest},
		{"credentials in the URL", nil, core.FetchInput{URL: "http://a:b@127.0.0.1/"}, core.InvalidRequest},
	} {
		if c.before != nil {
			c.before()
		}
		_, err := w.Core.Payments.Fetch(w.Ctx, p, c.in)
		if code(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if seen := s.Seen(); len(seen) != 0 {
		t.Errorf("the seller saw %d proofs", len(seen))
	}
	v, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
	if err != nil || v.Wallet.Available != money.One {
		t.Errorf("%+v %v", v.Wallet, err)
	}
	w.Balanced()
}

// A seller that does not answer well after it was paid: unknown, at most one signature, and in the end charged
// exactly what the chain shows.
func TestUnknownOutcomes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One, Duration: 2 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		before := len(s.Seen())
		calls := 0
		for _, b := range []paytest.Behaviour{paytest.AskAgain, paytest.FailAfter, paytest.Reset, paytest.Raise, paytest.NotFound, paytest.Redirect} {
			for _, id := range []string{"", v.ID.String()} {
				calls++
				r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: id, URL: s.Link(2, b, 0)})
				if b == paytest.Reset {
					if code(err) != core.ServiceFailed || core.AsError(err).Payment == "" {
						t.Errorf("%s: %v", b, err)
					}
					continue
				}
				if err != nil || r.Payment.Status != transaction.StatusUnknown {
					t.Errorf("%s in %q: %+v %v", b, id, r, err)
				}
			}
		}
		if got := len(s.Seen()) - before; got != calls {
			t.Errorf("%d calls, %d proofs", calls, got)
		}
		// A receipt that lies: the wallet's payment waits for the chain, the session's is charged until it speaks.
		for id, want := range map[string]transaction.Status{"": transaction.StatusPending, v.ID.String(): transaction.StatusSuccess} {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: id, URL: s.Link(1, paytest.LieReceipt, 0)})
			if err != nil || r.Payment.Status != want {
				t.Errorf("lie in %q: %+v %v", id, r, err)
			}
		}
		w.Settle()
		w.Balanced()
		held, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || held.Wallet.Available >= held.Wallet.Posted {
			t.Errorf("an unknown payment reserves nothing: %+v %v", held.Wallet, err)
		}
		// When the proofs are dead the chain alone decides.
		w.Pass(2 * time.Minute)
		w.Settle()
		if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		paid := w.Net.Balance(s.PayTo)
		page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var charged money.USDC
		for _, item := range page.Items {
			if item.Status != transaction.StatusSuccess && item.Status != transaction.StatusFailed {
				t.Errorf("%s is still %s", item.Endpoint, item.Status)
			}
			charged += item.Amount
		}
		if charged != paid {
			t.Errorf("charged %s, the seller has %s", charged, paid)
		}
		after, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || after.Wallet.Available != after.Wallet.Posted {
			t.Errorf("a hold is left: %+v %v", after.Wallet, err)
		}
		w.Balanced()
	})
}

// Parallel calls never pass a limit, whichever it is.
func TestLimitsUnderConcurrency(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{DailyLimit: core.Set(20 * cent)}); err != nil {
			t.Fatal(err)
		}
		second, err := core.New(w.Ctx, w.Deps) // another process over the same database
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		var ok, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				in := core.FetchInput{URL: s.Link(1+i%2, paytest.Serve, 0)}
				if i%3 > 0 {
					in.SessionID = v.ID.String()
				}
				_, err := []*core.Core{w.Core, second}[i%2].Payments.Fetch(w.Ctx, p, in)
				switch code(err) {
				case "":
					ok.Add(1)
				case core.SpendingLimit:
					refused.Add(1)
				default:
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if ok.Load() != 20 || refused.Load() != 40 {
			t.Errorf("%d calls passed, %d were refused", ok.Load(), refused.Load())
		}
		w.Settle()
		w.Balanced()
	})
}

func TestCallerWhoLeavesIsChargedAllTheSame(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	ctx, cancel := context.WithCancel(w.Ctx)
	gone := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("PAYMENT-SIGNATURE") != "" {
			cancel() // the caller leaves while the paid request is under way
			time.Sleep(50 * time.Millisecond)
		}
		s.ServeHTTP(rw, r)
	}))
	_, err := w.Core.Payments.Fetch(ctx, p, core.FetchInput{URL: gone + "/v2/serve"})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Logf("the caller got %v", err)
	}
	w.Settle()
	page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true})
	if err != nil || page.Total != 1 || page.Items[0].Status != transaction.StatusSuccess || w.Net.Balance(s.PayTo) != cent {
		t.Errorf("%+v %v, the seller has %s", page, err, w.Net.Balance(s.PayTo))
	}
	w.Balanced()
}

func TestOthersSeeNothing(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: 50 * cent})
	if err != nil {
		t.Fatal(err)
	}
	other, _ := w.User("other@example.com")
	w.Agent(other, "mine", money.One)
	ctx := w.Ctx
	for name, call := range map[string]func() error{
		"agent":      func() error { _, err := w.Core.Agents.Get(ctx, other, a.ID); return err },
		"policy":     func() error { _, err := w.Core.Policies.Get(ctx, other, a.ID); return err },
		"key":        func() error { _, _, err := w.Core.Agents.ExportKey(ctx, other, a.ID); return err },
		"drain":      func() error { _, err := w.Core.Funding.Drain(ctx, other, a.ID, "", nil); return err },
		"deactivate": func() error { _, err := w.Core.Agents.Deactivate(ctx, other, a.ID, nil); return err },
		"session":    func() error { _, err := w.Core.Sessions.Get(ctx, other, v.ID); return err },
		"close":      func() error { _, err := w.Core.Sessions.Close(ctx, other, v.ID, nil); return err },
		"open": func() error {
			_, err := w.Core.Sessions.Open(ctx, other, core.OpenSessionInput{AgentID: a.ID, Deposit: cent})
			return err
		},
		"history": func() error {
			_, err := w.Core.Transactions.List(ctx, other, core.TransactionFilter{AgentID: &a.ID})
			return err
		},
		"balance":  func() error { _, err := w.Core.Balances.Watch(ctx, other, a.ID); return err },
		"sessions": func() error { _, err := w.Core.Sessions.Watch(ctx, other, &v.ID); return err },
		"fetch": func() error {
			_, err := w.Core.Payments.Fetch(ctx, other, core.FetchInput{Agent: a.ID.String(), URL: "http://127.0.0.1:1/"})
			return err
		},
		"use session": func() error {
			_, err := w.Core.Payments.Fetch(ctx, other, core.FetchInput{SessionID: v.ID.String(), URL: "http://127.0.0.1:1/"})
			return err
		},
	} {
		if err := call(); code(err) != core.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if views, err := w.Core.Sessions.List(ctx, other, nil); err != nil || len(views) != 0 {
		t.Errorf("sessions %v %v", views, err)
	}
}

func TestDrainAndDeactivate(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 3*money.One)
	if _, err := w.Core.Funding.Drain(w.Ctx, p, a.ID, "", nil); code(err) != core.InvalidRequest {
		t.Errorf("without an address: %v", err)
	}
	home := "0x00000000000000000000000000000000000b0b01"
	if _, err := w.Core.Auth.SetWallet(w.Ctx, p, home); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Core.Funding.Drain(w.Ctx, p, a.ID, "0x00000000000000000000000000000000000b0b02", nil); code(err) != core.Forbidden {
		t.Errorf("to another address: %v", err)
	}
	if _, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One}); err != nil {
		t.Fatal(err)
	}
	r, err := w.Core.Agents.Deactivate(w.Ctx, p, a.ID, nil)
	if err != nil || !r.Drained || r.Amount != 3*money.One {
		t.Fatalf("%+v %v", r, err)
	}
	w.Settle()
	if got := w.Net.Balance(address(home)); got != 3*money.One {
		t.Errorf("home has %s", got)
	}
	if r, err := w.Core.Agents.Deactivate(w.Ctx, p, a.ID, nil); err != nil || r.Drained {
		t.Errorf("again: %+v %v", r, err)
	}
	_, err = w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: "http://127.0.0.1:1/"})
	if code(err) != core.InvalidRequest {
		t.Errorf("a deactivated agent calls: %v", err)
	}
	w.Balanced()
}

func TestLiveStreams(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 2*money.One)
	balances, err := w.Core.Balances.Watch(w.Ctx, p, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	payments, err := w.Core.Transactions.Watch(w.Ctx, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first := <-balances; first.Posted != 2*money.One {
		t.Fatalf("snapshot %+v", first)
	}
	s := w.Seller(cent)
	for i := range 3 {
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
		hold := <-balances
		if hold.Pending != cent {
			t.Errorf("call %d: hold %+v", i, hold)
		}
		w.Settle()
		end := <-balances
		if end.Pending != 0 || end.Posted != 2*money.One-money.USDC(i+1)*cent {
			t.Errorf("call %d: end %+v", i, end)
		}
		if paid := <-payments; paid.Amount != cent || paid.Status != transaction.StatusSuccess || paid.TxHash == nil {
			t.Errorf("call %d: %+v", i, paid)
		}
	}
	select {
	case extra := <-balances:
		t.Errorf("one more: %+v", extra)
	case extra := <-payments:
		t.Errorf("one more: %+v", extra)
	case <-time.After(50 * time.Millisecond):
	}
}
