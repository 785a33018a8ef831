package core

import (
	"context"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/predicate"
	"bursar/ent/transaction"
	"bursar/money"
)

// Transactions read the history.
type Transactions struct{ *store }

// Page bounds of history.
const (
	defaultPage = 20
	maxPage     = 100
)

// TransactionFilter selects history. Zero values select everything; Limit is clamped to 100 and defaults to 20.
type TransactionFilter struct {
	AgentID       *uuid.UUID
	SessionID     *uuid.UUID
	DefaultWallet bool // of the principal's default wallet only
	PaymentsOnly  bool
	Statuses      []transaction.Status
	Search        string // part of the endpoint, any letter case
	Network       string
	From, To      time.Time
	Limit, Offset int
}

// pageRows is how many rows a page has: defaultPage when nothing is asked for, maxPage at most.
func pageRows(limit, offset int) (int, error) {
	if limit < 0 || offset < 0 {
		return 0, E(InvalidRequest, "limit and offset must not be negative")
	}
	if limit == 0 {
		return defaultPage, nil
	}
	return min(limit, maxPage), nil
}

// TransactionPage is one page of history, newest first, with figures over everything that the filter selects.
type TransactionPage struct {
	Items     []*ent.Transaction
	Total     int
	Spent     money.USDC // charged payments
	Succeeded int
}

// List returns a page of history.
func (s *Transactions) List(ctx context.Context, p Principal, f TransactionFilter) (*TransactionPage, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	rows, err := pageRows(f.Limit, f.Offset)
	if err != nil {
		return nil, err
	}
	where, err := s.where(ctx, p, f)
	if err != nil {
		return nil, err
	}
	q := of(p, s.db.readEnt).transactions().Where(where...)
	page := &TransactionPage{}
	if page.Total, err = q.Clone().Count(ctx); err != nil {
		return nil, err
	}
	page.Items, err = q.Clone().Order(transaction.ByCreatedAt(desc()), transaction.ByID(desc())).Limit(rows).Offset(f.Offset).All(ctx)
	if err != nil {
		return nil, err
	}
	return page, s.stats(ctx, q.Clone(), page)
}

func (s *Transactions) where(ctx context.Context, p Principal, f TransactionFilter) ([]predicate.Transaction, error) {
	var where []predicate.Transaction
	if f.AgentID != nil {
		if _, err := of(p, s.db.readEnt).agent(*f.AgentID).OnlyID(ctx); err != nil {
			return nil, missing(err, "Agent wallet")
		}
		where = append(where, transaction.AgentID(*f.AgentID))
	}
	if f.DefaultWallet {
		id, err := of(p, s.db.readEnt).defaultAgent().OnlyID(ctx)
		if err != nil {
			return nil, missing(err, "Wallet")
		}
		where = append(where, transaction.AgentID(id))
	}
	if f.SessionID != nil {
		where = append(where, transaction.SessionID(*f.SessionID))
	}
	if f.PaymentsOnly {
		where = append(where, transaction.KindEQ(transaction.KindPayment))
	}
	if len(f.Statuses) > 0 {
		where = append(where, transaction.StatusIn(f.Statuses...))
	}
	if f.Search != "" {
		where = append(where, transaction.EndpointContainsFold(f.Search))
	}
	if f.Network != "" {
		where = append(where, transaction.Network(f.Network))
	}
	if !f.From.IsZero() {
		where = append(where, transaction.CreatedAtGTE(f.From.UTC()))
	}
	if !f.To.IsZero() {
		where = append(where, transaction.CreatedAtLTE(f.To.UTC()))
	}
	return where, nil
}

func (s *Transactions) stats(ctx context.Context, q *ent.TransactionQuery, page *TransactionPage) error {
	var rows []struct {
		Sum   money.USDC `json:"sum"`
		Count int        `json:"count"`
	}
	err := q.Where(transaction.KindEQ(transaction.KindPayment), transaction.StatusEQ(transaction.StatusSuccess)).
		Aggregate(ent.As(ent.Sum(transaction.FieldAmount), "sum"), ent.Count()).Scan(ctx, &rows)
	if err != nil {
		// The sum over no rows is NULL, which has no amount.
		n, countErr := q.Count(ctx)
		if countErr == nil && n == 0 {
			return nil
		}
		return err
	}
	if len(rows) > 0 {
		page.Spent, page.Succeeded = rows[0].Sum, rows[0].Count
	}
	return nil
}

// Get returns one record.
func (s *Transactions) Get(ctx context.Context, p Principal, id uuid.UUID) (*ent.Transaction, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	t, err := of(p, s.db.readEnt).transactions().Where(transaction.ID(id)).Only(ctx)
	return t, missing(err, "Transaction")
}

// DecidedBy is when the chain's time alone decides a payment: from then on the token refuses its proof, so that what
// no block has shown by then was never charged. It is nil for a record that is final, and for one without a proof. A
// session's charge that the seller has not collected yet is not final: it comes back then. The record tells as soon as
// a block of that time or later has been read. A metered call is decided by then too: it has no proof, and has ended.
func DecidedBy(t *ent.Transaction) *time.Time {
	open := t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown ||
		(t.Status == transaction.StatusSuccess && t.SessionID != nil && t.TxHash == nil && t.Amount > 0 && t.ServiceID == nil)
	if !open || t.Kind != transaction.KindPayment || t.ValidBeforeUnix == 0 {
		return nil
	}
	at := time.Unix(t.ValidBeforeUnix, 0).UTC()
	return &at
}

// Watch streams payments that reach their end, each once, in order. agentID nil means the whole organisation. A
// reader that falls behind is cut off: the channel closes, and it reads on from history.
func (s *Transactions) Watch(ctx context.Context, p Principal, agentID *uuid.UUID) (<-chan *ent.Transaction, error) {
	if err := p.need(ScopeTransactions); err != nil {
		return nil, err
	}
	if agentID != nil {
		if _, err := of(p, s.db.readEnt).agent(*agentID).OnlyID(ctx); err != nil {
			return nil, missing(err, "Agent wallet")
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	news, overflow := s.bus.log(ctx, func(n News) bool {
		return n.Kind == PaymentSettled && n.OrgID == p.OrgID && (agentID == nil || n.AgentID == *agentID)
	})
	out := make(chan *ent.Transaction)
	go func() {
		defer cancel()
		defer close(out)
		for {
			var n News
			select {
			case <-ctx.Done():
				return
			case <-overflow:
				return
			case n = <-news:
			}
			t, err := s.db.readEnt.Transaction.Get(ctx, n.SubjectID)
			if err != nil {
				s.log.WarnContext(ctx, "could not read a settled payment", "transaction_id", n.SubjectID, "error", err)
				return
			}
			select {
			case out <- t:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
