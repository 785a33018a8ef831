package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// between makes a call and does something while the service works on it, after which the service answers.
func (m *metering) between(inSession bool, do func()) (*core.FetchResult, error) {
	m.T.Helper()
	m.api.gate = make(chan struct{})
	calls := m.api.calls.Load()
	type outcome struct {
		r   *core.FetchResult
		err error
	}
	done := make(chan outcome)
	go func() {
		r, err := m.call(inSession, "model", "wait?tokens=4")
		done <- outcome{r, err}
	}()
	for m.api.calls.Load() == calls {
		time.Sleep(time.Millisecond)
	}
	do()
	close(m.api.gate)
	o := <-done
	return o.r, o.err
}

// TestMeteredTooLate: an answer that comes after the call was given up, because this process's clock was wrong or it stood
// still, takes nothing.
func TestMeteredTooLate(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		inSession, inWallet := m.left()
		for _, from := range []bool{true, false} {
			r, err := m.between(from, func() {
				w.Clock.Ahead(2 * time.Minute)
				must(w, w.Core.Payments.ReleaseMetered(w.Ctx))
			})
			if e := core.AsError(err); code(err) != core.Timeout || e.Payment == "" {
				t.Errorf("session %v: %+v %v", from, r, err)
			}
		}
		w.Settle()
		if s, a := m.left(); s != inSession || a != inWallet {
			t.Errorf("%s and %s are left of %s and %s", s, a, inSession, inWallet)
		}
		w.Balanced()
	})
}

// TestMeteredBehindTheHold: an owner who spends what a call holds, with the exported key, is not given the answer for nothing,
// and the call ends.
func TestMeteredBehindTheHold(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		_, text, err := w.Core.Agents.ExportKey(w.Ctx, m.p, m.agent.ID)
		must(w, err)
		key, err := crypto.HexToECDSA(strings.TrimPrefix(text, "0x"))
		must(w, err)
		owner := &purse{World: w, key: key, at: crypto.PubkeyToAddress(key.PublicKey)}
		r, err := m.between(false, func() {
			owner.call(evm.TransferData(w.Relayer, 2*money.One-cent))
			for v := m.agent; v.Wallet.Posted != cent; {
				w.Settle()
				v, err = w.Core.Agents.Get(w.Ctx, m.p, m.agent.ID)
				must(w, err)
			}
		})
		if e := core.AsError(err); code(err) != core.InsufficientBalance || e.Payment == "" {
			t.Errorf("%+v %v", r, err)
		}
		page, err := w.Core.Transactions.List(w.Ctx, m.p, core.TransactionFilter{PaymentsOnly: true})
		if err != nil || page.Total != 1 || page.Items[0].Status != transaction.StatusFailed || page.Items[0].Amount != 0 {
			t.Errorf("%+v %v", page, err)
		}
		w.Settle()
		if _, a := m.left(); a != cent {
			t.Errorf("%s is free", a)
		}
		w.Balanced()
	})
}

// stuck makes a wallet's call whose charge no block takes, until its authorization is dead.
func (m *metering) stuck(whileItWaits func()) *core.FetchResult {
	m.T.Helper()
	before := m.Height()
	r, err := m.call(false, "model", "complete?tokens=3")
	must(m.World, err)
	m.Net.Mined(common.HexToHash(*r.TxHash)) // so that another transaction of the relayer's takes its place
	m.Replace(before, m.Deps.RelayerKey)
	whileItWaits()
	m.Pass(11 * time.Minute)
	m.Mine(depth + 1)
	must(m.World, m.Core.Funding.ReadChain(m.Ctx))
	return r
}

// TestMeteredChargeThatNoBlockTakes: a call that was served is charged, however long the chain takes, once; while its wallet
// has the money, and for a day at most.
func TestMeteredChargeThatNoBlockTakes(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*metering, *purse)
		later     time.Duration
		charged   money.USDC
	}{
		"it is asked for again":      {func(*metering, *purse) {}, 0, 3 * cent},
		"the wallet is empty":        {func(m *metering, o *purse) { o.call(evm.TransferData(m.Relayer, 2*money.One-cent)) }, 0, 0},
		"after a day it is given up": {func(*metering, *purse) {}, 24 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := coretest.New(t, coretest.Confirmations(depth))
			m, _, _, _ := metersOf(t, w)
			_, text, err := w.Core.Agents.ExportKey(w.Ctx, m.p, m.agent.ID)
			must(w, err)
			key, err := crypto.HexToECDSA(strings.TrimPrefix(text, "0x"))
			must(w, err)
			owner := &purse{World: w, key: key, at: crypto.PubkeyToAddress(key.PublicKey)}
			r := m.stuck(func() { c.meanwhile(m, owner) })
			w.Clock.Ahead(c.later)
			for range 3 {
				must(w, w.Core.Funding.ExpireOperations(w.Ctx))
				m.sound()
				w.Settle()
			}
			m.sound()
			got, err := w.Core.Transactions.Get(w.Ctx, m.p, r.Payment.ID)
			if err != nil || got.Amount != c.charged || (got.Status == transaction.StatusSuccess) != (c.charged > 0) || got.Status == transaction.StatusPending {
				t.Errorf("%+v %v", got, err)
			}
			audit, err := w.Core.Books.Audit(w.Ctx)
			if err != nil || audit.Platform.Treasury != c.charged {
				t.Errorf("%+v %v", audit.Platform, err)
			}
			a, err := w.Core.Agents.Get(w.Ctx, m.p, m.agent.ID)
			if err != nil || a.Wallet.Pending != 0 {
				t.Errorf("%+v %v", a.Wallet, err)
			}
			if n := count(t, raw(t, w), fmt.Sprintf("usages WHERE id = 'agent:%s:total' AND spent = %d", m.agent.ID, c.charged)); n != 1 {
				t.Error("it does not count for the limits as what it was charged")
			}
		})
	}
}
