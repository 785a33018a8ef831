package core_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// newLateOperation has a movement that the server itself sends for a call given up: its block is gone for good, and the watcher
// has read past its authorization's end. call makes it and says which payment it is and who is paid.
func newLateOperation(t *testing.T, w *coretest.World, session, closed bool, call func(l *late) (uuid.UUID, common.Address)) late {
	t.Helper()
	l := late{b: newBuyerAtDepth(w), session: session, closed: closed, sent: true, node: w.Net.Proxy()}
	l.key, l.settle = w.Facilitator()
	w.Net.Fund(w.Platform, deposit) // the operator's own, that a payment after the refund is made with
	w.Core = through(t, w, l.node)
	w.Settle()
	w.Head()
	l.before = w.Height()
	l.id, l.payTo = call(&l)
	l.proof = proofOf(operationOf(t, w, l.id))
	w.Replace(l.before, w.Deps.RelayerKey)
	l.giveUp()
	l.is(t, "given up", 0)
	if closed {
		w.Close(l.b.p, l.b.session.ID)
		w.Settle()
		l.is(t, "closed", 0)
	}
	return l
}

func operationOf(t *testing.T, w *coretest.World, payment uuid.UUID) *ent.Operation {
	t.Helper()
	tx, err := w.DB.Begin(w.Ctx)
	must(w, err)
	defer func() { _ = tx.SQL.Rollback() }()
	op, err := tx.Client.Operation.Query().Where(operation.TransactionID(payment)).Only(w.Ctx)
	must(w, err)
	return op
}

// proofOf is an operation's authorization, which anybody who has seen it may carry.
func proofOf(op *ent.Operation) pay.Proof {
	return pay.Proof{Signature: op.Signature, Authorization: evm.Authorization{
		From: common.HexToAddress(op.FromAddress), To: common.HexToAddress(op.ToAddress), Value: op.Amount, ValidBefore: op.ValidBeforeUnix,
		Nonce: common.HexToHash(*op.AuthNonce),
	}}
}

// aTransfer is a call that is paid by one that is sent ahead, and served.
func (l *late) aTransfer() (uuid.UUID, common.Address) {
	w := l.b.w
	till, link := newTillOf(w)
	services := []string{"127.0.0.1"}
	_, err := w.Core.Policies.Update(w.Ctx, l.b.p, l.b.agent.ID, core.PolicyInput{AllowedServices: &services})
	must(w, err)
	in := core.FetchInput{URL: link}
	if l.session {
		in.SessionID = l.b.session.ID.String()
	}
	r, err := w.Core.Payments.Fetch(w.Ctx, l.b.p, in)
	must(w, err)
	return r.Payment.ID, till.to
}

// useAtOnce puts the authorization into a block, which several processes read at once.
func (l late) useAtOnce(t *testing.T) {
	t.Helper()
	w := l.b.w
	_, err := l.settle(w.Ctx, l.proof)
	must(w, err)
	w.Mine(depth + 1)
	var all sync.WaitGroup
	for range 3 {
		other := process(t, w, nil)
		all.Go(func() {
			if err := other.Funding.ReadChain(w.Ctx); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.Settle()
}

// A transfer that was given up is mined after all, is un-mined and mined again, is sent again, and is un-mined for good. It is
// the payment's, and whoever had its money pays: the wallet, the session, or suspense for a session that has none left.
func TestTransferThatWasGivenUpIsMined(t *testing.T) {
	for name, c := range map[string]struct{ session, closed bool }{
		"from a wallet":                  {},
		"from a session":                 {session: true},
		"from a session that has closed": {session: true, closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				l := newLateOperation(t, w, c.session, c.closed, (*late).aTransfer)
				other := l
				other.key, other.settle = w.Facilitator()
				back := w.Height()
				l.useAtOnce(t)
				l.is(t, "mined after all", cent)
				l.told(t, 2)
				w.Replace(back) // its transaction comes again
				w.Mine(depth + 1)
				w.Settle()
				l.is(t, "mined again", cent)
				w.Replace(back, l.key)
				l.giveUp()
				l.is(t, "un-mined, and given up again", 0)
				other.useAtOnce(t)
				l.is(t, "mined once more", cent)
				w.Replace(back, other.key)
				w.Mine(depth + 1)
				w.Settle() // the relayer sends it, while the token takes it
				w.Mine(depth + 1)
				w.Settle()
				l.is(t, "sent again", cent)
			})
		})
	}
}

// What a wallet owes for a metered call is given up after a day, and is mined after all: it is charged, to whoever sells.
func TestChargeThatWasGivenUpIsMined(t *testing.T) {
	for _, service := range []string{"model", "weather"} {
		t.Run(service, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				m, _, _, _ := metersOf(t, w)
				l := late{node: w.Net.Proxy(), b: buyer{w: w, p: m.p, agent: m.agent}}
				l.key, l.settle = w.Facilitator()
				w.Core = through(t, w, l.node)
				w.Close(m.p, m.session.ID) // else it expires below
				w.Settle()
				before := w.Height()
				r, err := m.call(false, service, "complete?tokens=1")
				must(w, err)
				w.Net.Mined(common.HexToHash(*r.TxHash)) // so that another transaction takes its place
				l.id = r.Payment.ID
				l.proof = proofOf(operationOf(t, w, l.id))
				w.Replace(before, w.Deps.RelayerKey)
				w.Clock.Ahead(25 * time.Hour)
				back := w.Height()
				for range 2 {
					l.giveUp()
					l.costs(t, m, 0)
					l.useAtOnce(t)
					l.costs(t, m, cent)
					w.Replace(back) // its transaction comes again
					w.Mine(depth + 1)
					w.Settle()
					l.costs(t, m, cent)
					w.Replace(back, l.key)
					back = w.Height()
					l.key, l.settle = w.Facilitator()
				}
			})
		})
	}
}

// costs demands what the metered payment has cost.
func (l late) costs(t *testing.T, m *metering, cost money.USDC) {
	t.Helper()
	w := l.b.w
	got, err := w.Core.Transactions.Get(w.Ctx, m.p, l.id)
	if err != nil || got.Amount != cost || (got.Status == transaction.StatusSuccess) != (cost > 0) {
		t.Errorf("%s %s of %s: %v", got.Status, got.Amount, got.Quoted, err)
	}
	if paid := w.Net.Balance(l.proof.Authorization.To); l.proof.Authorization.To != w.Platform && paid != cost {
		t.Errorf("the business has %s", paid)
	}
	if on := w.Net.Balance(common.HexToAddress(m.agent.Address)); agentOf(w, m.p, m.agent.ID).Wallet.Posted != on || agentOf(w, m.p, m.agent.ID).Wallet.Pending != 0 {
		t.Errorf("the wallet has %s on the chain: %+v", on, agentOf(w, m.p, m.agent.ID).Wallet)
	}
	m.sound()
}

// told demands that the payment's ends were told to subscribers so many times, and that the record says of the last one why.
func (l late) told(t *testing.T, times int) {
	t.Helper()
	w := l.b.w
	if n := count(t, raw(t, w), "events WHERE kind = 'payment_settled' AND subject_id = '"+l.id.String()+"'"); n != times {
		t.Errorf("its end was told %d times", n)
	}
	got, err := w.Core.Transactions.Get(w.Ctx, l.b.p, l.id)
	if err != nil || got.Status != transaction.StatusSuccess || got.Reason == "" {
		t.Errorf("%+v %v", got, err)
	}
	if records := history(w, l.b.p, l.b.agent.ID, transaction.KindDrain); len(records) != 0 {
		t.Errorf("it is in the history as anybody's movement too: %v", records)
	}
}
