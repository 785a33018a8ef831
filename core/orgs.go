package core

import (
	"context"

	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/org"
	"bursar/ent/usage"
	"bursar/money"
)

// Orgs are tenants, with limits over all their agents together.
type Orgs struct{ *store }

// OrgView is an organisation and what its agents have spent together, holds included.
type OrgView struct {
	*ent.Org
	SpentToday, SpentThisMonth, SpentTotal money.USDC // UTC day, UTC month, ever
}

// OrgLimitsInput is a partial update; null clears a limit.
type OrgLimitsInput struct {
	DailyLimit, MonthlyLimit, SpendingCap Optional[money.USDC]
}

func (in OrgLimitsInput) validate() error {
	for _, l := range []Optional[money.USDC]{in.DailyLimit, in.MonthlyLimit, in.SpendingCap} {
		if l.Value != nil && (*l.Value < 0 || *l.Value > money.Max) {
			return E(InvalidRequest, "Limits must lie between 0 and %s", money.Max)
		}
	}
	return nil
}

// Get returns the caller's organisation.
func (o *Orgs) Get(ctx context.Context, p Principal) (*OrgView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, o.db.readEnt).org().Only(ctx)
	if err != nil {
		return nil, missing(err, "Organisation")
	}
	v := &OrgView{Org: found}
	today, month, ever := policy.OrgCounters(found.ID.String(), o.clock())
	counters, err := o.db.readEnt.Usage.Query().Where(usage.IDIn(today, month, ever)).All(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range counters {
		switch u.ID {
		case today:
			v.SpentToday = u.Spent
		case month:
			v.SpentThisMonth = u.Spent
		case ever:
			v.SpentTotal = u.Spent
		}
	}
	return v, nil
}

// UpdateLimits merges the input into the organisation's limits. They apply to every hold made after the commit.
func (o *Orgs) UpdateLimits(ctx context.Context, p Principal, in OrgLimitsInput) (*OrgView, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	if p.Role != Owner && p.Role != Admin {
		return nil, E(Forbidden, "Only owners and admins may change the organisation's limits")
	}
	if err := in.validate(); err != nil {
		return nil, err
	}
	err := o.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		u := tx.Org.Update().Where(org.ID(p.OrgID)).AddVersion(1)
		set(in.DailyLimit, func(v money.USDC) { u.SetDailyLimit(v) }, func() { u.ClearDailyLimit() })
		set(in.MonthlyLimit, func(v money.USDC) { u.SetMonthlyLimit(v) }, func() { u.ClearMonthlyLimit() })
		set(in.SpendingCap, func(v money.USDC) { u.SetSpendingCap(v) }, func() { u.ClearSpendingCap() })
		return u.Exec(ctx)
	})
	if err != nil {
		return nil, err
	}
	return o.Get(ctx, p)
}
