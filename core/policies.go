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
type Policies struct {
	*store
	replays chan struct{} // that are under way
}

const (
	maxServices    = 100 // names in each list
	maxServiceName = 255 // characters
)

// PolicyInput is a partial update; null clears a limit.
type PolicyInput struct {
	SpendingCap, DailyLimit, MonthlyLimit, PerCallMax Optional[money.USDC]
	AllowedServices, BlockedServices                  *[]string
	RequireSession                                    *bool

	NewPayee, ChangedPayee, PriceJump *Reaction // what happens about them
	PriceJumpPercent                  *int64    // of the usual price may be asked without being a jump: 100 to 1000
	ApproveAbove                      Optional[money.USDC]

	SignIn *bool // the wallet may sign in where it has paid before
}

// Reaction is what a policy does about something that a person may want to know.
type Reaction = policy.Reaction

// The reactions.
const (
	NoteIt    = policy.Note    // it is in the trace, and paid
	RefuseIt  = policy.Refuse  // it is not paid
	ApproveIt = policy.Approve // it is paid when a person says yes
)

func (in *PolicyInput) validate() error {
	for _, l := range []Optional[money.USDC]{in.SpendingCap, in.DailyLimit, in.MonthlyLimit, in.PerCallMax, in.ApproveAbove} {
		if l.Value != nil && (*l.Value < 0 || *l.Value > money.Max) {
			return E(InvalidRequest, "Limits must lie between 0 and %s", money.Max)
		}
	}
	if err := in.validateCaution(); err != nil {
		return err
	}
	for _, list := range []*[]string{in.AllowedServices, in.BlockedServices} {
		if list == nil {
			continue
		}
		if len(*list) > maxServices {
			return E(InvalidRequest, "A list of services may have at most %d names", maxServices)
		}
		for i, name := range *list {
			rule, ok := serviceRule(name)
			switch {
			case strings.TrimSpace(name) == "" || len(name) > maxServiceName:
				return E(InvalidRequest, "A service name must have 1 to %d characters", maxServiceName)
			case !ok:
				return E(InvalidRequest, "%q names no service: an entry is a host, with or without a port (api.exa.ai, 127.0.0.1:8402), a name that ends hosts (exa.ai), or begins them (exa), or a name of the catalogue (gateway/weather), without wildcards and paths", name)
			}
			(*list)[i] = rule
		}
	}
	return nil
}

// caution reports whether the input is about payees, prices and approvals.
func (in *PolicyInput) caution() bool {
	return in.NewPayee != nil || in.ChangedPayee != nil || in.PriceJump != nil || in.PriceJumpPercent != nil || in.ApproveAbove.Set
}

func (in *PolicyInput) validateCaution() error {
	for _, r := range []*Reaction{in.NewPayee, in.ChangedPayee, in.PriceJump} {
		if r != nil && *r != NoteIt && *r != RefuseIt && *r != ApproveIt {
			return E(InvalidRequest, "%q is not note, refuse or approve", *r)
		}
	}
	if p := in.PriceJumpPercent; p != nil && (*p < policy.MinJumpPercent || *p > policy.MaxJumpPercent) {
		return E(InvalidRequest, "A price jump must lie between %d and %d percent", policy.MinJumpPercent, policy.MaxJumpPercent)
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
// after the commit. What a person must say yes to is set by a login: a program that could lift it would say yes itself.
func (s *Policies) Update(ctx context.Context, p Principal, agentID uuid.UUID, in PolicyInput) (*ent.SpendingPolicy, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	if in.caution() {
		if err := p.needPerson(); err != nil {
			return nil, err
		}
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
	if in.NewPayee != nil {
		u.SetNewPayee(spendingpolicy.NewPayee(*in.NewPayee))
	}
	if in.ChangedPayee != nil {
		u.SetChangedPayee(spendingpolicy.ChangedPayee(*in.ChangedPayee))
	}
	if in.PriceJump != nil {
		u.SetPriceJump(spendingpolicy.PriceJump(*in.PriceJump))
	}
	if in.PriceJumpPercent != nil {
		u.SetPriceJumpPercent(*in.PriceJumpPercent)
	}
	set(in.ApproveAbove, func(v money.USDC) { u.SetApproveAbove(v) }, func() { u.ClearApproveAbove() })
	if in.SignIn != nil {
		u.SetSignIn(*in.SignIn)
	}
	return u.Exec(ctx)
}

// rules turns the stored policy into the pure one.
func rules(sp *ent.SpendingPolicy) policy.Policy {
	return policy.Policy{
		SpendingCap: sp.SpendingCap, DailyLimit: sp.DailyLimit, MonthlyLimit: sp.MonthlyLimit, PerCallMax: sp.PerCallMax,
		Allowed: serviceRules(sp.AllowedServices), Blocked: serviceRules(sp.BlockedServices), RequireSession: sp.RequireSession,
		Caution: policy.Caution{
			NewPayee: Reaction(sp.NewPayee), ChangedPayee: Reaction(sp.ChangedPayee), PriceJump: Reaction(sp.PriceJump),
			PriceJumpPercent: sp.PriceJumpPercent, ApproveAbove: sp.ApproveAbove,
		},
	}
}
