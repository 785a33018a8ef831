package core

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"bursar/ent/agent"
	"bursar/ent/session"
)

// Deactivate ends an agent: no call is paid any more, its sessions are closed, and what it has goes to its
// owner's address, refunds included. Doing it again changes nothing more. An owner without an address cannot
// deactivate an agent that has money. key is the caller's own name for this request; nil: none.
func (a *Agents) Deactivate(ctx context.Context, p Principal, id uuid.UUID, key *string) (*DrainResult, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	request := ask{key, "agent.deactivate", []string{id.String()}}
	return once(ctx, a.store, p, request, a.funding.begunDrain, func(r *run) (*DrainResult, error) { return a.deactivate(ctx, p, id, r) })
}

func (a *Agents) deactivate(ctx context.Context, p Principal, id uuid.UUID, r *run) (*DrainResult, error) {
	found, err := of(p, a.db.readEnt).visibleAgents().Where(agent.ID(id)).Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	open, err := of(p, a.db.readEnt).sessions().Where(session.AgentID(id),
		session.StatusIn(session.StatusOpening, session.StatusOpen, session.StatusExpired, session.StatusClosing)).IDs(ctx)
	if err != nil {
		return nil, err
	}
	v, err := a.Get(ctx, p, id)
	if err != nil {
		return nil, err
	}
	if v.Wallet.Available > 0 || len(open) > 0 {
		if _, err := a.funding.payoutAddress(ctx, found, ""); err != nil {
			return nil, err
		}
	}
	if err := a.db.writeEnt.Agent.UpdateOneID(id).SetActive(false).Exec(ctx); err != nil {
		return nil, err
	}
	a.step(StepInactive)
	for _, s := range open {
		if _, err := a.sessions.Close(ctx, p, s, nil); err != nil && AsError(err).Code != Conflict {
			return nil, err
		}
	}
	a.step(StepEnded)
	if v.Wallet.Available <= 0 && len(open) == 0 {
		return &DrainResult{}, nil
	}
	return a.funding.drain(ctx, found, "", r)
}

// DrainInactive sends on what still arrives at deactivated agents, such as a late refund.
func (a *Agents) DrainInactive(ctx context.Context) error {
	ids, err := a.db.inactiveWithMoney(ctx, a.chainID())
	if err != nil {
		return err
	}
	var all error
	for _, id := range ids {
		found, err := a.db.readEnt.Agent.Get(ctx, id)
		if err != nil {
			return err
		}
		if _, err := a.funding.payoutAddress(ctx, found, ""); err != nil {
			continue // nobody to send it to yet
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		_, err = a.funding.drain(ctx, found, "", nil)
		cancel()
		all = errors.Join(all, err)
	}
	return all
}
