package core

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/money"
)

// PastBalance is what an account held at a moment.
type PastBalance struct {
	At                         time.Time // to the microsecond
	Posted, Pending, Available money.USDC
}

// At returns what an agent's wallet or a session's account held at a moment, the commits of that very moment included;
// owner is the agent's or the session's id. Moments to come are an invalid request.
func (b *Balances) At(ctx context.Context, p Principal, owner uuid.UUID, at time.Time) (*PastBalance, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	at = at.UTC().Truncate(time.Microsecond)
	if at.After(b.now()) {
		return nil, E(InvalidRequest, "%s is still to come", at.Format(time.RFC3339Nano))
	}
	past, err := ledger.At(ctx, b.db.read, b.db.Dialect, b.chainID(), owner, p.OrgID, at)
	if errors.Is(err, ledger.ErrUnknown) {
		return nil, E(NotFound, "Wallet or session not found")
	}
	if err != nil {
		return nil, err
	}
	return &PastBalance{At: at, Posted: past.Posted, Pending: past.Pending, Available: past.Available()}, nil
}
