package core_test

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

// perMarket is how many sellers one chain can settle with, a block a second, before the first proof has died.
const perMarket = 24

func TestSellers(t *testing.T) {
	for from := 1; from < len(sellers); from += perMarket {
		these := []int{0} // the honest one is in every market
		for n := from; n < min(from+perMarket, len(sellers)); n++ {
			these = append(these, n)
		}
		t.Run(sellers[from].name, func(t *testing.T) { runMarket(t, these) })
	}
}

func runMarket(t *testing.T, these []int) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		_, settle := w.Facilitator()
		m := &market{t: t, w: w, p: p, settle: settle}
		m.open(these)
		ended := m.watch()
		w.Pass(time.Minute) // from here on the chain is ahead of the machine's clock: blocks come by the second
		for _, s := range m.stalls {
			s.callAll()
		}
		m.judge("answered", 0)
		w.Jobs()
		m.judge("read", first)
		m.bring(later)
		w.Jobs()
		m.judge("settled late", later)
		m.lastBlocks()
		for _, now := w.Head(); now.Unix() < m.end()+60; _, now = w.Head() {
			w.Net.Node.Commit()
		}
		w.Jobs()
		m.judge("a minute after the last proof's end", last)
		m.final()
		m.settledOnce(ended)
	})
}

// market is some sellers of the table, each with a customer of its own.
type market struct {
	t      *testing.T
	w      *coretest.World
	p      core.Principal
	settle func(context.Context, pay.Proof) (common.Hash, error)
	stalls []*stall
}

// stall is one seller and its customer: a wallet and a session, each of which buys by both versions.
type stall struct {
	*market
	n       int // in the table
	agent   *core.AgentView
	session *core.SessionView
	shop    *paytest.Service
	payTo   common.Address
	calls   []*bought
}

// bought is one call and the proof that the seller was given.
type bought struct {
	name    string
	version int
	session bool
	id      string
	proof   pay.Proof
}

const (
	funds   = 2 * money.One
	deposit = money.One
	patient = time.Second // the shortest time-out
	window  = 8 * time.Minute
)

// open builds the stalls: agents, their money, and their sessions.
func (m *market) open(these []int) {
	for _, i := range these {
		c := sellers[i]
		s := &stall{market: m, n: i, payTo: common.BigToAddress(big.NewInt(int64(0x5e11e200 + i)))}
		var err error
		if s.agent, err = m.w.Core.Agents.Create(m.w.Ctx, m.p, core.CreateAgentInput{Name: fmt.Sprintf("customer %d", i)}); err != nil {
			m.t.Fatal(err)
		}
		m.w.Net.Fund(common.HexToAddress(s.agent.Address), funds)
		s.shop = paytest.New(m.t, paytest.Options{
			Network: m.w.Net.Network(), PayTo: s.payTo, Clock: m.w.Clock.Now, Price: cent, Window: window,
			Answer: func(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
				if c.settles == first {
					if _, err := m.settle(m.w.Ctx, p); err != nil {
						m.t.Errorf("%s: %v", c.name, err)
					}
				}
				c.answer(w, r, a, p)
			},
		})
		m.stalls = append(m.stalls, s)
	}
	m.w.Settle()
	var wg sync.WaitGroup
	for _, s := range m.stalls {
		wg.Go(func() {
			var err error
			s.session, err = m.w.Core.Sessions.Open(m.w.Ctx, m.p, core.OpenSessionInput{AgentID: s.agent.ID, Deposit: deposit, Duration: 2 * time.Hour})
			if err != nil || s.session.Status != session.StatusOpen {
				m.t.Errorf("open: %+v %v", s.session, err)
			}
		})
	}
	wg.Wait()
	if m.t.Failed() {
		m.t.FailNow()
	}
	m.w.Head()
}

// callAll buys four times: by version 1 and 2, from the wallet and from the session. Proofs that are to be settled in
// their last block must end in different seconds.
func (s *stall) callAll() {
	for i, name := range []string{"wallet, v1", "wallet, v2", "session, v1", "session, v2"} {
		s.calls = append(s.calls, &bought{name: sellers[s.n].name + ", " + name, version: 1 + i%2, session: i >= 2})
	}
	var wg sync.WaitGroup
	for _, b := range s.calls {
		if sellers[s.n].settles == last {
			s.w.Pass(2 * time.Second)
			s.call(b)
		} else {
			wg.Go(func() { s.call(b) })
		}
	}
	wg.Wait()
	s.w.Head()
	seen := s.shop.Seen()
	if len(seen) != len(s.calls) {
		s.t.Errorf("%s: %d proofs for %d calls", sellers[s.n].name, len(seen), len(s.calls))
	}
	for _, b := range s.calls {
		for _, got := range seen {
			if string(got.Body) == b.name && got.Method == http.MethodPost {
				b.proof = got.Proof
			}
		}
		if b.proof.Signature == nil {
			s.t.Fatalf("%s: the seller has not seen the call as it was made", b.name)
		}
	}
}

