package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/approval"
	"bursar/ent/trace"
)

// Traces tell why calls were allowed to pay, or refused, and where wallets have signed in.
type Traces struct{ *store }

// TraceView is a trace with its detail read.
type TraceView struct {
	*ent.Trace
	TraceDetail
}

// TraceFilter selects traces. Zero values select everything; Limit is clamped to 100 and defaults to 20.
type TraceFilter struct {
	AgentID       *uuid.UUID
	Outcome       *trace.Outcome
	Limit, Offset int
}

// TracePage is one page of traces, newest first.
type TracePage struct {
	Items []*TraceView
	Total int
}

// payee is whom the offer that was chosen would pay; empty when it did not come to a choice.
func (v *TraceView) payee() string {
	if v.Chosen == nil || *v.Chosen >= len(v.Offers) {
		return ""
	}
	return v.Offers[*v.Chosen].PayTo
}

func viewTrace(t *ent.Trace) (*TraceView, error) {
	v := &TraceView{Trace: t}
	if err := json.Unmarshal(t.Detail, &v.TraceDetail); err != nil {
		return nil, fmt.Errorf("core: trace %s: %w", t.ID, err)
	}
	return v, nil
}

// What costs a caller nothing must not fill the disk: refusals, logins, and what was held and not paid are kept for as long as
// a replay reaches back.
const (
	traceLife  = maxReplayDays * 24 * time.Hour
	forgetRows = 1000 // in one statement; of those one run of the job makes forgetBatches
)

// Forget removes the traces of refusals, of logins and of requests for approval, and the requests by which nobody has paid, when their
// time has passed.
func (s *Traces) Forget(ctx context.Context) error {
	long := s.now().Add(-traceLife)
	traces := s.db.readEnt.Trace.Query().Where(trace.OutcomeIn(trace.OutcomeRefused, trace.OutcomeHeld, trace.OutcomeLogin), trace.CreatedAtLT(long)).
		Order(trace.ByCreatedAt()).Limit(forgetRows)
	requests := s.db.readEnt.Approval.Query().Where(approval.StatusIn(approval.StatusDenied, approval.StatusExpired), approval.CreatedAtLT(long)).
		Order(approval.ByCreatedAt()).Limit(forgetRows)
	return errors.Join(
		forgetOld(func() ([]uuid.UUID, error) { return traces.Clone().IDs(ctx) }, func(old []uuid.UUID) error {
			_, err := s.db.writeEnt.Trace.Delete().Where(trace.IDIn(old...)).Exec(ctx)
			return err
		}),
		forgetOld(func() ([]uuid.UUID, error) { return requests.Clone().IDs(ctx) }, func(old []uuid.UUID) error {
			_, err := s.db.writeEnt.Approval.Delete().Where(approval.IDIn(old...)).Exec(ctx)
			return err
		}),
	)
}

// forgetOld removes rows by some at a time, until none is found or a run has done enough.
func forgetOld(find func() ([]uuid.UUID, error), remove func([]uuid.UUID) error) error {
	for range forgetBatches {
		old, err := find()
		if err != nil || len(old) == 0 {
			return err
		}
		if err := remove(old); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the trace of a payment by the payment's id, or of a refusal or a login by its own.
func (s *Traces) Get(ctx context.Context, p Principal, id uuid.UUID) (*TraceView, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	t, err := of(p, s.db.readEnt).traces().Where(trace.ID(id)).Only(ctx)
	if err != nil {
		return nil, missing(err, "Trace")
	}
	return viewTrace(t)
}

// List returns a page of traces.
func (s *Traces) List(ctx context.Context, p Principal, f TraceFilter) (*TracePage, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	most, err := pageRows(f.Limit, f.Offset)
	if err != nil {
		return nil, err
	}
	q := of(p, s.db.readEnt).traces()
	if f.AgentID != nil {
		if _, err := of(p, s.db.readEnt).agent(*f.AgentID).OnlyID(ctx); err != nil {
			return nil, missing(err, "Agent wallet")
		}
		q.Where(trace.AgentID(*f.AgentID))
	}
	if f.Outcome != nil {
		q.Where(trace.OutcomeEQ(*f.Outcome))
	}
	page := &TracePage{}
	if page.Total, err = q.Clone().Count(ctx); err != nil {
		return nil, err
	}
	rows, err := q.Order(trace.ByCreatedAt(desc()), trace.ByID(desc())).Limit(most).Offset(f.Offset).All(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range rows {
		v, err := viewTrace(t)
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, v)
	}
	return page, nil
}
