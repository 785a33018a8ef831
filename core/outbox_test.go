package core_test

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/evm"
	"bursar/money"
)

// observed is the chain, with a look at what passes.
type observed struct {
	core.Chain
	send     func(raw []byte) bool // before it is sent; false: it is lost on the way
	simulate func()                // before a call is tried
	lost     *atomic.Bool          // while true, the node has lost all receipts
}

func (o observed) Send(ctx context.Context, raw []byte) error {
	if o.send != nil && !o.send(raw) {
		return nil
	}
	return o.Chain.Send(ctx, raw)
}

func (o observed) Simulate(ctx context.Context, from common.Address, c evm.Call) error {
	if o.simulate != nil {
		o.simulate()
	}
	return o.Chain.Simulate(ctx, from, c)
}

func (o observed) Receipt(ctx context.Context, hash common.Hash) (evm.Receipt, error) {
	if o.lost != nil && o.lost.Load() {
		return evm.Receipt{}, evm.ErrNotFound
	}
	return o.Chain.Receipt(ctx, hash)
}

// pulling is an agent with a source that may be pulled from ten times.
func pulling(w *coretest.World) (core.Principal, *core.AgentView, *purse) {
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	src := newPurse(w, 100*money.One)
	src.approve(w.Relayer, 100*money.One)
	src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
	return p, a, src
}

// Whatever leaves has been stored by a commit before, dearer copies included.
func TestStoredBeforeSent(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, _ := pulling(w)
		db := raw(t, w)
		sent := 0
		c := process(t, w, func(d *core.Deps) {
			d.Chain = observed{Chain: d.Chain, send: func(bytes []byte) bool {
				if !stored(t, w, bytes) {
					t.Errorf("send %d is of bytes that no commit has stored", sent)
				}
				sent++
				return sent > 1 // so that the first goes out again
			}}
		})
		must(w, c.TopUps.RunDue(w.Ctx))
		must(w, c.Operations.AdvanceDue(w.Ctx))
		w.Mine(4)
		must(w, c.Operations.Rebroadcast(w.Ctx)) // dearer
		if n := count(t, db, "attempts"); n != 2 || sent != 2 {
			t.Errorf("%d attempts, %d sends", n, sent)
		}
		ended(w, p, a.ID)
		v, err := c.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil || v.Status != session.StatusOpen {
			t.Errorf("%+v %v", v, err)
		}
		if v, err = c.Sessions.Close(w.Ctx, p, v.ID, nil); err != nil || v.Status != session.StatusClosed {
			t.Errorf("%+v %v", v, err)
		}
		w.Settle()
		w.Balanced()
	})
}

// stored looks at the database from outside.
func stored(t *testing.T, w *coretest.World, sent []byte) bool {
	t.Helper()
	rows, err := raw(t, w).Query("SELECT raw FROM attempts")
	if err != nil {
		t.Error(err)
		return false
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			t.Error(err)
		}
		if bytes.Equal(b, sent) {
			return true
		}
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
	return false
}

// A node that has lost a receipt does not make a pull happen again: only its account nonce guards it.
func TestPullWhoseReceiptIsLost(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, src := pulling(w)
		lost := &atomic.Bool{}
		c := process(t, w, func(d *core.Deps) { d.Chain = observed{Chain: d.Chain, lost: lost} })
		lost.Store(true)
		must(w, c.TopUps.RunDue(w.Ctx))
		must(w, c.Operations.AdvanceDue(w.Ctx))
		for range 3 {
			w.Mine(12)
			must(w, c.Operations.AdvanceDue(w.Ctx))
			must(w, c.Operations.Rebroadcast(w.Ctx))
		}
		w.Mine(1)
		if got := w.Net.Balance(src.at); got != 90*money.One {
			t.Errorf("the source has %s", got)
		}
		lost.Store(false)
		ended(w, p, a.ID)
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 10*money.One {
			t.Errorf("%+v", got.Wallet)
		}
		w.Balanced()
	})
}

// Two processes that find the same pull at one time send it once.
func TestPullIsCarriedByOne(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, src := pulling(w)
		var once sync.Once
		slow := process(t, w, func(d *core.Deps) {
			d.Chain = observed{Chain: d.Chain, simulate: func() {
				once.Do(func() { must(w, w.Core.Operations.AdvanceDue(w.Ctx)) })
			}}
		})
		must(w, slow.TopUps.RunDue(w.Ctx))
		must(w, slow.Operations.AdvanceDue(w.Ctx))
		w.Mine(1)
		ended(w, p, a.ID)
		w.Mine(1)
		if got := w.Net.Balance(src.at); got != 90*money.One {
			t.Errorf("the source has %s", got)
		}
		w.Balanced()
	})
}
