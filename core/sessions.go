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

// Close ends a session and sends what is left back to the agent's wallet. Closing again is the same answer. A
// call still in flight keeps its money: the answer waits for it a little and then reads "closing", and the
// refund leaves when the last hold has ended. key is the caller's own name for this request; nil: none.
func (s *Sessions) Close(ctx context.Context, p Principal, id uuid.UUID, key *string) (*SessionView, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	a := ask{key, "session.close", []string{id.String()}}
	return once(ctx, s.store, p, a, nil, func(*run) (*SessionView, error) { return s.finish(ctx, p, id) }) // again refunds nothing more
}

func (s *Sessions) finish(ctx context.Context, p Principal, id uuid.UUID) (*SessionView, error) {
	found, err := of(p, s.db.readEnt).sessions().Where(session.ID(id)).Only(ctx)
	if err != nil {
		return nil, missing(err, "Session")
	}
	if err := s.close(ctx, found); err != nil {
		return nil, err
	}
	s.step(StepClosing)
	deadline := s.clock().Add(closeDeadline)
	for {
		op, err := s.db.readEnt.Operation.Query().Where(operation.SessionID(id), operation.KindEQ(operation.KindRefund)).First(ctx)
		if err != nil && !ent.IsNotFound(err) {
			return nil, err
		}
		if op != nil {
			s.funding.drive(ctx, op.ID, openDeadline)
		}
		v, err := s.Get(ctx, p, id)
		if err != nil || v.Status != session.StatusClosing || op != nil || s.clock().After(deadline) {
			return v, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return v, nil
		}
		s.holdEnded(ctx, id)
	}
}

// close moves a session to closing, so that no hold is made any more, and begins the refund if no hold is left.
func (s *Sessions) close(ctx context.Context, found *ent.Session) error {
	return s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Session.Update().Where(session.ID(found.ID), session.StatusIn(session.StatusOpen, session.StatusExpired)).
			SetStatus(session.StatusClosing).Save(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			current, err := tx.Session.Get(ctx, found.ID)
			if err == nil && current.Status == session.StatusOpening {
				return E(Conflict, "The session's deposit is not confirmed yet")
			}
			return err
		}
		owner, err := ledger.Find(ctx, tx.Client, ledger.Session, s.chainID(), found.ID)
		if err != nil {
			return err
		}
		if _, err := tx.move(ctx, ledger.Move{Verb: ledger.Limit, Debit: owner, HoldsUntil: 0}); err != nil {
			return err
		}
		if err := tx.sessionChanged(ctx, found); err != nil {
			return err
		}
		return s.refund(ctx, tx, found, "")
	})
}

// refund queues the way back of what a closing session still has, once nothing of it is held; with nothing
// left the session is closed at once. suffix tells a later refund of the same session from the first.
func (s *Sessions) refund(ctx context.Context, tx *Tx, v *ent.Session, suffix string) error {
	deposit, err := tx.Operation.Query().Where(operation.SessionID(v.ID), operation.KindEQ(operation.KindDeposit)).Only(ctx)
	if err != nil {
		return err
	}
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, s.chainID(), v.ID)
	if err != nil {
		return err
	}
	acc, err := tx.Account.Get(ctx, owner)
	if err != nil {
		return err
	}
	state := ledger.StateOf(acc)
	if state.DebitsPending > 0 {
		return nil
	}
	if deposit.Status != operation.StatusFinal { // a reorganisation took it: it comes again, or what is left never came
		if deposit.Status != operation.StatusExpired {
			return nil
		}
		return s.writeOff(ctx, tx, v, state)
	}
	if state.Available() == 0 {
		return s.closed(ctx, tx, v)
	}
	a, err := tx.Agent.Get(ctx, v.AgentID)
	if err != nil {
		return err
	}
	wallet, err := ledger.Find(ctx, tx.Client, ledger.Wallet, s.chainID(), a.ID)
	if err != nil {
		return err
	}
	// The refund is a hold, so that it is spent once; the account takes holds for this one statement only.
	if _, err := tx.move(ctx, ledger.Move{Verb: ledger.Limit, Debit: owner, HoldsUntil: ledger.Always}); err != nil {
		return err
	}
	_, err = s.operations.queue(ctx, tx, newOperation{
		Key: fmt.Sprintf("session:%s:refund%s", v.ID, suffix), Kind: operation.KindRefund, History: transaction.KindRefund,
		OrgID: v.OrgID, AgentID: v.AgentID, SessionID: &v.ID, From: s.keys.platformAddress(), To: common.HexToAddress(a.Address),
		Debit: owner, Credit: wallet, Amount: state.Available(),
	})
	if err != nil {
		return err
	}
	_, err = tx.move(ctx, ledger.Move{Verb: ledger.Limit, Debit: owner, HoldsUntil: 0})
	return err
}

const codeWrittenOff = "written_off"

// writeOff empties a session whose deposit never came into suspense, which stands for it. What was spent of it stays
// open there: the operator has paid for it. What comes back to the session later is written off as well: the account's
// version tells each time from the others.
func (s *Sessions) writeOff(ctx context.Context, tx *Tx, v *ent.Session, has ledger.State) error {
	if left := has.Available(); left > 0 {
		_, err := tx.move(ctx, ledger.Move{
			Verb: ledger.Transfer, Key: fmt.Sprintf("session:%s:%s:%d", v.ID, codeWrittenOff, has.Version), Debit: has.ID, Credit: s.platform.Suspense,
			Amount: left, Code: codeWrittenOff,
		})
		if err != nil {
			return err
		}
	}
	return s.closed(ctx, tx, v)
}

// closed ends a session whose account is empty.
func (s *Sessions) closed(ctx context.Context, tx *Tx, v *ent.Session) error {
	n, err := tx.Session.Update().Where(session.ID(v.ID), session.StatusEQ(session.StatusClosing)).
		SetStatus(session.StatusClosed).SetClosedAt(tx.Now).Save(ctx)
	if err != nil || n == 0 {
		return err
	}
	return tx.sessionChanged(ctx, v)
}

// holdEnded begins the refund of a closing session when its last hold has ended. Failing is not an error of the
// call that ended it: the job does the same.
func (s *Sessions) holdEnded(ctx context.Context, id uuid.UUID) {
	v, err := s.db.readEnt.Session.Get(ctx, id)
	if err != nil || v.Status != session.StatusClosing {
		return
	}
	if err := s.continueClosing(ctx, v); err != nil {
		s.log.WarnContext(ctx, "could not begin a refund", "session_id", id, "error", err)
	}
}

func (s *Sessions) continueClosing(ctx context.Context, v *ent.Session) error {
	return s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		// Locking the session's row makes one of several continuers do it.
		n, err := tx.Session.Update().Where(session.ID(v.ID), session.StatusEQ(session.StatusClosing)).SetStatus(session.StatusClosing).Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		attempts, err := tx.Operation.Query().Where(operation.SessionID(v.ID), operation.KindEQ(operation.KindRefund)).All(ctx)
		if err != nil {
			return err
		}
		suffix := ""
		for _, o := range attempts {
			switch o.Status {
			case operation.StatusFinal, operation.StatusExpired, operation.StatusFailed:
				suffix = fmt.Sprintf(":%d", len(attempts)+1)
			case operation.StatusQueued, operation.StatusAuthorized, operation.StatusSigned, operation.StatusSent, operation.StatusIncluded:
				return nil // under way
			}
		}
		return s.refund(ctx, tx, v, suffix)
	})
}

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
