package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/attempt"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// usurper uses the relayer's next account nonce for a transaction of its own, once the program has signed for that nonce
// and before it has sent anything.
type usurper struct {
	*coretest.World
	back    uint64             // the block before it
	carrier *types.Transaction // that cannot be mined any more
}

func usurped(w *coretest.World) *usurper {
	u := &usurper{World: w}
	w.Core = another(w, core.StepStored, u.take)
	return u
}

func (u *usurper) take() {
	tx, err := u.DB.Begin(u.Ctx)
	must(u.World, err)
	signed, err := tx.Client.Attempt.Query().Order(attempt.ByCreatedAt(), attempt.ByID()).All(u.Ctx)
	must(u.World, tx.SQL.Rollback())
	must(u.World, err)
	last := signed[len(signed)-1]
	u.carrier, u.back = new(types.Transaction), u.Height()
	must(u.World, u.carrier.UnmarshalBinary(last.Raw))
	fees := evm.Fees{TipWei: last.TipWei, CapWei: last.CapWei}
	raw, hash, err := evm.SignTx(u.Deps.RelayerKey, u.Net.Network().ChainID, u.carrier.Nonce(), fees, evm.Call{To: u.Relayer, Gas: 21_000})
	must(u.World, err)
	must(u.World, u.Net.Send(u.Ctx, raw))
	u.Net.Mined(hash)
}

// twice lets the second pass come to everything that is on the chain.
func (u *usurper) twice() {
	u.T.Helper()
	u.Mine(75)
	must(u.World, u.Core.Funding.ReadChain(u.Ctx))
	must(u.World, u.Core.Funding.Recheck(u.Ctx))
	u.Settle()
}

// undo abandons the usurper's block, and the carrier's bytes land after all. That is so many blocks back that the node has
// forgotten all other transactions in them, the usurper's too.
func (u *usurper) undo() {
	u.T.Helper()
	height := u.Height()
	to, err := u.Net.BlockByNumber(u.Ctx, u.back)
	must(u.World, err)
	must(u.World, u.Net.Node.Replace(to.Hash, u.carrier))
	for u.Height() <= height {
		u.Mine(1)
	}
	for range 2 {
		u.Settle()
		must(u.World, u.Core.Operations.Rebroadcast(u.Ctx))
	}
	u.Settle()
}

func operations(w *coretest.World, kind operation.Kind) []*ent.Operation {
	w.T.Helper()
	tx, err := w.DB.Begin(w.Ctx)
	must(w, err)
	defer func() { _ = tx.SQL.Rollback() }()
	all, err := tx.Client.Operation.Query().Where(operation.KindEQ(kind)).Order(operation.ByCreatedAt()).All(w.Ctx)
	must(w, err)
	return all
}

// A top-up whose nonce a stranger has used ends, once that is final, and the next is a new one. When the chain goes back
// behind the stranger's block and takes the first one after all, it is booked as what it is: two were made.
func TestTopUpWhoseNonceIsTaken(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		src := newPurse(w, 100*money.One)
		src.approve(w.Relayer, 100*money.One)
		src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
		w.Settle()
		u := usurped(w)
		must(w, w.Core.TopUps.RunDue(w.Ctx))
		must(w, w.Core.Operations.AdvanceDue(w.Ctx))
		w.Mine(20)
		w.Settle()
		if h := history(w, p, a.ID, transaction.KindAutoTopup); len(h) != 1 || h[0].Status != transaction.StatusPending {
			t.Fatalf("before that is final: %+v", h)
		}
		u.twice()
		h := history(w, p, a.ID, transaction.KindAutoTopup)
		got := agentOf(w, p, a.ID)
		if len(h) != 1 || h[0].Status != transaction.StatusFailed || !strings.Contains(h[0].Reason, "used by another transaction") || got.AutoTopupError != h[0].Reason {
			t.Fatalf("it has not ended: %+v %q", h, got.AutoTopupError)
		}
		w.Pass(time.Minute)
		topUps(w, p, a.ID)
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 10*money.One || got.AutoTopupError != "" {
			t.Fatalf("the next: %+v %q", got.Wallet, got.AutoTopupError)
		}
		u.undo()
		ended(w, p, a.ID)
		got, h = agentOf(w, p, a.ID), history(w, p, a.ID, transaction.KindAutoTopup, transaction.KindFund)
		if got.Wallet.Posted != 20*money.One || got.Wallet.Available != 20*money.One || w.Net.Balance(src.at) != 80*money.One || len(h) != 2 {
			t.Errorf("%+v, the source has %s, %d records", got.Wallet, w.Net.Balance(src.at), len(h))
		}
		for _, v := range h {
			if v.Kind != transaction.KindAutoTopup || v.Status != transaction.StatusSuccess || v.Amount != 10*money.One || v.TxHash == nil || v.Reason != "" {
				t.Errorf("%+v", v)
			}
		}
		for _, op := range operations(w, operation.KindTopUp) {
			if op.Status != operation.StatusFinal || op.Error != "" {
				t.Errorf("%+v", op)
			}
		}
		w.Balanced()
	})
}

