package core

import (
	"context"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/payee"
	"bursar/money"
	"bursar/pay"
)

// What a policy does about payees and prices that are not as before.

// memory is what an organisation has paid before, as far as a call's offers are concerned.
type memory struct {
	price  *ent.Price      // of the route; nil: never
	payees map[string]bool // of the offers, to whom the host was paid
	last   int64           // the number of the host's newest payee; 0: it is not asked for, or the host was never paid
}

// payee reports whether the host was paid to whom an offer names.
func (m *memory) payee(o pay.Offer) bool {
	return m.payees[o.PayTo.Hex()] || (m.price != nil && m.price.Payee == o.PayTo.Hex())
}

// usual is what the price of the route is compared with from now on, until it is charged.
func (m *memory) usual(o pay.Offer) money.USDC {
	if m.price == nil {
		return o.Amount
	}
	return *m.price.Usual
}

// recollect reads what is known of the places that offers would be paid to. A route that is paid as it was the last time
// needs no query of its own.
func (f *Payments) recollect(ctx context.Context, c *call, offers []pay.Offer) (*memory, error) {
	m := &memory{payees: map[string]bool{}}
	if c.recall.in == nil { // the route was free before
		f.recallPrice(ctx, c)
	}
	var err error
	if m.price, err = c.remembered(ctx); err != nil {
		return nil, err
	}
	var others []string
	for _, o := range offers {
		if !m.payee(o) {
			others = append(others, o.PayTo.Hex())
		}
	}
	if len(others) == 0 {
		return m, nil
	}
	// The newest first: whoever is added afterwards has another number, and the hold finds out.
	newest, err := f.db.readEnt.Payee.Query().Where(payee.HostID(c.place.host)).Order(payee.ByNumber(desc())).First(ctx)
	if ent.IsNotFound(err) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.last = newest.Number
	paid, err := f.db.readEnt.Payee.Query().Where(payee.HostID(c.place.host), payee.AddressIn(others...)).All(ctx)
	for _, p := range paid {
		m.payees[p.Address] = true
	}
	return m, err
}

// cautions are the rules that an offer falls under.
func (c *call) cautions(o pay.Offer, m *memory) []policy.Finding {
	before := policy.Known{Payee: m.payee(o), Host: m.last > 0 || m.price != nil}
	if m.price != nil {
		before.Price = m.price.Usual
	}
	return c.budget.Agent.Judge(c.target.paid(), o.PayTo.Hex(), o.Amount, before)
}

// compared puts the rules of caution that are set, and what is only noted, into the trace.
func (c *call) compared(d *decision) {
	set := c.budget.Agent.Caution
	found := map[policy.Rule]policy.Finding{}
	c.why.Notes = append([]string(nil), d.offer.Notes...)
	if c.ahead != "" {
		c.why.Notes = append(c.why.Notes, c.ahead)
	}
	for _, f := range d.found {
		found[f.Rule] = f
		if f.Reaction == policy.Note {
			c.why.Notes = append(c.why.Notes, f.Text)
		}
	}
	for _, r := range []struct {
		rule policy.Rule
		set  bool
		most money.USDC
	}{
		{policy.RuleNewPayee, !set.NewPayee.Notes(), 0},
		{policy.RuleChangedPayee, !set.ChangedPayee.Notes(), 0},
		{policy.RulePriceJump, set.PriceMatters() && d.memory.price != nil, d.mostBefore(set)},
		{policy.RuleApproveAbove, set.ApproveAbove != nil, pointed(set.ApproveAbove)},
	} {
		if !r.set {
			continue
		}
		f, hit := found[r.rule]
		rule := TracedRule{Rule: string(r.rule), OK: !hit || (f.Reaction == policy.Approve && d.approval != nil)}
		if r.rule == policy.RulePriceJump || r.rule == policy.RuleApproveAbove {
			rule.Requested, rule.Max = d.offer.Amount, r.most
		}
		c.why.Rules = append(c.why.Rules, rule)
	}
	if d.approval != nil {
		c.why.ApprovalID = &d.approval.ID
	}
}

func (d *decision) mostBefore(set policy.Caution) money.USDC {
	if d.memory.price == nil {
		return 0
	}
	return set.MostOf(*d.memory.price.Usual)
}

func pointed(a *money.USDC) money.USDC {
	if a == nil {
		return 0
	}
	return *a
}

// paymentRow is the row of a payment; a price that was judged to be no jump is held to that.
func (c *call) paymentRow(t *ent.Transaction, d *decision) ledger.Row {
	set := c.budget.Agent.Caution
	if !set.PriceMatters() || d.fell(policy.RulePriceJump) {
		return addPayment(t, nil, 0)
	}
	return addPayment(t, &c.place.price, set.Percent())
}

// fell reports whether the offer falls under a rule.
func (d *decision) fell(r policy.Rule) bool {
	for _, f := range d.found {
		if f.Rule == r {
			return true
		}
	}
	return false
}

// undecided reports whether a person must say yes, and has not.
func (d *decision) undecided() bool {
	does, _ := policy.Strongest(d.found)
	return does == policy.Approve && d.approval == nil
}
