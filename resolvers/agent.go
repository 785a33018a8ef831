package resolvers

import (
	"context"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/graph"
)

func (r query) Agents(ctx context.Context) ([]*core.AgentView, error) {
	return r.Core.Agents.List(ctx, caller(ctx))
}

func (r query) Agent(ctx context.Context, id uuid.UUID) (*core.AgentView, error) {
	return r.Core.Agents.Get(ctx, caller(ctx), id)
}

func (r query) DefaultWallet(ctx context.Context) (*core.AgentView, error) {
	return r.Core.Agents.Default(ctx, caller(ctx))
}

func (r agentFields) BalanceAt(ctx context.Context, a *core.AgentView, at time.Time) (*core.PastBalance, error) {
	return r.Balances.At(ctx, caller(ctx), a.ID, at)
}

func (r query) BalanceOverview(ctx context.Context) (*core.Overview, error) {
	return r.Balances.Overview(ctx, caller(ctx))
}

func (r mutation) CreateAgent(ctx context.Context, in core.CreateAgentInput) (*core.AgentView, error) {
	return r.Agents.Create(ctx, caller(ctx), in)
}

// optional turns gqlgen's form of "absent, null or a value" into core's.
func optional[T any](o graphql.Omittable[*T]) core.Optional[T] {
	return core.Optional[T]{Set: o.IsSet(), Value: o.Value()}
}

func (r mutation) UpdateAgent(ctx context.Context, in graph.UpdateAgentInput) (*core.AgentView, error) {
	return r.Agents.Update(ctx, caller(ctx), in.AgentID, core.UpdateAgentInput{
		Name: in.Name, SpendingCap: optional(in.SpendingCap), DepartmentID: optional(in.DepartmentID),
		AutoTopupThreshold: optional(in.AutoTopupThreshold), AutoTopupAmount: optional(in.AutoTopupAmount), AutoTopupSource: optional(in.AutoTopupSource),
	})
}

// wide is a number as core has it.
func wide(n *int32) *int64 {
	if n == nil {
		return nil
	}
	v := int64(*n)
	return &v
}

// list is a list that was given; null empties it.
func list(o graphql.Omittable[[]string]) *[]string {
	if !o.IsSet() {
		return nil
	}
	v := append([]string{}, o.Value()...)
	return &v
}

func (r mutation) UpdatePolicy(ctx context.Context, in graph.UpdatePolicyInput) (*ent.SpendingPolicy, error) {
	return r.Policies.Update(ctx, caller(ctx), in.AgentID, core.PolicyInput{
		SpendingCap: optional(in.SpendingCap), DailyLimit: optional(in.DailyLimit), MonthlyLimit: optional(in.MonthlyLimit), PerCallMax: optional(in.PerCallMax),
		AllowedServices: list(in.AllowedServices), BlockedServices: list(in.BlockedServices), RequireSession: in.RequireSession,
		NewPayee: in.NewPayee, ChangedPayee: in.ChangedPayee, PriceJump: in.PriceJump, PriceJumpPercent: wide(in.PriceJumpPercent),
		ApproveAbove: optional(in.ApproveAbove), SignIn: in.SignIn,
	})
}

func (r mutation) DeactivateAgent(ctx context.Context, in graph.DeactivateAgentInput) (*core.DrainResult, error) {
	return r.Agents.Deactivate(ctx, caller(ctx), in.AgentID, in.IdempotencyKey)
}

func (r mutation) ExportAgentKey(ctx context.Context, in graph.ExportAgentKeyInput) (*graph.ExportedKey, error) {
	a, key, err := r.Agents.ExportKey(ctx, caller(ctx), in.AgentID)
	if err != nil {
		return nil, err
	}
	return &graph.ExportedKey{AgentID: a.ID, Address: a.Address, PrivateKey: key}, nil
}

func (r mutation) FundAgent(ctx context.Context, in graph.FundAgentInput) (*core.FundResult, error) {
	return r.Funding.Fund(ctx, caller(ctx), in.AgentID, in.TxHash, in.Amount, in.IdempotencyKey)
}

func (r mutation) DrainAgent(ctx context.Context, in graph.DrainAgentInput) (*core.DrainResult, error) {
	to := ""
	if in.To != nil {
		to = *in.To
	}
	return r.Funding.Drain(ctx, caller(ctx), in.AgentID, to, in.IdempotencyKey)
}

func (r query) TopUpDraft(ctx context.Context, in graph.TopUpTerms) (*core.TopUpDraft, error) {
	return r.TopUps.Draft(ctx, caller(ctx), core.TopUpTerms{
		AgentID: in.AgentID, Source: in.Source, Threshold: in.Threshold, Amount: in.Amount, DailyLimit: in.DailyLimit,
	}, in.PermitValue)
}

func (r mutation) AuthorizeTopUp(ctx context.Context, in graph.AuthorizeTopUpInput) (*core.AgentView, error) {
	return r.TopUps.Consent(ctx, caller(ctx), core.ConsentInput{
		TopUpTerms: core.TopUpTerms{AgentID: in.AgentID, Source: in.Source, Threshold: in.Threshold, Amount: in.Amount, DailyLimit: in.DailyLimit},
		IssuedAt:   in.IssuedAt, Signature: in.Signature, Permit: in.Permit,
	})
}
