package core

import (
	"context"
	"database/sql"
	"slices"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/money"
	"bursar/pay"
)

// Verdict is what a dry run tells: the price, and whether it would be paid now. Nothing is reserved for it.
type Verdict struct {
	Allowed bool
	Price   money.USDC // of the offer that would be taken; zero when there is none
	Code    string     // of the error that a call would get; empty when it is allowed
	Reason  string
	TraceDetail
}

// verdict is the one that an error stands for; nil: yes.
func (c *call) verdict(e *Error) *Verdict {
	v := &Verdict{Allowed: true, Price: c.price()}
	if e != nil {
		c.blame(e)
		v.Allowed, v.Code, v.Reason = false, string(e.Code), e.Message
	}
	v.TraceDetail = c.why
	v.Notes = append(slices.Clip(v.Notes), c.why.Login.notes()...)
	return v
}

// dryRun judges the cheapest offer by the figures of now, without a lock: a real call may find others. x is the challenge;
// nil when the price was known without.
func (f *Payments) dryRun(ctx context.Context, c *call, x *exchange, q pay.Quote) (*FetchResult, error) {
	d, err := f.judge(ctx, c, f.protocols, q, uuid.New())
	if err == nil {
		err = f.wouldHold(ctx, c, d.offer.Amount)
	}
	if err == nil && d.undecided() {
		err = d.wouldRequire()
	}
	if err != nil && AsError(err).Code == ServerError {
		x.end()
		return nil, err
	}
	r, broke := f.result(c, &pay.Response{}, nil), error(nil)
	if x != nil {
		r, broke = f.deliver(ctx, c, x, nil)
	}
	switch {
	case broke != nil:
		return nil, broke
	case err != nil:
		r.Verdict = c.verdict(AsError(err))
	default:
		r.Verdict = c.verdict(nil)
	}
	return r, nil
}

// wouldHold asks the limits and the balance as a hold does.
func (f *Payments) wouldHold(ctx context.Context, c *call, amount money.USDC) error {
	now := f.now()
	counters := c.budget.Counters(now)
	spent := map[string]money.USDC{}
	err := f.db.list(ctx, "SELECT id, spent FROM usages WHERE id ", "text", append(counters.Raise, counters.Read...), func(rows *sql.Rows) error {
		var id string
		var amount money.USDC
		err := rows.Scan(&id, &amount)
		spent[id] = amount
		return err
	})
	if err != nil {
		return err
	}
	a, err := f.db.readEnt.Account.Get(ctx, c.account)
	if err != nil {
		return err
	}
	weighed := c.budget.Weigh(now, amount, spent)
	left := ledger.StateOf(a).Available()
	c.why.Rules = append(append(c.why.Rules, traced(weighed)...), figure(ruleBalance, 0, amount, left))
	switch {
	case now.Unix() > a.HoldsUntil:
		return ledger.ErrNoHolds
	case left < amount:
		return ledger.ErrInsufficient
	}
	return policy.Verdict(weighed)
}
