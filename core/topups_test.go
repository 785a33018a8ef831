package core_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

func TestTopUpByAllowance(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 2*money.One)
		src := newPurse(w, 100*money.One)
		src.approve(w.Relayer, 30*money.One)
		src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: 2 * money.One, Amount: 10 * money.One})
		news, err := w.Core.Transactions.Watch(w.Ctx, p, &a.ID)
		must(w, err)
		topUps(w, p, a.ID) // at the threshold and not below it
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 2*money.One || *got.AutoTopupDailyLimit != 100*money.One {
			t.Errorf("%+v, limit %s", got.Wallet, got.AutoTopupDailyLimit)
		}
		threshold := core.Set(2*money.One + 1)
		_, err = w.Core.Agents.Update(w.Ctx, p, a.ID, core.UpdateAgentInput{AutoTopupThreshold: threshold})
		must(w, err)
		src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: *threshold.Value, Amount: 10 * money.One})
		topUps(w, p, a.ID)
		topUps(w, p, a.ID)
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 12*money.One || got.AutoTopupError != "" || w.Net.Balance(src.at) != 90*money.One {
			t.Errorf("%+v %q, the source has %s", got.Wallet, got.AutoTopupError, w.Net.Balance(src.at))
		}
		if t.Failed() {
			return
		}
		if said := <-news; said.Kind != transaction.KindAutoTopup || said.Status != transaction.StatusSuccess || said.Amount != 10*money.One {
			t.Errorf("told %+v", said)
		}
		h := history(w, p, a.ID, transaction.KindAutoTopup, transaction.KindFund)
		if len(h) != 2 || h[0].Kind != transaction.KindAutoTopup || h[0].Amount != 10*money.One || h[0].TxHash == nil || h[0].FromAddress != src.at.Hex() {
			t.Errorf("history %+v", h)
		}
		w.Balanced()
	})
}

func TestTopUpByPermit(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		src := newPurse(w, 100*money.One)
		allow := 15 * money.One
		in := src.signed(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One}, &allow)
		for range 2 { // handing it in twice sends it once
			must(w, consent(w, p, in))
		}
		must(w, w.Core.TopUps.RunDue(w.Ctx)) // waits for the permit
		if got := agentOf(w, p, a.ID); got.AutoTopupError != "" {
			t.Errorf("while the permit is under way: %s", got.AutoTopupError)
		}
		permitted(w, src)
		topUps(w, p, a.ID)
		got := agentOf(w, p, a.ID)
		left, err := w.Net.Allowance(w.Ctx, src.at, w.Relayer)
		if err != nil || got.Wallet.Posted != 10*money.One || left != 5*money.One {
			t.Errorf("%+v %q, %s left %v", got.Wallet, got.AutoTopupError, left, err)
		}
		if nonce, err := w.Net.PermitNonce(w.Ctx, src.at); err != nil || nonce != 1 {
			t.Errorf("%d permits %v", nonce, err)
		}
		if h := history(w, p, a.ID, transaction.KindAutoTopup, transaction.KindFund); len(h) != 1 {
			t.Errorf("history %+v", h)
		}
		w.Balanced()
	})
}

// A permit that somebody else sends first has done its work; one that the token refuses is told.
func TestPermitThatFails(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	src := newPurse(w, 100*money.One)
	allow := 15 * money.One
	terms := core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One}
	in := src.signed(p, terms, &allow)
	must(w, consent(w, p, in))
	again := src.signed(p, terms, &allow)
	again.Permit.Deadline = again.Permit.Deadline.Add(time.Second)
	if err := consent(w, p, again); code(err) != core.Forbidden {
		t.Errorf("a permit with another deadline: %v", err)
	}
	src.call(evm.PermitData(src.at, w.Relayer, allow, in.Permit.Deadline.Unix(), common.FromHex(in.Permit.Signature)))
	w.Settle()
	if got := agentOf(w, p, a.ID); !strings.Contains(got.AutoTopupError, "refuses") || got.AutoTopupFailedAt == nil {
		t.Errorf("%q", got.AutoTopupError)
	}
	w.Pass(time.Minute)
	topUps(w, p, a.ID)
	if got := agentOf(w, p, a.ID); got.Wallet.Posted != 10*money.One || got.AutoTopupError != "" || got.AutoTopupFailedAt != nil {
		t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
	}
	w.Balanced()
}

