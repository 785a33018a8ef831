package core

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/approval"
	"bursar/ent/event"
)

// Approvals are the requests for a person's yes. One is good for one payment of one agent to one payee at one host, of at
// most its ceiling: pending → approved → used, or denied, or expired.
type Approvals struct {
	*store
	waiting atomic.Int64 // calls of this process that wait for a person
}

// Bounds of approvals.
const (
	approvalLife    = time.Hour        // a request waits for so long; a yes is good, and a no stands, for as long again
	maxApprovalWait = 60 * time.Second // that a call waits for a person
	maxWaiting      = 1000             // calls of one process; the others are answered at once
	maxPending      = 100              // requests of one agent
	lookAgain       = 5 * time.Second  // where news of a decision was lost
	expireApprovals = 200              // requests of one run of the job
)

// ApprovalFilter selects requests. Zero values select everything; Limit is clamped to 100 and defaults to 20.
type ApprovalFilter struct {
	AgentID       *uuid.UUID
	Status        *approval.Status
	Limit, Offset int
}

// ApprovalPage is one page of requests, newest first.
type ApprovalPage struct {
	Items []*ent.Approval
	Total int
}

// List returns a page of requests.
func (s *Approvals) List(ctx context.Context, p Principal, f ApprovalFilter) (*ApprovalPage, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	rows, err := pageRows(f.Limit, f.Offset)
	if err != nil {
		return nil, err
	}
	q := of(p, s.db.readEnt).approvals()
	if f.AgentID != nil {
		if _, err := of(p, s.db.readEnt).agent(*f.AgentID).OnlyID(ctx); err != nil {
			return nil, missing(err, "Agent wallet")
		}
		q.Where(approval.AgentID(*f.AgentID))
	}
	if f.Status != nil {
		q.Where(approval.StatusEQ(*f.Status))
	}
	page := &ApprovalPage{}
	if page.Total, err = q.Clone().Count(ctx); err != nil {
		return nil, err
	}
	page.Items, err = q.Order(approval.ByCreatedAt(desc()), approval.ByID(desc())).Limit(rows).Offset(f.Offset).All(ctx)
	return page, err
}

// Get returns one request.
func (s *Approvals) Get(ctx context.Context, p Principal, id uuid.UUID) (*ent.Approval, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	a, err := of(p, s.db.readEnt).approvals().Where(approval.ID(id)).Only(ctx)
	return a, missing(err, "Approval")
}

// ExpireDue ends the requests that nobody has answered in time, and the answers that nobody has used.
func (s *Approvals) ExpireDue(ctx context.Context) error {
	due, err := s.db.readEnt.Approval.Query().Where(
		approval.StatusIn(approval.StatusPending, approval.StatusApproved), approval.ExpiresUnixLTE(s.clock().Unix()),
	).Order(approval.ByID()).Limit(expireApprovals).IDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range due {
		if err := s.expire(ctx, id); err != nil {
			return fmt.Errorf("core: expire approval %s: %w", id, err)
		}
	}
	return nil
}

// expire ends a request that is not used, if it is not decided meanwhile.
func (s *Approvals) expire(ctx context.Context, id uuid.UUID) error {
	return s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Approval.Update().Where(approval.ID(id), approval.Or(
			approval.StatusEQ(approval.StatusPending),
			approval.And(approval.StatusEQ(approval.StatusApproved), approval.ExpiresUnixLTE(tx.Now.Unix())),
		)).SetStatus(approval.StatusExpired).Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		a, err := tx.Approval.Get(ctx, id)
		if err != nil {
			return err
		}
		return tx.approvalChanged(ctx, a)
	})
}

// approvalChanged tells of a change of a request's state, and keeps a row of it.
func (tx *Tx) approvalChanged(ctx context.Context, a *ent.Approval) error {
	return tx.tell(ctx, ApprovalChanged, event.KindApprovalChanged, a.OrgID, a.AgentID, a.ID)
}

// Watch streams the organisation's requests, or those of one agent: the ones that are pending now, then each new state of
// any; with pending, only those that wait for a person. A slow reader gets the newest state only.
func (s *Approvals) Watch(ctx context.Context, p Principal, agentID *uuid.UUID, pending bool) (<-chan *ent.Approval, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	if agentID != nil {
		if _, err := of(p, s.db.readEnt).agent(*agentID).OnlyID(ctx); err != nil {
			return nil, missing(err, "Agent wallet")
		}
	}
	news := s.bus.latest(ctx, func(n News) bool {
		return n.Kind == ApprovalChanged && n.OrgID == p.OrgID && (agentID == nil || n.AgentID == *agentID)
	})
	q := of(p, s.db.readEnt).approvals().Where(approval.StatusEQ(approval.StatusPending))
	if agentID != nil {
		q.Where(approval.AgentID(*agentID))
	}
	now, err := q.Order(approval.ByID(desc())).Limit(maxPage).All(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan *ent.Approval)
	go s.stream(ctx, p, out, now, news, pending)
	return out, nil
}

// stream tells what waits now, oldest first, and then what changes.
func (s *Approvals) stream(ctx context.Context, p Principal, out chan<- *ent.Approval, now []*ent.Approval, news *slot, pending bool) {
	defer close(out)
	var known heard
	tell := func(a *ent.Approval) {
		if known.last(a.ID) == a.Status || (pending && a.Status != approval.StatusPending) {
			return
		}
		select {
		case out <- a:
			known.put(a)
		case <-ctx.Done():
		}
	}
	for i := range now {
		tell(now[len(now)-1-i])
	}
	for batch := news.take(ctx); batch != nil; batch = news.take(ctx) {
		for _, n := range batch {
			a, err := s.Get(ctx, p, n.SubjectID)
			if err != nil {
				if ctx.Err() == nil {
					s.log.WarnContext(ctx, "could not read a changed approval", "approval_id", n.SubjectID, "error", err)
				}
				continue
			}
			tell(a)
		}
	}
}

// heard is what a stream has told last of the requests that it has told of lately. One that is forgotten is told again when news
// of it comes twice, which is harmless: it is the newest state.
type heard struct{ now, before map[uuid.UUID]approval.Status }

const maxHeard = 1000 // requests, and as many of before

func (h *heard) last(id uuid.UUID) approval.Status {
	if s, known := h.now[id]; known {
		return s
	}
	return h.before[id]
}

func (h *heard) put(a *ent.Approval) {
	if h.now == nil || len(h.now) >= maxHeard {
		h.now, h.before = make(map[uuid.UUID]approval.Status), h.now
	}
	h.now[a.ID] = a.Status
}
