package resolvers

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/graph"
)

func (r query) Traces(ctx context.Context, filter *core.TraceFilter, limit, offset int32) (*core.TracePage, error) {
	var f core.TraceFilter
	if filter != nil {
		f = *filter
	}
	f.Limit, f.Offset = int(limit), int(offset)
	return r.Core.Traces.List(ctx, caller(ctx), f)
}

func (r query) Trace(ctx context.Context, id uuid.UUID) (*core.TraceView, error) {
	return r.Core.Traces.Get(ctx, caller(ctx), id)
}

func (r query) PolicyReplay(ctx context.Context, in graph.PolicyReplayInput) (*core.Replay, error) {
	return r.Policies.Replay(ctx, caller(ctx), core.ReplayInput{
		AgentID: in.AgentID, Days: int(in.Days),
		Draft: core.PolicyInput{
			SpendingCap: optional(in.SpendingCap), DailyLimit: optional(in.DailyLimit), MonthlyLimit: optional(in.MonthlyLimit),
			PerCallMax: optional(in.PerCallMax), AllowedServices: list(in.AllowedServices), BlockedServices: list(in.BlockedServices),
			RequireSession: in.RequireSession,
			NewPayee:       in.NewPayee, ChangedPayee: in.ChangedPayee, PriceJump: in.PriceJump, PriceJumpPercent: wide(in.PriceJumpPercent),
			ApproveAbove: optional(in.ApproveAbove),
		},
	})
}

// Trace is null for what is no payment.
func (r transactionFields) Trace(ctx context.Context, t *ent.Transaction) (*core.TraceView, error) {
	if t.Kind != transaction.KindPayment {
		return nil, nil
	}
	v, err := r.Core.Traces.Get(ctx, caller(ctx), t.ID)
	return v, unlessMissing(err)
}

// Transaction is null for a refusal.
func (r traceFields) Transaction(ctx context.Context, v *core.TraceView) (*ent.Transaction, error) {
	t, err := r.Core.Transactions.Get(ctx, caller(ctx), v.ID)
	return t, unlessMissing(err)
}

// Digest is null for a refusal.
func (traceFields) Digest(_ context.Context, v *core.TraceView) (*string, error) {
	if v.TraceDetail.Digest == "" {
		return nil, nil
	}
	return &v.TraceDetail.Digest, nil
}

// unlessMissing drops the error that says that there is nothing.
func unlessMissing(err error) error {
	var e *core.Error
	if errors.As(err, &e) && e.Code == core.NotFound {
		return nil
	}
	return err
}
