package core_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
)

// Payments by the hash of a transfer in random histories. A call waits for a block, so blocks are sealed meanwhile.

// aheadCall is one that may be made again.
type aheadCall struct {
	payer        uuid.UUID
	from, path   string
	does, number string // the number names the call to the till
	key          *string
	at           time.Time
}

// names has an agent's policy name the services of the test, all of which are on this host: else nothing is sent ahead.
func (m *modelRun) names(ctx context.Context, c *core.Core, id uuid.UUID) error {
	_, err := c.Policies.Update(ctx, m.p, id, core.PolicyInput{AllowedServices: &[]string{"127.0.0.1", "meter", "gateway/business"}})
	return err
}

const aheadName = "send ahead"

// mines tells the deeds that wait for a block.
func (d deed) mines() bool { return strings.HasPrefix(d.name, aheadName) }

// during seals blocks while f does deeds of which any waits for one.
func (m *modelRun) during(deeds []deed, f func()) {
	if slices.ContainsFunc(deeds, deed.mines) {
		m.alive(f)
		return
	}
	f()
}

// alive seals blocks while f runs, and after a while lets another process do what jobs are for: a call that waits for a
// block waits long otherwise, for what the network has lost or the token refuses.
func (m *modelRun) alive(f func()) {
	ctx, stop := context.WithCancel(m.w.Ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			c := m.w.Core
			for _, do := range []func(context.Context) error{c.Operations.Rebroadcast, c.Funding.ReadChain, c.Funding.ExpireOperations} {
				if err := do(ctx); err != nil && ctx.Err() == nil {
					m.note("  the third process: %v", err)
				}
			}
		}
	})
	m.mining(f)
}

// sendAhead draws a call of the till. Every second one is the call before once more, perhaps under its key.
func (m *modelRun) sendAhead(payer uuid.UUID, from string) deed {
	c := aheadCall{
		payer: payer, from: from, path: fmt.Sprintf("%d/%d", (1+m.IntN(2))*int(cent), m.IntN(2)), number: fmt.Sprintf("%d-%d", m.step, m.Uint32()),
		does: []string{"200", "200", "200", "blind", "404", "500", "500", "0"}[m.IntN(8)], at: m.w.Clock.Now(),
	}
	last, again, keyed := m.till.last, m.one(2), m.one(4)
	if last != nil && last.from != "" && !m.one(8) {
		id := uuid.MustParse(last.from)
		again = again && read(m, func(ctx context.Context, c *ent.Client) (*ent.Session, error) { return c.Session.Get(ctx, id) }).Status == session.StatusOpen
	}
	switch {
	case last != nil && again && keyed && last.key != nil && c.at.Sub(last.at) < 20*time.Hour: // the same request
		c = *last
	case last != nil && again:
		c.payer, c.from, c.path = last.payer, last.from, last.path
	case keyed:
		c.key = &c.number
	}
	m.till.last = &c
	name := fmt.Sprintf("%s %s from %q of %s as %s, key %t, the till does %s", aheadName, c.path, c.from, c.payer, c.number, c.key != nil, c.does)
	url := fmt.Sprintf("%s/%s?does=%s&call=%s", m.till.link, c.path, c.does, c.number)
	return deed{name, func(ctx context.Context, app *core.Core) error {
		r, err := app.Payments.Fetch(ctx, m.p, core.FetchInput{
			Agent: c.payer.String(), SessionID: c.from, URL: url, Timeout: 2 * time.Second, IdempotencyKey: c.key,
		})
		if err == nil {
			m.note("  the till answers %d to %s, which it paid: %t", r.Status, c.number, r.Paid)
		}
		return err
	}}
}

// transfers are the payments by transfer.
func (p pages) transfers() (out []*ent.Transaction) {
	for _, t := range p.history {
		if t.ToAddress == tillAt.Hex() && t.Kind == transaction.KindPayment {
			out = append(out, t)
		}
	}
	return out
}

