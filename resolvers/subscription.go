package resolvers

import (
	"context"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
)

func (r subscription) BalanceChanged(ctx context.Context, agentID uuid.UUID) (<-chan *core.BalanceChange, error) {
	return r.Balances.Watch(ctx, caller(ctx), agentID)
}

func (r subscription) SessionChanged(ctx context.Context, sessionID *uuid.UUID) (<-chan *core.SessionView, error) {
	return r.Sessions.Watch(ctx, caller(ctx), sessionID)
}

func (r subscription) PaymentSettled(ctx context.Context, agentID *uuid.UUID) (<-chan *ent.Transaction, error) {
	return r.Transactions.Watch(ctx, caller(ctx), agentID)
}
