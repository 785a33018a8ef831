package core_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/ledger"
	"bursar/core/pricing"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/money"
)

// Metered calls in random histories: of the operator's service, and of a business.

const modelMost = 10 * cent // what a call of the operator's service costs at most

// earner is where the business is paid.
var earner = address("0x00000000000000000000000000000000005e1103")

// meters puts both services into the catalogue. They answer as the URL of a call says.
func (m *modelRun) meters() {
	url := m.w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status")) // of our own making
		switch status {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			<-r.Context().Done()
			return
		}
		rw.WriteHeader(status)
		_, _ = fmt.Fprintf(rw, `{"units":%s}`, r.URL.Query().Get("units"))
	}))
	must(m.w, m.w.Core.Services.Install(m.w.Ctx, []core.ServiceInput{{
		Slug: "meter", Name: "Meter", BaseURL: url, Price: pricing.Price{By: pricing.AnswerField, Field: "units", Unit: cent, Maximum: modelMost},
	}}))
	_, err := m.w.Core.Gateway.Register(m.w.Ctx, m.p, core.RegisterInput{Name: "Business", Wallet: earner.Hex(), WebhookURL: url, PricePerRequest: 3 * cent})
	must(m.w, err)
}

// meter draws a metered call.
func (m *modelRun) meter(payer uuid.UUID, from string) deed {
	name, units := []string{"meter", "business"}[m.IntN(2)], m.IntN(13)
	status := []int{200, 200, 200, 200, 302, 404, 500, 0, 1}[m.IntN(9)]
	if status == 1 && !m.one(4) { // hangs
		status = 200
	}
	in := core.FetchInput{
		Agent: payer.String(), SessionID: from, Service: name, URL: fmt.Sprintf("%d?units=%d&status=%d", m.step, units, status), Timeout: 1e9,
	}
	return deed{fmt.Sprintf("call %s from %q, which counts %d and answers %d", name, from, units, status), func(ctx context.Context, c *core.Core) error {
		r, err := c.Payments.Fetch(ctx, m.p, in)
		if err == nil && r.Payment != nil {
			m.note("  metered payment %s is %s", r.Payment.ID, r.Payment.Status)
		}
		return err
	}}
}

// metered holds the metered payments to their operations and to the chain.
func (m *modelRun) metered(p pages) {
	m.t.Helper()
	final := map[uuid.UUID]bool{} // payments of wallets whose operation is
	var sent, earned money.USDC
	for _, o := range p.ops {
		if o.Kind == operation.KindCharge && o.Status == operation.StatusFinal {
			final[o.TransactionID] = true
		}
		if o.Kind == operation.KindPayout && o.Status == operation.StatusFinal {
			sent += o.Amount
		}
	}
	var treasury, owed money.USDC
	for _, t := range p.history {
		switch {
		case t.Kind == transaction.KindDrain && t.ToAddress == earner.Hex(): // one that was given up, and came after all
			earned += t.Amount
		case t.ServiceID == nil:
		case t.Amount > modelMost || t.Amount > t.Quoted:
			m.fail("metered payment %s costs %s of %s", t.ID, t.Amount, t.Quoted)
		case t.SessionID == nil && (t.Amount > 0) != final[t.ID]:
			m.fail("metered payment %s is %s at %s, its operation is final: %t", t.ID, t.Status, t.Amount, final[t.ID])
		case t.ToAddress == m.w.Platform.Hex():
			treasury += t.Amount
		case t.SessionID != nil:
			owed += t.Amount
		default:
			earned += t.Amount
		}
	}
	if owed != sent {
		m.fail("sessions have paid %s to the business, it was sent %s", owed, sent)
	}
	if has := m.w.Net.Balance(earner); has != earned+sent {
		m.fail("the business has %s, paid are %s and sent %s", has, earned, sent)
	}
	for _, s := range p.sums {
		if s.State.Kind == ledger.Treasury && s.State.Balance() < treasury {
			m.fail("the treasury has %s, metered calls have paid %s", s.State.Balance(), treasury)
		}
	}
}

// owing is a business that waits for its money, or nothing.
func (p pages) owing() string {
	for _, s := range p.sums {
		if s.State.Kind == ledger.Seller && s.State.Balance() != 0 {
			return fmt.Sprintf("account %+v", s.State)
		}
	}
	return ""
}