// A gas grant whose nonce a stranger has used ends, and is never made anew: should its bytes land after all, they are the
// one grant.
func TestGrantWhoseNonceIsTaken(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Mine(2 * depth)
		u := usurped(w)
		a := w.Agent(p, "bot", 2*money.One)
		w.Mine(20)
		w.Settle()
		is := func(when string, want operation.Status, status transaction.Status, grants int64) {
			t.Helper()
			ops, h := operations(w, operation.KindGas), history(w, p, a.ID, transaction.KindGasSponsor)
			wei, err := w.Net.EtherOf(w.Ctx, common.HexToAddress(a.Address))
			must(w, err)
			if len(ops) != 1 || ops[0].Status != want || len(h) != 1 || h[0].Status != status || wei.Int64() != grants*w.Deps.GasGrantWei.Int64() {
				t.Fatalf("%s: %+v %+v, %s wei", when, ops, h, wei)
			}
			w.Balanced()
		}
		is("before that is final", operation.StatusSent, transaction.StatusPending, 0)
		u.twice()
		is("final", operation.StatusFailed, transaction.StatusFailed, 0)
		w.Fund(a, 5*money.One)
		w.Settle()
		is("after more funding", operation.StatusFailed, transaction.StatusFailed, 0)
		u.undo()
		is("the chain has changed its mind", operation.StatusFinal, transaction.StatusSuccess, 1)
	})
}

// A permit has a nonce of its own: it is sent again by another carrier, as long as the token still takes it.
func TestPermitWhoseNonceIsTaken(t *testing.T) {
	for name, spent := range map[string]bool{"still good": false, "sent by somebody else": true} {
		t.Run(name, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				p, _ := w.User("dev@example.com")
				a := w.Agent(p, "bot", 0)
				src := newPurse(w, 100*money.One)
				allow := 15 * money.One
				u := usurped(w)
				in := src.signed(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One}, &allow)
				must(w, consent(w, p, in))
				must(w, w.Core.Operations.AdvanceDue(w.Ctx))
				if u.carrier == nil {
					t.Fatal("nothing was signed")
				}
				if spent {
					src.call(evm.PermitData(src.at, w.Relayer, allow, in.Permit.Deadline.Unix(), common.FromHex(in.Permit.Signature)))
				}
				w.Mine(20)
				for range 3 {
					w.Settle()
				}
				want := map[bool]operation.Status{false: operation.StatusFinal, true: operation.StatusFailed}[spent]
				if ops := operations(w, operation.KindPermit); len(ops) != 1 || ops[0].Status != want {
					t.Fatalf("%+v", ops)
				}
				w.Pass(time.Minute)
				topUps(w, p, a.ID)
				left, err := w.Net.Allowance(w.Ctx, src.at, w.Relayer)
				if got := agentOf(w, p, a.ID); err != nil || got.Wallet.Posted != 10*money.One || got.AutoTopupError != "" || left != 5*money.One {
					t.Errorf("%+v %q, %s left %v", got.Wallet, got.AutoTopupError, left, err)
				}
				w.Balanced()
			})
		})
	}
}
