package core

import (
	"context"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/approval"
	"bursar/ent/user"
)

// How people answer requests for approval.

const maxReason = 500 // characters of an answer's reason

// Approve says yes to a request. Who has decided first has decided: conflict tells the other how.
func (s *Approvals) Approve(ctx context.Context, p Principal, id uuid.UUID) (*ent.Approval, error) {
	return s.decide(ctx, p, id, approval.StatusApproved, "")
}

// Deny says no to a request, with a reason that the caller is told; it may be empty.
func (s *Approvals) Deny(ctx context.Context, p Principal, id uuid.UUID, reason string) (*ent.Approval, error) {
	return s.decide(ctx, p, id, approval.StatusDenied, reason)
}

// mayDecide refuses who may not answer requests, and an answer that is too long.
func (p Principal) mayDecide(reason string) error {
	if len([]rune(reason)) > maxReason {
		return E(InvalidRequest, "A reason may have at most %d characters", maxReason)
	}
	if err := p.needPerson(); err != nil {
		return err
	}
	return p.needWrite()
}

func (s *Approvals) decide(ctx context.Context, p Principal, id uuid.UUID, to approval.Status, reason string) (*ent.Approval, error) {
	if err := p.mayDecide(reason); err != nil {
		return nil, err
	}
	err := s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		a, err := of(p, tx.Client).approvals().Where(approval.ID(id)).Only(ctx)
		if err != nil {
			return missing(err, "Approval")
		}
		n, err := tx.answer(ctx, p, id, approval.StatusPending, to, reason)
		if err != nil {
			return err
		}
		if n == 0 {
			return s.decided(ctx, tx, p, id, to)
		}
		if err := tx.audit(ctx, p, "approval."+to.String(), id); err != nil {
			return err
		}
		return tx.approvalChanged(ctx, a)
	})
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, p, id)
}

// answer puts one state of a request in the place of another, and reports how many it met: one, or none that is in time.
func (tx *Tx) answer(ctx context.Context, p Principal, id uuid.UUID, from, to approval.Status, reason string) (int, error) {
	return tx.Approval.Update().Where(approval.ID(id), approval.StatusEQ(from), approval.ExpiresUnixGT(tx.Now.Unix())).
		SetStatus(to).SetDecidedAt(tx.Now).SetDecidedBy(p.UserID).SetDecisionReason(reason).SetExpiresUnix(tx.Now.Add(approvalLife).Unix()).Save(ctx)
}

// Change answers a request otherwise than it was answered, while that answer stands and no call has used it. Who has answered
// may, and owners and admins; each change is in the audit log.
func (s *Approvals) Change(ctx context.Context, p Principal, id uuid.UUID, yes bool, reason string) (*ent.Approval, error) {
	if err := p.mayDecide(reason); err != nil {
		return nil, err
	}
	to := approval.StatusDenied
	if yes {
		to = approval.StatusApproved
	}
	err := s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		a, err := of(p, tx.Client).approvals().Where(approval.ID(id)).Only(ctx)
		if err != nil {
			return missing(err, "Approval")
		}
		if a.Status != approval.StatusApproved && a.Status != approval.StatusDenied {
			return E(Conflict, "The request is %s: there is no answer to change", a.Status)
		}
		if a.Status == to {
			return nil
		}
		if *a.DecidedBy != p.UserID && p.Role != Owner && p.Role != Admin {
			return E(Forbidden, "Only who has answered, owners and admins may change an answer")
		}
		n, err := tx.answer(ctx, p, id, a.Status, to, reason)
		if err == nil && n == 0 {
			err = E(Conflict, "The answer has expired, or a call has paid by it")
		}
		if err != nil {
			return err
		}
		if err := tx.audit(ctx, p, "approval.changed."+to.String(), id); err != nil {
			return err
		}
		return tx.approvalChanged(ctx, a)
	})
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, p, id)
}

// decided is for a decision that comes too late: the same one of the same person is no error.
func (s *Approvals) decided(ctx context.Context, tx *Tx, p Principal, id uuid.UUID, to approval.Status) error {
	a, err := tx.Approval.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case a.DecidedBy == nil:
		return E(Conflict, "The request has expired")
	case a.Status == to && *a.DecidedBy == p.UserID:
		return nil
	}
	by := "somebody else"
	if u, err := tx.User.Query().Where(user.ID(*a.DecidedBy)).Only(ctx); err == nil && u.Email != nil {
		by = *u.Email
	}
	return E(Conflict, "The request is %s already: %s decided it at %s", a.Status, by, a.DecidedAt.UTC().Format(time.RFC3339))
}
