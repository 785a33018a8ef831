package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/approval"
	"bursar/ent/event"
	"bursar/ent/predicate"
	"bursar/ent/trace"
	"bursar/pay"
)

// How a call that needs a person's yes asks for it, waits for it, and uses it. Nothing is reserved meanwhile, and a yes lifts
// no limit: those are asked before a person is, and again in the commit of the hold.

// same are the approvals for what an offer would be paid.
func (c *call) same(o pay.Offer) predicate.Approval {
	return approval.And(
		approval.AgentID(c.agent.ID), approval.Host(c.target.paid()), approval.Payee(o.PayTo.Hex()), approval.Network(o.Network.Name), approval.Asset(o.Asset.Hex()),
	)
}

// standing finds the yes that lets an offer pass; nil: none does. A no refuses, for as long as it stands.
func (s *Approvals) standing(ctx context.Context, c *call, o pay.Offer) (*ent.Approval, error) {
	now := s.clock().Unix()
	if c.in.ApprovalID != nil {
		a, err := of(c.p, s.db.readEnt).approvals().Where(approval.ID(*c.in.ApprovalID), approval.AgentID(c.agent.ID)).Only(ctx)
		if err != nil {
			return nil, missing(err, "Approval")
		}
		if err := over(a, now); err != nil {
			c.why.ApprovalID = &a.ID
			return nil, err
		}
	}
	known, err := of(c.p, s.db.readEnt).approvals().Where(c.same(o), approval.ExpiresUnixGT(now), approval.Or(
		approval.And(approval.StatusEQ(approval.StatusApproved), approval.CeilingGTE(o.Amount)),
		approval.And(approval.StatusEQ(approval.StatusDenied), approval.CeilingLTE(o.Amount)),
	)).Order(approval.ByStatus(), approval.ByID()).First(ctx) // approved comes before denied
	if ent.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := over(known, now); err != nil {
		c.why.ApprovalID = &known.ID
		return nil, err
	}
	return known, nil
}

// over is the refusal of a request that a person has answered with no, or whose time has passed.
func over(a *ent.Approval, now int64) error {
	switch a.Status {
	case approval.StatusDenied:
		why := ""
		if a.DecisionReason != "" {
			why = ": " + a.DecisionReason
		}
		return E(Forbidden, "A person has said no to this payment%s", why)
	case approval.StatusExpired:
		return E(Forbidden, "The approval has expired")
	case approval.StatusPending, approval.StatusApproved:
		if a.ExpiresUnix <= now {
			return E(Forbidden, "The approval has expired")
		}
	case approval.StatusUsed: // another call has paid by it: this one needs its own
	}
	return nil
}

// ask asks a person for a yes, or joins the request for it, and waits as long as patience lasts. Without an error there is
// one now.
func (f *Payments) ask(ctx, patience context.Context, c *call, d *decision) error {
	if err := f.wouldHold(ctx, c, d.offer.Amount); err != nil {
		return err // no person could help
	}
	a, err := f.approvals.request(ctx, c, d)
	if err != nil {
		return err
	}
	if a, err = f.approvals.wait(ctx, patience, a.ID); err != nil {
		return err
	}
	if err := over(a, f.clock().Unix()); err != nil {
		c.why.ApprovalID = &a.ID
		return err
	}
	if a.Status == approval.StatusPending {
		return required(a)
	}
	return nil
}

// required is the answer to a call that waits for a person. Its trace has the approval's id.
func required(a *ent.Approval) *Error {
	return &Error{Code: ApprovalRequired, Message: "A person must approve this payment: " + a.Reason, Approval: a, Trace: a.ID.String()}
}

// wouldRequire is the verdict of a dry run, which asks nobody.
func (d *decision) wouldRequire() *Error {
	_, by := policy.Strongest(d.found)
	return E(ApprovalRequired, "A person must approve this payment: %s", pay.Text(policy.Texts(by)))
}

// request makes a request for approval, with its trace, or finds the one that is pending for the same. One whose ceiling is
// too low now makes room: nobody must say yes to a price that was raised meanwhile.
func (s *Approvals) request(ctx context.Context, c *call, d *decision) (*ent.Approval, error) {
	for range maxTxTries {
		pending, err := of(c.p, s.db.readEnt).approvals().Where(c.same(d.offer), approval.StatusEQ(approval.StatusPending)).Only(ctx)
		switch {
		case err == nil && pending.ExpiresUnix > s.clock().Unix() && pending.Ceiling >= d.offer.Amount:
			return pending, nil
		case err == nil:
			err = s.expire(ctx, pending.ID)
		case ent.IsNotFound(err):
			err = s.bounded(ctx, c)
		}
		if err != nil {
			return nil, err
		}
		a := s.draft(c, d)
		if err = s.create(ctx, c, a); !errors.Is(err, ledger.ErrMissed) { // missed: another call was faster
			return a, err
		}
	}
	return nil, errContended
}