// What cannot be pulled makes no operation, is told on the agent, and is tried again with growing pauses.
func TestTopUpShortfall(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		src := newPurse(w, 5*money.One)
		src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
		topUps(w, p, a.ID)
		if got := agentOf(w, p, a.ID); got.AutoTopupError != "The source allows 0.000000 USDC, 10.000000 are needed" || got.AutoTopupFailedAt == nil {
			t.Errorf("%q %v", got.AutoTopupError, got.AutoTopupFailedAt)
		}
		src.approve(w.Relayer, 100*money.One)
		topUps(w, p, a.ID)
		if got := agentOf(w, p, a.ID); !strings.Contains(got.AutoTopupError, "allows") {
			t.Errorf("no pause: %q", got.AutoTopupError)
		}
		pause := 30 * time.Second
		for range 7 {
			w.Clock.Ahead(pause / 2)
			before := agentOf(w, p, a.ID).AutoTopupFailedAt
			topUps(w, p, a.ID)
			if got := agentOf(w, p, a.ID); !got.AutoTopupFailedAt.Equal(*before) {
				t.Errorf("tried again in half of %s", pause)
			}
			w.Clock.Ahead(pause/2 + time.Second)
			topUps(w, p, a.ID)
			got := agentOf(w, p, a.ID)
			if got.AutoTopupFailedAt.Equal(*before) || got.AutoTopupError != "The source has 5.000000 USDC, 10.000000 are needed" {
				t.Errorf("after %s: %q", pause, got.AutoTopupError)
			}
			pause = min(2*pause, 15*time.Minute)
		}
		if h := history(w, p, a.ID, transaction.KindAutoTopup); len(h) != 0 {
			t.Errorf("history %+v", h)
		}
		w.Net.Fund(src.at, 5*money.One)
		w.Clock.Ahead(pause)
		topUps(w, p, a.ID)
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 10*money.One || got.AutoTopupError != "" || got.AutoTopupFailedAt != nil {
			t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
		}
		w.Balanced()
	})
}

// Allowance or money that go between the look and the block: nothing moves, it is told, and the next is a new one.
func TestTopUpReverts(t *testing.T) {
	for name, take := range map[string]func(w *coretest.World, src *purse){
		"allowance": func(w *coretest.World, src *purse) { src.approve(w.Relayer, 0) },
		"balance": func(_ *coretest.World, src *purse) {
			src.call(evm.TransferData(common.HexToAddress("0xb0b"), 95*money.One))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) {
				p, _ := w.User("dev@example.com")
				a := w.Agent(p, "bot", 0)
				src := newPurse(w, 100*money.One)
				src.approve(w.Relayer, 100*money.One)
				src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
				w.Core = another(w, core.StepStored, func() { take(w, src) }) // the bytes are signed, with the allowance there
				news, err := w.Core.Transactions.Watch(w.Ctx, p, &a.ID)
				must(w, err)
				topUps(w, p, a.ID)
				got := agentOf(w, p, a.ID)
				if got.Wallet.Posted != 0 || !strings.HasPrefix(got.AutoTopupError, "Its transaction was reverted") || got.AutoTopupFailedAt == nil {
					t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
				}
				h := history(w, p, a.ID, transaction.KindAutoTopup)
				if len(h) != 1 || h[0].Status != transaction.StatusFailed || h[0].Amount != 0 || !strings.Contains(h[0].Reason, "reverted") {
					t.Errorf("history %+v", h)
				}
				if t.Failed() {
					return
				}
				if said := <-news; said.Kind != transaction.KindAutoTopup || said.Status != transaction.StatusFailed {
					t.Errorf("told %+v", said)
				}
				w.Net.Fund(src.at, 100*money.One)
				src.approve(w.Relayer, 100*money.One)
				w.Pass(time.Minute)
				topUps(w, p, a.ID)
				if got := agentOf(w, p, a.ID); got.Wallet.Posted != 10*money.One || got.AutoTopupError != "" {
					t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
				}
				w.Balanced()
			})
		})
	}
}

// another is a second process over the same database, which does something at a step, once.
func another(w *coretest.World, step string, do func()) *core.Core {
	w.T.Helper()
	deps := w.Deps
	var once sync.Once
	deps.Step = func(name string) {
		if name == step {
			once.Do(do)
		}
	}
	c, err := core.New(w.Ctx, deps)
	must(w, err)
	return c
}

