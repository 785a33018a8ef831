package resolvers

import (
	"context"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/graph/ws"
)

func (r subscription) BalanceChanged(ctx context.Context, agentID uuid.UUID) (<-chan *core.BalanceChange, error) {
	return r.Balances.Watch(ctx, caller(ctx), agentID)
}

func (r subscription) SessionChanged(ctx context.Context, sessionID *uuid.UUID) (<-chan *core.SessionView, error) {
	return r.Sessions.Watch(ctx, caller(ctx), sessionID)
}

func (r subscription) PaymentSettled(ctx context.Context, agentID *uuid.UUID) (<-chan *ent.Transaction, error) {
	settled, err := r.Transactions.Watch(ctx, caller(ctx), agentID)
	if err != nil {
		return nil, err
	}
	return orOverflow(ctx, settled), nil
}

// orOverflow passes a log stream on. core ends one before its context only for a reader that fell behind, who is
// told so: a plain end would look as if nothing more came.
func orOverflow[T any](ctx context.Context, news <-chan T) <-chan T {
	out := make(chan T)
	go func() {
		defer close(out)
		for v := range news {
			select {
			case out <- v:
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() == nil {
			ws.Fail(ctx, fault("SUBSCRIPTION_OVERFLOW", "The subscription fell behind: read on from the history"))
		}
	}()
	return out
}
