package core

import (
	"context"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transfer"
	"bursar/ent/usage"
	"bursar/money"
)

const maxSessionList = 1000

// SessionView is a session with the figures of its account.
type SessionView struct {
	*ent.Session
	Deposit, Used, Remaining, Refunded money.USDC
	CallCount                          int64
	DepositTxHash, RefundTxHash        *string
	ExpiresIn                          int64 // seconds, never below zero
	Version                            int64 // the account's

	credited money.USDC // ever: the deposit, and charges that came back
	lost     bool       // the deposit never came, or a reorganisation has taken it for good
}

// Get returns one session.
func (s *Sessions) Get(ctx context.Context, p Principal, id uuid.UUID) (*SessionView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	var views []*SessionView
	err := s.db.atOnce(ctx, func(c *ent.Client) error {
		found, err := of(p, c).sessions().Where(session.ID(id)).Only(ctx)
		if err != nil {
			return missing(err, "Session")
		}
		views, err = s.views(ctx, c, []*ent.Session{found})
		return err
	})
	if err != nil {
		return nil, err
	}
	return views[0], nil
}

// List returns the organisation's sessions, newest first; agentID nil means all agents.
func (s *Sessions) List(ctx context.Context, p Principal, agentID *uuid.UUID) ([]*SessionView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	var views []*SessionView
	err := s.db.atOnce(ctx, func(c *ent.Client) error {
		q := of(p, c).sessions().Order(session.ByCreatedAt(desc()), session.ByID(desc())).Limit(maxSessionList)
		if agentID != nil {
			q = q.Where(session.AgentID(*agentID))
		}
		found, err := q.All(ctx)
		if err != nil {
			return err
		}
		views, err = s.views(ctx, c, found)
		return err
	})
	return views, err
}

// views adds what the account, the call counter and the operations say, by one query each, all as of one moment.
func (s *Sessions) views(ctx context.Context, c *ent.Client, found []*ent.Session) ([]*SessionView, error) {
	ids, counters := make([]uuid.UUID, len(found)), make([]string, len(found))
	byID := make(map[uuid.UUID]*SessionView, len(found))
	out := make([]*SessionView, len(found))
	for i, f := range found {
		f.Status = s.shown(f)
		out[i] = &SessionView{Session: f, ExpiresIn: max(0, f.ExpiresUnix-s.clock().Unix())}
		ids[i], counters[i], byID[f.ID] = f.ID, sessionCounter(f.ID), out[i]
	}
	accounts, err := c.Account.Query().
		Where(account.KindEQ(account.KindSession), account.ChainID(int64(s.chainID())), account.OwnerIDIn(ids...)).All(ctx)
	if err != nil {
		return nil, err
	}
	byAccount := make(map[uuid.UUID]*SessionView, len(accounts))
	for _, a := range accounts {
		v, state := byID[a.OwnerID], ledger.StateOf(a)
		v.Remaining, v.Used, v.Version = state.Available(), state.DebitsPosted.Add(state.DebitsPending), state.Version
		v.credited, byAccount[a.ID] = state.CreditsPosted, v
	}
	if err := s.addCalls(ctx, c, byID, counters); err != nil {
		return nil, err
	}
	if err := s.addOperations(ctx, c, byID, ids); err != nil {
		return nil, err
	}
	return out, s.addWrittenOff(ctx, c, byAccount)
}

func (*Sessions) addCalls(ctx context.Context, c *ent.Client, byID map[uuid.UUID]*SessionView, counters []string) error {
	usages, err := c.Usage.Query().Where(usage.IDIn(counters...)).All(ctx)
	if err != nil {
		return err
	}
	for _, u := range usages {
		if id, err := uuid.Parse(u.ID[len("session:"):]); err == nil {
			byID[id].CallCount = u.Calls
		}
	}
	return nil
}

// addOperations fills in deposit and refund. What was refunded left the account as well, so it is not "used"; nor is a
// charge that came back, because its proof was never used.
func (*Sessions) addOperations(ctx context.Context, c *ent.Client, byID map[uuid.UUID]*SessionView, ids []uuid.UUID) error {
	ops, err := c.Operation.Query().Where(operation.SessionIDIn(ids...)).Order(operation.ByCreatedAt()).All(ctx)
	if err != nil {
		return err
	}
	for _, o := range ops {
		v := byID[*o.SessionID]
		dead := o.Status == operation.StatusExpired || o.Status == operation.StatusFailed
		switch {
		case o.Kind == operation.KindDeposit:
			v.Deposit, v.DepositTxHash, v.lost = o.Amount, o.TxHash, dead
			if v.credited > 0 {
				v.Used = v.Used.Sub(v.credited.Sub(o.Amount))
			}
		case o.Kind == operation.KindRefund && !dead:
			v.Refunded, v.RefundTxHash = v.Refunded.Add(o.Amount), o.TxHash
			v.Used = v.Used.Sub(o.Amount)
		}
	}
	return nil
}

// addWrittenOff leaves out of "used" what was written off of deposits that a reorganisation has taken for good. They are
// so rare that most lists ask nothing for it.
func (*Sessions) addWrittenOff(ctx context.Context, c *ent.Client, byAccount map[uuid.UUID]*SessionView) error {
	var lost []uuid.UUID
	for id, v := range byAccount {
		if v.lost && v.credited > 0 {
			lost = append(lost, id)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	off, err := c.Transfer.Query().Where(transfer.DebitIDIn(lost...), transfer.Code(codeWrittenOff)).All(ctx)
	if err != nil {
		return err
	}
	for _, t := range off {
		byAccount[t.DebitID].Used = byAccount[t.DebitID].Used.Sub(t.Posted)
	}
	return nil
}