// bounded refuses an agent that has asked too much already.
func (s *Approvals) bounded(ctx context.Context, c *call) error {
	n, err := of(c.p, s.db.readEnt).approvals().Where(approval.AgentID(c.agent.ID), approval.StatusEQ(approval.StatusPending)).Count(ctx)
	if err == nil && n >= maxPending {
		return &Error{Code: RateLimited, Message: fmt.Sprintf("%d requests of this agent wait for approval", n), RetryAfter: time.Minute}
	}
	return err
}

func (s *Approvals) draft(c *call, d *decision) *ent.Approval {
	_, by := policy.Strongest(d.found)
	now := s.now()
	a := &ent.Approval{
		ID: uuid.Must(uuid.NewV7()), CreatedAt: now, OrgID: c.agent.OrgID, AgentID: c.agent.ID, Host: c.target.paid(), Payee: d.offer.PayTo.Hex(),
		Network: d.offer.Network.Name, Asset: d.offer.Asset.Hex(), Ceiling: d.offer.Amount, Method: c.request.Method, Endpoint: c.target.endpoint(),
		Protocol: d.offer.Protocol, Rule: policy.Names(by), Reason: pay.Text(policy.Texts(by)), Status: approval.StatusPending,
		ExpiresUnix: now.Add(approvalLife).Unix(),
	}
	if c.p.CredentialID != uuid.Nil {
		a.CredentialID = &c.p.CredentialID
	}
	return a
}

func (s *Approvals) create(ctx context.Context, c *call, a *ent.Approval) error {
	c.why.ApprovalID = &a.ID
	_, err := s.commit(ctx, unit{
		rows: func(time.Time, ledger.Result) []ledger.Row {
			return []ledger.Row{
				{Into: addApprovalRow, Values: []any{
					a.ID.String(), a.CreatedAt, a.OrgID.String(), a.AgentID.String(), optional(a.CredentialID), a.Host, a.Payee, a.Network, a.Asset,
					int64(a.Ceiling), a.Method, a.Endpoint, a.Protocol, a.Rule, a.Reason, a.ExpiresUnix,
				}},
				c.traceRow(a.ID, a.CreatedAt, trace.OutcomeHeld, required(a), c.why),
				approvalEvent(a, a.CreatedAt),
			}
		},
		news: []News{approvalNews(a)},
	})
	return err
}

func approvalEvent(a *ent.Approval, now time.Time) ledger.Row {
	return ledger.Row{Into: addEventRow, Values: []any{
		uuid.Must(uuid.NewV7()).String(), now, a.OrgID.String(), event.KindApprovalChanged.String(), a.AgentID.String(), a.ID.String(),
	}}
}

func approvalNews(a *ent.Approval) News {
	return News{Kind: ApprovalChanged, OrgID: a.OrgID, AgentID: a.AgentID, SubjectID: a.ID}
}

// useApproval takes a yes for a payment, in the commit of its hold: the row must be hit.
func (d *decision) useApproval(t *ent.Transaction) []ledger.Row {
	if d.approval == nil {
		return nil
	}
	return []ledger.Row{
		{Into: useApprovalRow, Values: []any{d.approval.ID.String(), t.ID.String(), int64(t.Quoted), t.CreatedAt.Unix()}},
		approvalEvent(d.approval, t.CreatedAt),
	}
}

// news tells those who watch approvals of the one that was used.
func (d *decision) news() []News {
	if d.approval == nil {
		return nil
	}
	return []News{approvalNews(d.approval)}
}

// wait looks at a request until it is decided or patience ends. News wakes it, from whatever process; what is lost is found
// by looking again.
func (s *Approvals) wait(ctx, patience context.Context, id uuid.UUID) (*ent.Approval, error) {
	patience, stop := context.WithCancel(patience)
	defer stop()
	news := s.bus.latest(patience, func(n News) bool { return n.Kind == ApprovalChanged && n.SubjectID == id })
	if s.waiting.Add(1) > maxWaiting {
		stop() // answered at once instead
	}
	defer s.waiting.Add(-1)
	for {
		a, err := s.db.readEnt.Approval.Get(ctx, id)
		if err != nil || a.Status != approval.StatusPending || a.ExpiresUnix <= s.clock().Unix() || patience.Err() != nil {
			return a, err
		}
		look, stop := context.WithTimeout(patience, lookAgain)
		news.take(look)
		stop()
	}
}
