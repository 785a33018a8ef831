package core

import (
	"context"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
)

// How a session ends: no call is paid any more, what is left goes back, and it is closed when that has arrived.

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
