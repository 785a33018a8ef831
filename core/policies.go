package core

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/spendingpolicy"
	"bursar/money"
)

// Policies read and write what an agent may spend.
type Policies struct{ *store }

const (
	maxServices    = 100 // names in each list
	maxServiceName = 255 // characters
)

// PolicyInput is a partial update; null clears a limit.
type PolicyInput struct {
	SpendingCap, DailyLimit, MonthlyLimit, PerCallMax Optional[money.USDC]
	AllowedServices, BlockedServices                  *[]string
	RequireSession                                    *bool
}

func (in *PolicyInput) validate() error {
	for _, l := range []Optional[money.USDC]{in.SpendingCap, in.DailyLimit, in.MonthlyLimit, in.PerCallMax} {
		if l.Value != nil && (*l.Value < 0 || *l.Value > money.Max) {
			return E(InvalidRequest, "Limits must lie between 0 and %s", money.Max)
		}
	}
	for _, list := range []*[]string{in.AllowedServices, in.BlockedServices} {
		if list == nil {
			continue
		}
		if len(*list) > maxServices {
			return E(InvalidRequest, "A list of services may have at most %d names", maxServices)
		}
		for i, name := range *list {
			(*list)[i] = strings.TrimSpace(name)
			if (*list)[i] == "" || len(name) > maxServiceName {
				return E(InvalidRequest, "A service name must have 1 to %d characters", maxServiceName)
			}
		}
	}
	return nil
}

// Get returns an agent's policy.
func (s *Policies) Get(ctx context.Context, p Principal, agentID uuid.UUID) (*ent.SpendingPolicy, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	a, err := of(p, s.db.readEnt).agent(agentID).WithPolicy().Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	return a.Edges.Policy, nil
}

// Update merges the input into an agent's policy and returns the whole of it. It applies to every hold made
// after the commit.
func (s *Policies) Update(ctx context.Context, p Principal, agentID uuid.UUID, in PolicyInput) (*ent.SpendingPolicy, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	if err := in.validate(); err != nil {
		return nil, err
	}
	err := s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if _, err := of(p, tx.Client).agent(agentID).Only(ctx); err != nil {
			return missing(err, "Agent wallet")
		}
		return setPolicy(ctx, tx, agentID, in)
	})
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, p, agentID)
}

func setPolicy(ctx context.Context, tx *Tx, agentID uuid.UUID, in PolicyInput) error {
	if err := in.validate(); err != nil {
		return err
	}
	u := tx.SpendingPolicy.Update().Where(spendingpolicy.AgentID(agentID)).AddVersion(1)
	set(in.SpendingCap, func(v money.USDC) { u.SetSpendingCap(v) }, func() { u.ClearSpendingCap() })
	set(in.DailyLimit, func(v money.USDC) { u.SetDailyLimit(v) }, func() { u.ClearDailyLimit() })
	set(in.MonthlyLimit, func(v money.USDC) { u.SetMonthlyLimit(v) }, func() { u.ClearMonthlyLimit() })
	set(in.PerCallMax, func(v money.USDC) { u.SetPerCallMax(v) }, func() { u.ClearPerCallMax() })
	if in.AllowedServices != nil {
		u.SetAllowedServices(slices.Clone(*in.AllowedServices))
	}
	if in.BlockedServices != nil {
		u.SetBlockedServices(slices.Clone(*in.BlockedServices))
	}
	if in.RequireSession != nil {
		u.SetRequireSession(*in.RequireSession)
	}
	return u.Exec(ctx)
}

// rules turns the stored policy into the pure one.
func rules(sp *ent.SpendingPolicy) policy.Policy {
	return policy.Policy{
		SpendingCap: sp.SpendingCap, DailyLimit: sp.DailyLimit, MonthlyLimit: sp.MonthlyLimit, PerCallMax: sp.PerCallMax,
		Allowed: sp.AllowedServices, Blocked: sp.BlockedServices, RequireSession: sp.RequireSession,
	}
}
