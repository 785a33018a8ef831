package core_test

import (
	"context"
	"strings"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

func byID(s *sql.Selector) { s.OrderBy("id") }

func digestOf(text string) common.Hash { return evm.PersonalDigest(text) }

// read asks the world's database at one moment.
func read[T any](m *modelRun, f func(context.Context, *ent.Client) (T, error)) (out T) {
	m.t.Helper()
	tx, err := m.w.DB.Begin(m.w.Ctx)
	must(m.w, err)
	defer func() { _ = tx.SQL.Rollback() }()
	out, err = f(m.w.Ctx, tx.Client)
	must(m.w, err)
	return out
}

// pages are the rows of the books and of the histories at one moment.
type pages struct {
	sums     []ledger.Sum
	history  []*ent.Transaction
	sessions []*ent.Session
	ops      []*ent.Operation
	usages   map[string]money.USDC
	policies map[uuid.UUID]*money.USDC // daily limits
	org      *ent.Org
}

func (m *modelRun) pages() (p pages) {
	m.t.Helper()
	tx, err := m.w.DB.Begin(m.w.Ctx)
	must(m.w, err)
	defer func() { _ = tx.SQL.Rollback() }()
	p.sums, err = ledger.Sums(m.w.Ctx, tx.SQL, m.w.Net.Network().ChainID, uuid.Nil)
	must(m.w, err)
	p.history, err = tx.Client.Transaction.Query().Order(byID).All(m.w.Ctx)
	must(m.w, err)
	p.sessions, err = tx.Client.Session.Query().All(m.w.Ctx)
	must(m.w, err)
	p.ops, err = tx.Client.Operation.Query().All(m.w.Ctx)
	must(m.w, err)
	usages, err := tx.Client.Usage.Query().All(m.w.Ctx)
	must(m.w, err)
	p.usages = map[string]money.USDC{}
	for _, u := range usages {
		p.usages[u.ID] = u.Spent
	}
	policies, err := tx.Client.SpendingPolicy.Query().All(m.w.Ctx)
	must(m.w, err)
	p.policies = map[uuid.UUID]*money.USDC{}
	for _, v := range policies {
		p.policies[v.AgentID] = v.DailyLimit
	}
	p.org, err = tx.Client.Org.Query().Only(m.w.Ctx)
	must(m.w, err)
	return p
}

// counted is what a payment takes of its limits: all that it may still cost.
func counted(t *ent.Transaction) money.USDC {
	if t.Kind != transaction.KindPayment {
		return 0
	}
	if t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown {
		return t.Quoted
	}
	return t.Amount
}

// look holds the books to what must be so after every operation.
func (m *modelRun) look() {
	m.t.Helper()
	p := m.pages()
	m.columns(p)
	m.wallets(p)
	m.spentOf(p)
	m.withinLimits(p)
	m.counters(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	for nonce, n := range m.proofs {
		if n != 1 {
			m.t.Errorf("the proof %s was sent %d times", nonce, n)
		}
	}
}

// columns: each is the sum of its transfers, debits are credits, nothing is below its floor.
func (m *modelRun) columns(p pages) {
	m.t.Helper()
	var debits, credits money.USDC
	for _, s := range p.sums {
		if s.State.DebitsPending != s.Pending || s.State.DebitsPosted != s.Debits || s.State.CreditsPosted != s.Credits {
			m.fail("account %+v, its transfers %s/%s/%s", s.State, s.Pending, s.Debits, s.Credits)
		}
		if floor, bounded := ledger.Floor(s.State); bounded && floor < 0 {
			m.fail("account %+v is below zero", s.State)
		}
		debits, credits = debits.Add(s.State.DebitsPosted), credits.Add(s.State.CreditsPosted)
	}
	if debits != credits {
		m.fail("debits %s, credits %s", debits, credits)
	}
}

// wallets: each has what its history says. A session's calls are not a wallet's.
func (m *modelRun) wallets(p pages) {
	m.t.Helper()
	has := map[uuid.UUID]money.USDC{}
	for _, t := range p.history {
		if t.Status != transaction.StatusSuccess {
			continue
		}
		switch t.Kind {
		case transaction.KindFund, transaction.KindAutoTopup, transaction.KindRefund:
			has[t.AgentID] += t.Amount
		case transaction.KindDeposit, transaction.KindDrain:
			has[t.AgentID] -= t.Amount
		case transaction.KindPayment:
			if t.SessionID == nil {
				has[t.AgentID] -= t.Amount
			}
		case transaction.KindGasSponsor, transaction.KindOnramp:
		}
	}
	for _, s := range p.sums {
		if s.State.Kind == ledger.Wallet && s.State.Balance() != has[s.State.OwnerID] {
			m.fail("the wallet of agent %s has %s, its history says %s", s.State.OwnerID, s.State.Balance(), has[s.State.OwnerID])
		}
	}
}

// spentOf: deposit = used + remaining + refunded, where used is what the calls of the session have reserved or cost. A
// session whose deposit a reorganisation took for good is left out: what it had not spent was written off.
func (m *modelRun) spentOf(p pages) {
	m.t.Helper()
	used, deposit, refunded := map[uuid.UUID]money.USDC{}, map[uuid.UUID]money.USDC{}, map[uuid.UUID]money.USDC{}
	lost := map[uuid.UUID]bool{}
	for _, t := range p.history {
		if t.SessionID != nil {
			used[*t.SessionID] += counted(t)
		}
	}
	for _, o := range p.ops {
		dead := o.Status == operation.StatusExpired || o.Status == operation.StatusFailed
		switch {
		case o.Kind == operation.KindDeposit && dead:
			lost[*o.SessionID] = true
		case o.Kind == operation.KindDeposit:
			deposit[*o.SessionID] = o.Amount
		case o.Kind == operation.KindRefund && !dead:
			refunded[*o.SessionID] += o.Amount
		}
	}
	for _, s := range p.sums {
		id, a := s.State.OwnerID, s.State
		if a.Kind != ledger.Session || a.CreditsPosted == 0 || lost[id] {
			continue
		}
		if deposit[id] != used[id]+refunded[id]+a.Available() {
			m.fail("session %s: deposit %s, used %s, refunded %s, remaining %s", id, deposit[id], used[id], refunded[id], a.Available())
		}
	}
}

// withinLimits: no payment was made that passes a daily limit that was in force when it was made.
func (m *modelRun) withinLimits(p pages) {
	m.t.Helper()
	now := map[string]*money.USDC{p.org.ID.String(): p.org.DailyLimit}
	for id, l := range p.policies {
		now[id.String()] = l
	}
	days := map[string]money.USDC{}
	for _, t := range p.history {
		for _, id := range []string{t.AgentID.String(), t.OrgID.String()} {
			days[id+day(t)] += counted(t)
		}
	}
	for _, t := range p.history {
		if t.Kind != transaction.KindPayment || m.seen[t.ID.String()] {
			continue
		}
		m.seen[t.ID.String()] = true
		for _, id := range []string{t.AgentID.String(), t.OrgID.String()} {
			before, after := m.limits[id], now[id]
			if before == nil || after == nil {
				continue
			}
			if most := max(*before, *after); days[id+day(t)] > most {
				m.fail("payment %s: %s has %s on %s, and a limit of %s", t.ID, id, days[id+day(t)], day(t), most)
			}
		}
	}
	m.limits = now
}

func day(t *ent.Transaction) string { return ":day:" + t.CreatedAt.UTC().Format(time.DateOnly) }

// counters: each counter of all time is what payments have reserved or cost.
func (m *modelRun) counters(p pages) {
	m.t.Helper()
	sum := map[string]money.USDC{}
	for _, t := range p.history {
		for _, id := range []string{"org:" + t.OrgID.String(), "agent:" + t.AgentID.String()} {
			sum[id+":total"] += counted(t)
			sum[id+day(t)] += counted(t)
		}
	}
	for id, spent := range p.usages {
		if (strings.Contains(id, ":day:") || strings.HasSuffix(id, ":total")) && spent != sum[id] {
			m.fail("the counter %s is %s, its payments are %s", id, spent, sum[id])
		}
	}
}
