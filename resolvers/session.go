package resolvers

import (
	"context"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/graph"
)

func (r query) Sessions(ctx context.Context, agentID *uuid.UUID) ([]*core.SessionView, error) {
	return r.Core.Sessions.List(ctx, caller(ctx), agentID)
}

func (r query) Session(ctx context.Context, id uuid.UUID) (*core.SessionView, error) {
	return r.Core.Sessions.Get(ctx, caller(ctx), id)
}

func (r sessionFields) BalanceAt(ctx context.Context, s *core.SessionView, at time.Time) (*core.PastBalance, error) {
	return r.Balances.At(ctx, caller(ctx), s.ID, at)
}

func (r mutation) OpenSession(ctx context.Context, in graph.OpenSessionInput) (*core.SessionView, error) {
	if in.DurationSeconds < 1 {
		return nil, core.E(core.InvalidRequest, "durationSeconds must be positive")
	}
	return r.Sessions.Open(ctx, caller(ctx), core.OpenSessionInput{
		AgentID: in.AgentID, Deposit: in.Deposit, Duration: time.Duration(in.DurationSeconds) * time.Second,
		IdempotencyKey: in.IdempotencyKey,
	})
}

func (r mutation) CloseSession(ctx context.Context, in graph.CloseSessionInput) (*core.SessionView, error) {
	return r.Sessions.Close(ctx, caller(ctx), in.SessionID, in.IdempotencyKey)
}

func (r query) Transactions(ctx context.Context, filter *core.TransactionFilter, limit, offset int32) (*core.TransactionPage, error) {
	var f core.TransactionFilter
	if filter != nil {
		f = *filter
	}
	f.Limit, f.Offset = int(limit), int(offset)
	return r.Core.Transactions.List(ctx, caller(ctx), f)
}

func (r query) Transaction(ctx context.Context, id uuid.UUID) (*ent.Transaction, error) {
	return r.Core.Transactions.Get(ctx, caller(ctx), id)
}

// UpstreamStatus is null until a service has answered.
func (transactionFields) UpstreamStatus(_ context.Context, t *ent.Transaction) (*int32, error) {
	if t.UpstreamStatus == 0 {
		return nil, nil
	}
	status := int32(t.UpstreamStatus)
	return &status, nil
}

// DecidedBy is null for a record that is final.
func (transactionFields) DecidedBy(_ context.Context, t *ent.Transaction) (*time.Time, error) {
	return core.DecidedBy(t), nil
}

// GasFee is null unless a transaction of ours carries the record and is mined.
func (r transactionFields) GasFee(ctx context.Context, t *ent.Transaction) (*string, error) {
	return r.Core.Transactions.GasFee(ctx, caller(ctx), t)
}