func (s *stall) call(b *bought) {
	c := sellers[s.n]
	in := core.FetchInput{
		Agent: s.agent.ID.String(), Method: http.MethodPost, Body: []byte(b.name), URL: s.shop.Link(b.version, paytest.Serve, 0),
		Timeout: 10 * time.Second,
	}
	if c.code == core.Timeout {
		in.Timeout = patient
	}
	if b.session {
		in.SessionID = s.session.ID.String()
	}
	r, err := s.w.Core.Payments.Fetch(s.w.Ctx, s.p, in)
	switch {
	case code(err) != c.code:
		s.t.Errorf("%s: %v", b.name, err)
	case err != nil:
		b.id = core.AsError(err).Payment
	case r.Status != c.status || !r.Paid || r.Cost != cent:
		s.t.Errorf("%s: %+v", b.name, r)
	default:
		b.id = r.Payment.ID.String()
	}
}

// bring settles what is due at a moment. Whatever is settled is settled twice: the second time reverts.
func (m *market) bring(due when) {
	for _, s := range m.stalls {
		for _, b := range s.calls {
			switch sellers[s.n].settles {
			case due:
				if _, err := m.settle(m.w.Ctx, b.proof); err != nil {
					m.t.Errorf("%s: %v", b.name, err)
				}
			case first:
				if r := mine(m.t, m.w, evm.TransferWithAuthorizationData(b.proof.Authorization, b.proof.Signature)); r.OK {
					m.t.Errorf("%s: the token takes the proof twice", b.name)
				}
			}
		}
	}
}

// lastBlocks settles each proof that waits for it in the last block whose time the token accepts.
func (m *market) lastBlocks() {
	for _, s := range m.stalls {
		if sellers[s.n].settles != last {
			continue
		}
		for _, b := range s.calls {
			end := b.proof.Authorization.ValidBefore
			_, now := m.w.Head()
			for ; now.Unix() < end-2; _, now = m.w.Head() {
				m.w.Net.Node.Commit()
			}
			hash, err := m.settle(m.w.Ctx, b.proof)
			if err != nil {
				m.t.Fatalf("%s: at %d of %d: %v", b.name, now.Unix(), end, err)
			}
			at, err := m.w.Net.BlockByNumber(m.w.Ctx, m.w.Net.Mined(hash).Block)
			if err != nil || at.Time.Unix() != end-1 {
				m.t.Errorf("%s: settled at %d, its last block is %d: %v", b.name, at.Time.Unix(), end-1, err)
			}
			m.w.Jobs() // also while the chain's newest block is the proof's last
		}
	}
}

// end is when the last proof is dead.
func (m *market) end() int64 {
	var out int64
	for _, s := range m.stalls {
		for _, b := range s.calls {
			out = max(out, b.proof.Authorization.ValidBefore)
		}
	}
	return out
}

// judge compares every payment with what the chain shows now. booked is up to which moment the books must know it.
func (m *market) judge(at string, booked when) {
	m.t.Helper()
	for _, s := range m.stalls {
		for _, b := range s.calls {
			t := s.record(b)
			if problem := s.compare(b, t, booked); problem != "" {
				m.t.Errorf("%s: %s: %s; status %s, amount %s, reason %q, decided by %v", at, b.name, problem, t.Status, t.Amount, t.Reason, core.DecidedBy(t))
			}
		}
	}
}

func (s *stall) record(b *bought) *ent.Transaction {
	s.t.Helper()
	t, err := s.w.Core.Transactions.Get(s.w.Ctx, s.p, uuid.MustParse(b.id))
	if err != nil {
		s.t.Fatalf("%s: %v", b.name, err)
	}
	return t
}