// One under way, however often and in however many processes the job runs.
func TestTopUpOneInFlight(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		src := newPurse(w, 100*money.One)
		src.approve(w.Relayer, 100*money.One)
		src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: 15 * money.One, Amount: 10 * money.One})
		cores := []*core.Core{w.Core, another(w, "", nil)}
		for round := range 2 {
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if err := cores[i%2].TopUps.RunDue(w.Ctx); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if h := history(w, p, a.ID, transaction.KindAutoTopup); len(h) != round+1 {
				t.Errorf("round %d: %d top-ups", round, len(h))
			}
			for i := range 4 {
				wg.Go(func() {
					for range 3 {
						if err := cores[i%2].Operations.AdvanceDue(w.Ctx); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			ended(w, p, a.ID)
			if got := agentOf(w, p, a.ID); got.Wallet.Posted != money.USDC(round+1)*10*money.One {
				t.Errorf("round %d: %+v %q", round, got.Wallet, got.AutoTopupError)
			}
		}
		w.Balanced()
	})
}

func TestTopUpDailyLimit(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		w.Clock.Ahead(w.Clock.Now().UTC().Truncate(24 * time.Hour).Add(24*time.Hour + time.Minute).Sub(w.Clock.Now())) // a day begins
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		src := newPurse(w, 100*money.One)
		src.approve(w.Relayer, 100*money.One)
		limit := 25 * money.One
		src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: 90 * money.One, Amount: 10 * money.One, DailyLimit: &limit})
		for range 4 {
			topUps(w, p, a.ID)
		}
		got := agentOf(w, p, a.ID)
		if got.Wallet.Posted != 20*money.One || got.AutoTopupError != "The day's limit of 25.000000 USDC is reached" {
			t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
		}
		w.Clock.Ahead(24 * time.Hour)
		for range 4 {
			topUps(w, p, a.ID)
		}
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 40*money.One {
			t.Errorf("the next day: %+v %q", got.Wallet, got.AutoTopupError)
		}
		w.Balanced()
	})
}

func TestTopUpOfADeactivatedAgent(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	src := newPurse(w, 100*money.One)
	src.approve(w.Relayer, 100*money.One)
	src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
	must(w, w.Core.TopUps.RunDue(w.Ctx)) // queued, not signed
	if _, err := w.Core.Agents.Deactivate(w.Ctx, p, a.ID, nil); err != nil {
		t.Fatal(err)
	}
	w.Pass(time.Minute)
	topUps(w, p, a.ID)
	topUps(w, p, a.ID)
	h := history(w, p, a.ID, transaction.KindAutoTopup)
	if len(h) != 1 || h[0].Status != transaction.StatusFailed || h[0].Reason != "The agent is deactivated" || w.Net.Balance(src.at) != 100*money.One {
		t.Errorf("history %+v", h)
	}
	if err := consent(w, p, core.ConsentInput{TopUpTerms: core.TopUpTerms{AgentID: a.ID, Source: src.at.Hex(), Threshold: 1, Amount: money.One}}); code(err) != core.InvalidRequest {
		t.Errorf("%v", err)
	}
	w.Balanced()
}

// The process dies at each step; another over the same database ends what was begun, once.
func TestTopUpSurvivesCrashes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		steps := []string{core.StepPull, core.StepQueued, core.StepAuthorized, core.StepStored, core.StepSent, core.StepIncluded, core.StepLog, core.StepRange}
		for _, step := range steps {
			a := w.Agent(p, step, 0)
			src := newPurse(w, 100*money.One)
			allow := 10 * money.One
			in := src.signed(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One}, &allow)
			must(w, consent(w, p, in))
			for range 2 { // once in the permit, once in the pull
				const crash = "crash"
				dying := another(w, step, func() { panic(crash) })
				func() {
					defer func() {
						if r := recover(); r != nil && r != crash {
							panic(r)
						}
					}()
					for range 3 {
						must(w, dying.TopUps.RunDue(w.Ctx))
						must(w, dying.Operations.AdvanceDue(w.Ctx))
						w.Net.Node.Commit()
						must(w, dying.Funding.ReadChain(w.Ctx))
					}
				}()
			}
			permitted(w, src)
			topUps(w, p, a.ID)
			if got := agentOf(w, p, a.ID); got.Wallet.Posted != 10*money.One || got.AutoTopupError != "" || w.Net.Balance(src.at) != 90*money.One {
				t.Errorf("%s: %+v %q", step, got.Wallet, got.AutoTopupError)
			}
			if h := history(w, p, a.ID, transaction.KindAutoTopup, transaction.KindFund); len(h) != 1 || h[0].Status != transaction.StatusSuccess {
				t.Errorf("%s: %+v", step, h)
			}
		}
		w.Balanced()
	})
}
