package core

import (
	"context"
	"fmt"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
)

// Sessions are prepaid balances for many calls: one deposit on chain, one refund. A session is
// opening → open → expired → closing → closed, or opening → failed; expired may be skipped.
type Sessions struct {
	*store
	operations *Operations
	funding    *Funding
}

// Bounds of a session.
const (
	defaultDuration = time.Hour
	maxDuration     = 24 * time.Hour
	openDeadline    = 20 * time.Second // how long Open waits for the deposit before it answers "opening"
	closeDeadline   = 5 * time.Second  // how long Close waits for calls in flight
	expireBatch     = 200
	expiryGrace     = 5 * time.Minute // an expired session is closed for its refund after this
)

// OpenSessionInput describes a new session. Duration zero means one hour.
type OpenSessionInput struct {
	AgentID  uuid.UUID
	Deposit  money.USDC
	Duration time.Duration

	IdempotencyKey *string // the caller's own name for this request; nil: none
}

func (in *OpenSessionInput) validate() error {
	if in.Duration == 0 {
		in.Duration = defaultDuration
	}
	switch {
	case in.Deposit <= 0 || in.Deposit > money.Max:
		return E(InvalidRequest, "deposit_amount must be positive")
	case in.Duration < time.Second || in.Duration > maxDuration:
		return E(InvalidRequest, "duration must lie between 1 and %d seconds", int64(maxDuration/time.Second))
	}
	return nil
}

// Open deposits from the agent's wallet and answers when the deposit is confirmed, or after its deadline with a
// session that is still opening.
func (s *Sessions) Open(ctx context.Context, p Principal, in OpenSessionInput) (*SessionView, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	if err := in.validate(); err != nil {
		return nil, err
	}
	a := ask{in.IdempotencyKey, "session.open", []string{in.AgentID.String(), in.Deposit.String(), in.Duration.String()}}
	begun := func(ctx context.Context, id uuid.UUID) (*SessionView, error) { return s.Get(ctx, p, id) }
	return once(ctx, s.store, p, a, begun, func(r *run) (*SessionView, error) { return s.deposit(ctx, p, in, r) })
}

func (s *Sessions) deposit(ctx context.Context, p Principal, in OpenSessionInput, r *run) (*SessionView, error) {
	a, err := of(p, s.db.readEnt).agent(in.AgentID).Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	if !a.Active {
		return nil, E(InvalidRequest, "Agent is deactivated")
	}
	var made *ent.Session
	var op uuid.UUID
	err = s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if made, op, err = s.open(ctx, tx, a, in); err != nil {
			return err
		}
		return r.began(ctx, tx, made.ID)
	})
	if err != nil {
		return nil, AsError(err)
	}
	s.funding.drive(ctx, op, openDeadline)
	return s.Get(ctx, p, made.ID)
}

func (s *Sessions) open(ctx context.Context, tx *Tx, a *ent.Agent, in OpenSessionInput) (*ent.Session, uuid.UUID, error) {
	made, err := tx.Session.Create().SetOrgID(a.OrgID).SetAgentID(a.ID).SetExpiresUnix(tx.Now.Add(in.Duration).Unix()).SetCreatedAt(tx.Now).Save(ctx)
	if err != nil {
		return nil, uuid.Nil, err
	}
	owner, err := ledger.Open(ctx, tx.Client, tx.Now, ledger.Opening{
		Kind: ledger.Session, ChainID: s.chainID(), Owner: made.ID, Org: a.OrgID, Agent: a.ID, HoldsUntil: 0,
	})
	if err != nil {
		return nil, uuid.Nil, err
	}
	wallet, err := ledger.Find(ctx, tx.Client, ledger.Wallet, s.chainID(), a.ID)
	if err != nil {
		return nil, uuid.Nil, err
	}
	op, err := s.operations.queue(ctx, tx, newOperation{
		Key: fmt.Sprintf("session:%s:deposit", made.ID), Kind: operation.KindDeposit, History: transaction.KindDeposit,
		OrgID: a.OrgID, AgentID: a.ID, SessionID: &made.ID, From: common.HexToAddress(a.Address), To: s.keys.platformAddress(),
		Debit: wallet, Credit: owner, Amount: in.Deposit,
	})
	if err != nil {
		return nil, uuid.Nil, err
	}
	return made, op, tx.sessionChanged(ctx, made)
}

// usable finds a session that a call of the agent may be paid from. The binding judgement is the ledger's.
func (s *Sessions) usable(ctx context.Context, p Principal, text string, a *ent.Agent) (*prepaid, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return nil, E(NotFound, "Session not found")
	}
	v, found, err := s.readers.sessions.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !found || !p.owns(v.session.OrgID) || v.session.AgentID != a.ID {
		return nil, E(NotFound, "Session not found")
	}
	if v.session.Status != session.StatusOpen || s.clock().Unix() > v.session.ExpiresUnix {
		return nil, &Error{Code: Conflict, Closed: true, Message: fmt.Sprintf("Session is %s", s.shown(v.session))}
	}
	return v, nil
}

// shown is a session's status with the clock applied: an open one past its time has expired.
func (s *store) shown(v *ent.Session) session.Status {
	if v.Status == session.StatusOpen && s.clock().Unix() > v.ExpiresUnix {
		return session.StatusExpired
	}
	return v.Status
}

func sessionCounter(id uuid.UUID) string { return "session:" + id.String() }

// ExpireDue marks sessions whose time has passed, closes those past their grace and those of agents that have ended, and
// continues the closing of those whose last hold has ended.
func (s *Sessions) ExpireDue(ctx context.Context) error {
	now := s.clock().Unix()
	var after uuid.UUID // ids are in order of time: it pages on, so that those that wait do not keep the others waiting
	for {
		due, err := s.db.readEnt.Session.Query().Where(session.IDGT(after), session.Or(
			session.And(session.StatusEQ(session.StatusOpen), session.ExpiresUnixLT(now)),
			session.And(session.StatusEQ(session.StatusExpired), session.ExpiresUnixLT(now-int64(expiryGrace/time.Second))),
			session.And(session.StatusIn(session.StatusOpen, session.StatusExpired), ofEndedAgent),
			session.StatusEQ(session.StatusClosing),
		)).Order(session.ByID()).Limit(expireBatch).All(ctx)
		if err != nil {
			return err
		}
		for _, v := range due {
			if err := s.advance(ctx, v, now); err != nil {
				s.log.WarnContext(ctx, "could not advance a session", "session_id", v.ID, "error", err)
			}
			after = v.ID
		}
		if len(due) < expireBatch || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// ofEndedAgent finds the sessions that a deactivation has not come to, because the process died in it.
func ofEndedAgent(s *sql.Selector) {
	t := sql.Table(agent.Table)
	s.Where(sql.In(s.C(session.FieldAgentID), sql.Select(t.C(agent.FieldID)).From(t).Where(sql.EQ(t.C(agent.FieldActive), false))))
}

func (s *Sessions) advance(ctx context.Context, v *ent.Session, now int64) error {
	switch {
	case v.Status == session.StatusClosing:
		return s.continueClosing(ctx, v)
	case v.Status == session.StatusOpen && v.ExpiresUnix < now:
		return s.expire(ctx, v)
	}
	return s.close(ctx, v)
}

func (s *Sessions) expire(ctx context.Context, v *ent.Session) error {
	return s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Session.Update().Where(session.ID(v.ID), session.StatusEQ(session.StatusOpen)).SetStatus(session.StatusExpired).Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		return tx.sessionChanged(ctx, v)
	})
}
