package core

import (
	"context"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent/account"
	"bursar/ent/agent"
	"bursar/money"
)

// Balances read figures, once or live.
type Balances struct{ *store }

// Balance is one account's figures. A wallet's Posted is its USDC on chain at the watcher's block.
type Balance struct {
	AccountID uuid.UUID
	Posted    money.USDC // what is there
	Pending   money.USDC // of it, promised
	Available money.USDC // of it, free; may be negative for a wallet whose owner spent behind a hold
	Version   int64      // raised by each change
}

func balanceOf(s ledger.State) Balance {
	return Balance{AccountID: s.ID, Posted: s.Balance(), Pending: s.DebitsPending, Available: s.Available(), Version: s.Version}
}

// Overview is all agents' money together.
type Overview struct {
	Total  money.USDC
	Active int
	Agents []*AgentView
}

// Overview sums up the organisation's agents, without the default wallets.
func (b *Balances) Overview(ctx context.Context, p Principal) (*Overview, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, b.db.readEnt).visibleAgents().WithPolicy().Order(agent.ByCreatedAt(), agent.ByID()).All(ctx)
	if err != nil {
		return nil, err
	}
	o := &Overview{}
	if o.Agents, err = b.views(ctx, found); err != nil {
		return nil, err
	}
	for _, a := range o.Agents {
		o.Total = o.Total.Add(a.Wallet.Posted)
		if a.Active {
			o.Active++
		}
	}
	return o, nil
}

// BalanceChange is one new state of an agent's wallet, or of the account of one of its sessions.
type BalanceChange struct {
	AgentID   uuid.UUID
	SessionID *uuid.UUID // nil: the wallet
	Balance
}

func changeOf(s ledger.State) *BalanceChange {
	c := &BalanceChange{AgentID: s.AgentID, Balance: balanceOf(s)}
	if s.Kind == ledger.Session {
		c.SessionID = &s.OwnerID
	}
	return c
}

// Watch streams an agent's balances: first the wallet as it is, then each change of the wallet and of its
// sessions, newest state only for a slow reader. The channel closes with ctx.
func (b *Balances) Watch(ctx context.Context, p Principal, agentID uuid.UUID) (<-chan *BalanceChange, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	if _, err := of(p, b.db.readEnt).agent(agentID).OnlyID(ctx); err != nil {
		return nil, missing(err, "Agent wallet")
	}
	// Subscribed before the snapshot is read, so that no change falls in between.
	news := b.bus.latest(ctx, func(n News) bool { return n.Kind == BalanceChanged && n.AgentID == agentID })
	wallet, err := b.db.readEnt.Account.Query().
		Where(account.KindEQ(account.KindWallet), account.ChainID(int64(b.chainID())), account.OwnerID(agentID)).Only(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan *BalanceChange)
	go func() {
		defer close(out)
		told := map[uuid.UUID]int64{}
		b.send(ctx, out, told, ledger.StateOf(wallet))
		for batch := news.take(ctx); batch != nil; batch = news.take(ctx) {
			for _, n := range batch {
				b.tell(ctx, out, told, n)
			}
		}
	}()
	return out, nil
}

func (b *Balances) tell(ctx context.Context, out chan<- *BalanceChange, told map[uuid.UUID]int64, n News) {
	if n.Account != nil {
		b.send(ctx, out, told, *n.Account)
		return
	}
	a, err := b.db.readEnt.Account.Get(ctx, n.SubjectID) // another process changed it
	if err != nil {
		b.log.WarnContext(ctx, "could not read a changed balance", "account_id", n.SubjectID, "error", err)
		return
	}
	b.send(ctx, out, told, ledger.StateOf(a))
}

// send passes a state on unless the same or a newer one was told.
func (b *Balances) send(ctx context.Context, out chan<- *BalanceChange, told map[uuid.UUID]int64, s ledger.State) {
	if last, ok := told[s.ID]; ok && last >= s.Version {
		return
	}
	select {
	case out <- changeOf(s):
		told[s.ID] = s.Version
	case <-ctx.Done():
	}
}
