package core_test

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
)

// metersOf is a world at a depth with a service of the operator's, a business, a payer and a session.
func metersOf(t *testing.T, w *coretest.World) (m *metering, seller core.Principal, business *core.Registered, wallet common.Address) {
	t.Helper()
	m = &metering{World: w, api: newAPI(w)}
	must(w, w.Core.Services.Install(w.Ctx, []core.ServiceInput{m.api.perToken("model")}))
	m.p, _ = w.User("dev@example.com")
	m.agent = w.Agent(m.p, "bot", 3*money.One)
	m.session = w.Session(m.p, m.agent, money.One)
	seller, business, wallet = m.business("weather")
	w.Mine(2 * depth)
	return m, seller, business, wallet
}

// sound holds the books to the chain and to what docs/ledger.md says that anybody may check.
func (m *metering) sound() {
	m.T.Helper()
	m.Balanced()
	t, ok := m.T.(*testing.T)
	if !ok {
		return
	}
	proofs, _ := statements(t)
	for _, s := range proofs {
		if n := rowsOf(t, m.World, s); n != 0 {
			t.Errorf("%d rows: %s", n, s)
		}
	}
}

// TestReorgOfMeteredPayments: what wallets and the platform have sent for metered calls is taken back with its block, and
// comes again once.
func TestReorgOfMeteredPayments(t *testing.T) {
	eachDepth(t, func(t *testing.T, w *coretest.World, blocks int) {
		m, seller, business, wallet := metersOf(t, w)
		for _, inSession := range []bool{true, false} {
			_, err := m.call(inSession, "model", "complete?tokens=3")
			must(w, err)
			_, err = m.call(inSession, business.Slug, "find")
			must(w, err)
		}
		must(w, w.Core.Gateway.PayOut(w.Ctx))
		w.Settle()
		m.sound()
		w.Reorg(blocks)
		w.Settle()
		m.sound()
		w.Mine(depth + 1)
		w.Settle()
		must(w, w.Core.Gateway.PayOut(w.Ctx))
		w.Settle()
		m.sound()
		if f := m.figures(seller); f.Calls != 2 || f.Revenue != 2*cent || f.Sent != cent || f.Owed+f.Sending != 0 {
			t.Errorf("%+v", f)
		}
		if got := w.Net.Balance(wallet); got != 2*cent {
			t.Errorf("the business has %s", got)
		}
		if got := w.Net.Balance(w.Platform); got != money.One+3*cent-cent {
			t.Errorf("the platform has %s", got)
		}
		a, err := w.Core.Agents.Get(w.Ctx, m.p, m.agent.ID)
		if err != nil || a.Wallet.Pending != 0 || a.Wallet.Posted != 2*money.One-4*cent {
			t.Errorf("%+v %v", a.Wallet, err)
		}
	})
}

// TestMeteredPaymentThatNeverComesAgain: what the chain has lost for good is asked for once more, since the call was served; a
// payout is made anew.
func TestMeteredPaymentThatNeverComesAgain(t *testing.T) {
	w := coretest.New(t, coretest.Confirmations(depth))
	m, seller, business, wallet := metersOf(t, w)
	before := w.Height()
	r, err := m.call(false, "model", "complete?tokens=3")
	must(w, err)
	_, err = m.call(true, business.Slug, "find")
	must(w, err)
	must(w, w.Core.Gateway.PayOut(w.Ctx))
	w.Settle()
	m.sound()
	w.Replace(before, w.Deps.RelayerKey)
	w.Pass(11 * time.Minute)
	w.Mine(depth + 1)
	for range 3 {
		w.Settle()
		must(w, w.Core.Funding.ExpireOperations(w.Ctx))
	}
	m.sound()
	lost, err := w.Core.Transactions.Get(w.Ctx, m.p, r.Payment.ID)
	if err != nil || lost.Status != transaction.StatusSuccess || lost.Amount != 3*cent || *lost.TxHash == *r.TxHash {
		t.Errorf("%+v %v", lost, err)
	}
	if f := m.figures(seller); f.Owed != cent || f.Sending+f.Sent != 0 {
		t.Errorf("%+v", f)
	}
	must(w, w.Core.Gateway.PayOut(w.Ctx))
	w.Settle()
	m.sound()
	if got := w.Net.Balance(wallet); got != cent {
		t.Errorf("the business has %s", got)
	}
	a, err := w.Core.Agents.Get(w.Ctx, m.p, m.agent.ID)
	if err != nil || a.Wallet.Pending != 0 || a.Wallet.Posted != 2*money.One-3*cent {
		t.Errorf("%+v %v", a.Wallet, err)
	}
}