func (s *stall) compare(b *bought, t *ent.Transaction, booked when) string {
	c := sellers[s.n]
	moved := c.settles != never && c.settles <= booked
	end := booked == last
	decided := core.DecidedBy(t)
	switch {
	case moved && (t.Status != transaction.StatusSuccess || t.Amount != cent || t.TxHash == nil):
		return "the chain shows it and the history does not"
	case !moved && end && t.Amount != 0:
		return "nothing moved, and it is charged"
	case !moved && end && !(t.Status == transaction.StatusFailed || (b.session && c.fair && t.Status == transaction.StatusSuccess)):
		return "not decided"
	case moved || end:
		if decided != nil || (!moved && !strings.Contains(t.Reason, "nothing was charged")) {
			return "final, and does not say so"
		}
		return ""
	case decided == nil || decided.Unix() != b.proof.Authorization.ValidBefore:
		return "does not say when it will be decided"
	case c.fair && b.session:
		if t.Status != transaction.StatusSuccess || t.Amount != cent {
			return "an answered call is not charged to its session"
		}
	case c.fair:
		if t.Status != transaction.StatusPending {
			return "an answered call is not pending"
		}
	case t.Status != transaction.StatusUnknown || !strings.Contains(t.Reason, c.reason) || t.Amount != 0:
		return "does not say what is known"
	}
	return ""
}

// final compares each customer's accounts with the chain: nothing is held, no limit counts what was not charged, and
// what is left comes back.
func (m *market) final() {
	for _, s := range m.stalls {
		name := sellers[s.n].name
		each := money.USDC(0)
		if sellers[s.n].settles != never {
			each = 2 * cent
		}
		if got := m.w.Net.Balance(s.payTo); got != 2*each {
			m.t.Errorf("%s: the seller has %s", name, got)
		}
		a, err := m.w.Core.Agents.Get(m.w.Ctx, m.p, s.agent.ID)
		if err != nil || a.Wallet.Pending != 0 || a.Wallet.Posted != funds-deposit-each {
			m.t.Errorf("%s: wallet %+v %v", name, a.Wallet, err)
		}
		v, err := m.w.Core.Sessions.Get(m.w.Ctx, m.p, s.session.ID)
		if err != nil || v.Remaining != deposit-each || v.Used != each {
			m.t.Errorf("%s: session used %s, remaining %s, charged %s %v", name, v.Used, v.Remaining, each, err)
		}
		page, err := m.w.Core.Transactions.List(m.w.Ctx, m.p, core.TransactionFilter{AgentID: &s.agent.ID, PaymentsOnly: true})
		if err != nil || page.Total != len(s.calls) || page.Spent != 2*each {
			m.t.Errorf("%s: history %+v %v", name, page, err)
		}
		if _, err := m.w.Core.Policies.Update(m.w.Ctx, m.p, s.agent.ID, core.PolicyInput{DailyLimit: core.Set(2*each + cent)}); err != nil {
			m.t.Fatal(err)
		}
		honest := m.stalls[0].shop.Link(2, paytest.Serve, 0)
		if _, err := m.w.Core.Payments.Fetch(m.w.Ctx, m.p, core.FetchInput{Agent: s.agent.ID.String(), URL: honest}); err != nil {
			m.t.Errorf("%s: a daily limit counts more than was charged: %v", name, err)
		}
	}
	var wg sync.WaitGroup
	for _, s := range m.stalls {
		wg.Go(func() {
			if v, err := m.w.Core.Sessions.Close(m.w.Ctx, m.p, s.session.ID, nil); err != nil || v.Status != session.StatusClosed || v.Refunded+v.Used != deposit {
				m.t.Errorf("%s: %+v %v", sellers[s.n].name, v, err)
			}
		})
	}
	wg.Wait()
	m.w.Settle()
	if got := m.w.Net.Balance(m.w.Platform); got != 0 {
		m.t.Errorf("the platform keeps %s", got)
	}
	m.w.Balanced()
}

// watch gathers the payments that reach their end.
func (m *market) watch() func() map[string]int {
	stream, err := m.w.Core.Transactions.Watch(m.w.Ctx, m.p, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[string]int{}
	go func() {
		for t := range stream {
			mu.Lock()
			got[t.ID.String()]++
			mu.Unlock()
		}
	}()
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(got)
	}
}

// settledOnce waits until every payment's end was told, and demands that none was told twice.
func (m *market) settledOnce(told func() map[string]int) {
	deadline := time.Now().Add(10 * time.Second)
	for missing := true; missing; time.Sleep(10 * time.Millisecond) {
		got := told()
		missing = false
		for _, s := range m.stalls {
			for _, b := range s.calls {
				if got[b.id] > 1 {
					m.t.Errorf("%s: its end was told %d times", b.name, got[b.id])
				}
				missing = missing || got[b.id] == 0
				if got[b.id] == 0 && time.Now().After(deadline) {
					m.t.Fatalf("%s: its end was not told", b.name)
				}
			}
		}
	}
}