// owed are the transfers that a call may go on with, by what makes it the same.
func (m *modelRun) owed(p pages) map[string]bool {
	now, free, out := m.w.Clock.Now(), map[uuid.UUID]bool{}, map[string]bool{}
	for _, o := range p.ops {
		free[o.TransactionID] = o.Holder == nil || o.HeldUntilUnix < now.Unix()
	}
	for _, t := range p.transfers() {
		due := t.UpstreamStatus == 0 || t.UpstreamStatus == http.StatusPaymentRequired || t.UpstreamStatus >= http.StatusInternalServerError
		recent := t.CreatedAt.After(now.Add(-50 * time.Minute)) // a call may take minutes here
		if free[t.ID] && due && recent && t.Status != transaction.StatusFailed && t.Receipt == "" {
			out[sameAs(t)] = true
		}
	}
	return out
}

func sameAs(t *ent.Transaction) string {
	return fmt.Sprintf("%s %v %s %s", t.AgentID, t.SessionID, t.Endpoint, t.Quoted)
}

// paidOnce holds what one deed has done to what was there before: nothing is paid anew that is owed, and at most one
// payment is made.
func (m *modelRun) paidOnce(before pages) (check func()) {
	owed, known := m.owed(before), map[uuid.UUID]bool{}
	for _, t := range before.transfers() {
		known[t.ID] = true
	}
	return func() {
		m.t.Helper()
		n := 0
		for _, t := range m.pages().transfers() {
			if known[t.ID] {
				continue
			}
			if n++; n > 1 {
				m.fail("one call has made %d payments", n)
			}
			if owed[sameAs(t)] {
				m.fail("transfer %s was made while one of the same was owed", t.ID)
			}
		}
	}
}

// sentAhead holds the transfers to their operations, to what the till was shown, and to the chain.
func (m *modelRun) sentAhead(p pages) {
	m.t.Helper()
	ops := map[uuid.UUID]*ent.Operation{}
	for _, o := range p.ops {
		if o.Kind == operation.KindTransfer {
			ops[o.TransactionID] = o
		}
	}
	var paid money.USDC
	for _, t := range p.transfers() {
		o := ops[t.ID]
		if final := o.Status == operation.StatusFinal; t.Amount != map[bool]money.USDC{true: t.Quoted}[final] {
			m.fail("transfer %s is %s at %s, its operation is %s", t.ID, t.Status, t.Amount, o.Status)
		}
		paid += t.Amount
		if t.Amount == 0 {
			continue
		}
		if r, err := m.w.Net.Receipt(m.w.Ctx, common.HexToHash(*t.TxHash)); err != nil || !pays(m.w.Net.Network().USDC, r, t.Quoted) {
			m.fail("transfer %s is not what its transaction %s has moved: %v", t.ID, *t.TxHash, err)
		}
	}
	for _, t := range p.history { // what was given up, and came after all
		if t.Kind == transaction.KindDrain && t.ToAddress == tillAt.Hex() {
			paid += t.Amount
		}
	}
	if has := m.w.Net.Balance(tillAt); has != paid {
		m.fail("the till has %s, paid are %s", has, paid)
	}
	of := m.hashes(ops)
	for call, hashes := range m.till.shown {
		payments := map[uuid.UUID]bool{}
		for h := range hashes {
			payments[of[h]] = true
		}
		if len(payments) != 1 || payments[uuid.Nil] {
			m.fail("call %s has shown the till %v, of the payments %v", call, hashes, payments)
		}
	}
}

// hashes tells whose the transactions of the relayers are: the payment of the one transfer that each carries.
func (m *modelRun) hashes(ops map[uuid.UUID]*ent.Operation) map[common.Hash]uuid.UUID {
	m.t.Helper()
	out := map[common.Hash]uuid.UUID{}
	for _, a := range read(m, func(ctx context.Context, c *ent.Client) ([]*ent.Attempt, error) { return c.Attempt.Query().All(ctx) }) {
		for id, o := range ops {
			if o.AuthNonce == nil || !bytes.Contains(a.Raw, common.HexToHash(*o.AuthNonce).Bytes()) {
				continue
			}
			if other, met := out[common.HexToHash(a.Hash)]; met {
				m.fail("the transaction %s carries the transfers %s and %s", a.Hash, id, other)
			}
			out[common.HexToHash(a.Hash)] = id
		}
	}
	return out
}
