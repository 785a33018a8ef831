package core_test

import (
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core/ledger"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
)

// underWay names something that has not ended, or nothing.
func (m *modelRun) underWay() string {
	p := m.pages()
	for _, o := range p.ops {
		if o.Status != operation.StatusFinal && o.Status != operation.StatusExpired && o.Status != operation.StatusFailed {
			return fmt.Sprintf("operation %s", o)
		}
	}
	for _, t := range p.history {
		if t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown {
			return fmt.Sprintf("transaction %s", t)
		}
	}
	for _, s := range p.sessions {
		if s.Status != session.StatusClosed && s.Status != session.StatusFailed {
			return fmt.Sprintf("session %s", s)
		}
	}
	for _, s := range p.sums {
		if s.State.DebitsPending != 0 {
			return fmt.Sprintf("account %+v", s.State)
		}
	}
	return p.owing()
}

// audit has an honest process read the chain and prove the books against it. A hold may be old: no job may have run.
func (m *modelRun) audit() {
	m.t.Helper()
	m.note("audit")
	must(m.w, m.w.Core.Funding.ReadChain(m.w.Ctx))
	a, err := m.w.Core.Books.Audit(m.w.Ctx)
	must(m.w, err)
	for _, d := range a.Differences {
		if !strings.Contains(d, "stands although its proof ended") {
			m.fail("audit: %s", d)
		}
	}
}

// conclude holds the end of a history to the chain: what sellers, owners and wallets have is what was charged, drained
// and left, each proof that was used is charged once, and nothing waits in between.
func (m *modelRun) conclude() {
	m.t.Helper()
	m.w.Balanced()
	if m.t.Failed() {
		m.fail("the audit finds differences")
	}
	p := m.pages()
	paid, drained, pulled := map[string]money.USDC{}, money.USDC(0), money.USDC(0)
	nonces := map[string]bool{}
	for _, t := range p.history {
		switch t.Kind {
		case transaction.KindPayment:
			if t.AuthNonce == nil {
				continue // see metered and sentAhead
			}
			nonces[*t.AuthNonce] = true
			if t.Permit2 {
				continue // see throughPermit2
			}
			paid[t.ToAddress] += t.Amount
			used, err := m.w.Net.AuthorizationUsed(m.w.Ctx, common.HexToAddress(t.FromAddress), common.HexToHash(*t.AuthNonce), m.w.Height())
			must(m.w, err)
			if want := map[bool]money.USDC{true: t.Quoted}[used]; t.Amount != want {
				m.fail("payment %s is %s at %s, its proof was used: %t", t.ID, t.Status, t.Amount, used)
			}
		case transaction.KindDrain:
			if t.ToAddress == m.home.Hex() {
				drained += t.Amount
			}
		case transaction.KindAutoTopup:
			pulled += t.Amount
		case transaction.KindFund, transaction.KindDeposit, transaction.KindRefund, transaction.KindGasSponsor, transaction.KindOnramp:
		}
	}
	for _, s := range m.sellers[:2] { // the others are wallets
		if has := m.w.Net.Balance(s.payTo); has != paid[s.payTo.Hex()] {
			m.fail("the seller %s has %s, paid are %s", s.payTo, has, paid[s.payTo.Hex()])
		}
	}
	if has := m.w.Net.Balance(m.home); has != drained {
		m.fail("the owner has %s, drained are %s", has, drained)
	}
	if has := m.w.Net.Balance(m.purse.at); has != 1000*money.One-pulled {
		m.fail("the source has %s, pulled are %s", has, pulled)
	}
	for nonce := range m.proofs {
		if !nonces[nonce.Hex()] {
			m.fail("the proof %s is of no payment", nonce)
		}
	}
	m.rests(p)
	m.metered(p)
	m.sentAhead(p)
	m.throughPermit2(p)
}

// rests: nothing is left in between, but for deposits that a reorganisation took for good.
func (m *modelRun) rests(p pages) {
	m.t.Helper()
	lost := false
	for _, o := range p.ops {
		lost = lost || (o.Kind == operation.KindDeposit && o.Status == operation.StatusExpired)
	}
	for _, s := range p.sums {
		switch rest := s.State.Balance(); {
		case s.State.Kind == ledger.Suspense && lost:
		case (s.State.Kind == ledger.Session || s.State.Kind == ledger.Clearing || s.State.Kind == ledger.Suspense) && rest != 0:
			m.fail("account %+v has %s left", s.State, rest)
		}
	}
}
