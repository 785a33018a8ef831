package resolvers

import (
	"context"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/graph"
)

func (r query) Approvals(ctx context.Context, filter *core.ApprovalFilter, limit, offset int32) (*core.ApprovalPage, error) {
	var f core.ApprovalFilter
	if filter != nil {
		f = *filter
	}
	f.Limit, f.Offset = int(limit), int(offset)
	return r.Core.Approvals.List(ctx, caller(ctx), f)
}

func (r query) Approval(ctx context.Context, id uuid.UUID) (*ent.Approval, error) {
	return r.Core.Approvals.Get(ctx, caller(ctx), id)
}

func (r mutation) Approve(ctx context.Context, in graph.ApproveInput) (*ent.Approval, error) {
	return r.Core.Approvals.Approve(ctx, caller(ctx), in.ApprovalID)
}

func (r mutation) Deny(ctx context.Context, in graph.DenyInput) (*ent.Approval, error) {
	return r.Core.Approvals.Deny(ctx, caller(ctx), in.ApprovalID, in.Reason)
}

func (r mutation) ChangeDecision(ctx context.Context, in graph.ChangeDecisionInput) (*ent.Approval, error) {
	return r.Core.Approvals.Change(ctx, caller(ctx), in.ApprovalID, in.Approve, in.Reason)
}

func (r subscription) ApprovalRequested(ctx context.Context, agentID *uuid.UUID) (<-chan *ent.Approval, error) {
	return r.Core.Approvals.Watch(ctx, caller(ctx), agentID, true)
}

func (r subscription) ApprovalChanged(ctx context.Context, agentID *uuid.UUID) (<-chan *ent.Approval, error) {
	return r.Core.Approvals.Watch(ctx, caller(ctx), agentID, false)
}

// Trace is that of the call that asked.
func (r approvalFields) Trace(ctx context.Context, a *ent.Approval) (*core.TraceView, error) {
	v, err := r.Core.Traces.Get(ctx, caller(ctx), a.ID)
	return v, unlessMissing(err)
}

func (policyFields) NewPayee(_ context.Context, p *ent.SpendingPolicy) (core.Reaction, error) {
	return core.Reaction(p.NewPayee), nil
}

func (policyFields) ChangedPayee(_ context.Context, p *ent.SpendingPolicy) (core.Reaction, error) {
	return core.Reaction(p.ChangedPayee), nil
}

func (policyFields) PriceJump(_ context.Context, p *ent.SpendingPolicy) (core.Reaction, error) {
	return core.Reaction(p.PriceJump), nil
}
