package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/account"
	"bursar/money"
)

// The chart of accounts. All session and seller accounts, clearing and treasury of a chain together are the money at the
// platform's address; wallet accounts mirror the agents' addresses; external is the rest of the world. Suspense is what a
// reorganisation of the chain has taken back and has not yet brought again: it counts with the platform's address, and
// may be negative.
const (
	Wallet   = "wallet"   // one per agent
	Session  = "session"  // one per session
	Clearing = "clearing" // what sellers hold our proofs for and the chain has not shown yet
	Treasury = "treasury" // the operator's own
	Suspense = "suspense" // un-mined by a reorganisation, until it is mined again
	Seller   = "seller"   // one per business of the catalogue: what sessions have paid for it and it has not been sent yet
	External = "external" // everything outside
)

// Always is a HoldsUntil that never passes.
const Always int64 = math.MaxInt64

// Floor returns what of an account may not fall below zero, and whether anything may not. A wallet's holds
// are checked when they are made, but its posted balance is a fact of the chain: the owner may spend with an
// exported key behind a hold, so its available balance may be negative. The database repeats these rules as
// CHECK constraints.
func Floor(s State) (money.USDC, bool) {
	switch s.Kind {
	case Session, Treasury, Seller:
		return s.Available(), true
	case Wallet, Clearing:
		return s.Balance(), true
	}
	return 0, false
}

// Opening describes a new account. Owner is the agent of a wallet, the session of a session account and the service of a seller's; the
// platform's own accounts have neither an owner nor an organisation nor an agent.
type Opening struct {
	Kind              string
	ChainID           uint64
	Owner, Org, Agent uuid.UUID
	HoldsUntil        int64 // unix seconds
}

// Open creates an account in the caller's transaction and returns its id.
func Open(ctx context.Context, tx *ent.Client, now time.Time, o Opening) (uuid.UUID, error) {
	c := tx.Account.Create().SetKind(account.Kind(o.Kind)).SetChainID(int64(o.ChainID)).SetOwnerID(o.Owner).
		SetHoldsUntil(o.HoldsUntil).SetCreatedAt(now)
	if o.Org != uuid.Nil {
		c.SetOrgID(o.Org).SetAgentID(o.Agent)
	}
	a, err := c.Save(ctx)
	if err != nil {
		return uuid.Nil, fmt.Errorf("ledger: open %s account: %w", o.Kind, err)
	}
	return a.ID, nil
}

// Platform are the ids of a chain's own accounts.
type Platform struct{ Clearing, Treasury, Suspense, External uuid.UUID }

// OpenPlatform finds or creates a chain's own accounts. It is safe to run in several processes at once.
func OpenPlatform(ctx context.Context, tx *ent.Client, now time.Time, chainID uint64) (p Platform, err error) {
	for kind, id := range map[string]*uuid.UUID{Clearing: &p.Clearing, Treasury: &p.Treasury, Suspense: &p.Suspense, External: &p.External} {
		if *id, err = Find(ctx, tx, kind, chainID, uuid.Nil); err == nil {
			continue
		}
		if !errors.Is(err, ErrUnknown) {
			return p, err
		}
		if *id, err = Open(ctx, tx, now, Opening{Kind: kind, ChainID: chainID, HoldsUntil: Always}); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Find returns the id of an account, or ErrUnknown.
func Find(ctx context.Context, c *ent.Client, kind string, chainID uint64, owner uuid.UUID) (uuid.UUID, error) {
	id, err := c.Account.Query().Where(account.KindEQ(account.Kind(kind)), account.ChainID(int64(chainID)), account.OwnerID(owner)).OnlyID(ctx)
	if ent.IsNotFound(err) {
		return uuid.Nil, ErrUnknown
	}
	return id, err
}

// StateOf turns a stored account into a State.
func StateOf(a *ent.Account) State {
	s := State{
		ID: a.ID, Kind: a.Kind.String(), OwnerID: a.OwnerID, DebitsPending: a.DebitsPending, DebitsPosted: a.DebitsPosted,
		CreditsPosted: a.CreditsPosted, HoldsUntil: a.HoldsUntil, Version: a.Version,
	}
	if a.OrgID != nil {
		s.OrgID = *a.OrgID
	}
	if a.AgentID != nil {
		s.AgentID = *a.AgentID
	}
	return s
}
