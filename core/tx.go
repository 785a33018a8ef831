package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"
	"github.com/lib/pq"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/event"
)

// Tx is a database transaction with its one timestamp and the news to tell after its commit. No network call
// may happen inside one.
type Tx struct {
	*ent.Client
	Now time.Time // UTC

	raw  ledger.Tx
	news []News
	done []Outcome // steps of payments, to be counted after the commit
}

const (
	maxTxTries = 3 // for serialization failures and deadlocks
)

var errNoRows = errors.New("sql: no rows in result set")

// inTx runs fn in one transaction, again when the database asks for it, and publishes its news after the commit.
func (s *store) inTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	var err error
	for range maxTxTries {
		var tx *Tx
		if tx, err = s.tryTx(ctx, fn); err == nil {
			s.committed(tx)
			return nil
		}
		if !retryable(err) {
			return err
		}
	}
	return err
}

func (s *store) tryTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) (*Tx, error) {
	raw, err := s.db.Begin(ctx)
	if err != nil {
		return nil, err
	}
	tx := &Tx{Client: raw.Client, Now: s.now(), raw: raw}
	if err := fn(ctx, tx); err != nil {
		return nil, errors.Join(err, ignoreDone(raw.SQL.Rollback()))
	}
	if err := raw.SQL.Commit(); err != nil {
		return nil, fmt.Errorf("core: commit: %w", err)
	}
	return tx, nil
}

// committed tells of what a transaction has done.
func (s *store) committed(tx *Tx) {
	s.outcomes.add(tx.done...)
	s.bus.Publish(tx.news...)
}

// now is the clock in the precision that both databases keep.
func (s *store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// ignoreDone drops the rollback error of a transaction that the database has ended itself.
func ignoreDone(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || err.Error() == "sql: transaction has already been committed or rolled back" {
		return nil
	}
	return err
}

func retryable(err error) bool {
	var e *pq.Error
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

// move applies ledger moves in this transaction. A refusal is returned as an error, so that the caller's whole
// transaction is given up.
func (tx *Tx) move(ctx context.Context, moves ...ledger.Move) (ledger.Result, error) {
	r, err := tx.units(ctx, ledger.Unit{Moves: moves})
	if err != nil {
		return ledger.Result{}, err
	}
	return r[0], nil
}

// moves is move for several moves that are judged one by one, each with a key of its own.
func (tx *Tx) moves(ctx context.Context, moves ...ledger.Move) ([]ledger.Result, error) {
	return tx.units(ctx, apart(moves)...)
}

// apart makes each move a unit of its own.
func apart(moves []ledger.Move) []ledger.Unit {
	units := make([]ledger.Unit, len(moves))
	for i, m := range moves {
		units[i] = ledger.Unit{Moves: []ledger.Move{m}}
	}
	return units
}

// units applies units whose rows are locked together and so in the one order. The first refusal gives the transaction up.
func (tx *Tx) units(ctx context.Context, units ...ledger.Unit) ([]ledger.Result, error) {
	results, err := ledger.Apply(ctx, tx.raw, tx.Now, units)
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		if r.Err != nil {
			return nil, r.Err
		}
		if !r.Repeated {
			tx.news = append(tx.news, balanceNews(r)...)
		}
	}
	return results, nil
}

// unit is what one caller commits through the ledger's batch: see ledger.Unit.
type unit struct {
	guard ledger.Guard
	moves []ledger.Move
	rows  func(now time.Time, r ledger.Result) []ledger.Row // that go with the moves; nil: none
	news  []News                                            // to tell after the commit, besides the balances
	done  []Outcome                                         // to count after the commit
}

// commit puts a unit into the ledger's batch, and publishes the news after the commit. A refusal is returned as an
// error; nothing has moved then.
func (s *store) commit(ctx context.Context, u unit) (ledger.Result, error) {
	in := ledger.Unit{Guard: u.guard, Moves: u.moves}
	if u.rows != nil {
		in.Rows = func(r ledger.Result) []ledger.Row { return u.rows(s.now(), r) }
	}
	r, err := s.batch.Do(ctx, in)
	if err != nil {
		return r, err
	}
	if r.Err != nil {
		return r, r.Err
	}
	if !r.Repeated {
		s.happened(u, r)
	}
	return r, nil
}

// happened tells of a unit that is committed.
func (s *store) happened(u unit, r ledger.Result) {
	s.outcomes.add(u.done...)
	s.bus.Publish(append(balanceNews(r), u.news...)...)
}

// balanceNews tells of every wallet and session account that a unit touched.
func balanceNews(r ledger.Result) []News {
	var news []News
	for _, a := range r.Accounts {
		if a.Kind != ledger.Wallet && a.Kind != ledger.Session {
			continue
		}
		news = append(news, News{Kind: BalanceChanged, OrgID: a.OrgID, AgentID: a.AgentID, SubjectID: a.ID, Account: &a})
		if a.Kind == ledger.Session {
			news = append(news, News{Kind: SessionChanged, OrgID: a.OrgID, AgentID: a.AgentID, SubjectID: a.OwnerID})
		}
	}
	return news
}

// sessionChanged tells of a change of a session's state, and keeps a row of it.
func (tx *Tx) sessionChanged(ctx context.Context, s *ent.Session) error {
	return tx.tell(ctx, SessionChanged, event.KindSessionChanged, s.OrgID, s.AgentID, s.ID)
}

// paymentSettled tells that a payment has reached its end, and keeps a row of it.
func (tx *Tx) paymentSettled(ctx context.Context, t *ent.Transaction) error {
	return tx.tell(ctx, PaymentSettled, event.KindPaymentSettled, t.OrgID, t.AgentID, t.ID)
}

func (tx *Tx) tell(ctx context.Context, kind NewsKind, stored event.Kind, org, agent, subject uuid.UUID) error {
	tx.news = append(tx.news, News{Kind: kind, OrgID: org, AgentID: agent, SubjectID: subject})
	return tx.Event.Create().SetOrgID(org).SetKind(stored).SetAgentID(agent).SetSubjectID(subject).SetCreatedAt(tx.Now).Exec(ctx)
}

// audit remembers who did what to a key or a credential.
func (tx *Tx) audit(ctx context.Context, p Principal, action string, subject uuid.UUID) error {
	return tx.AuditLog.Create().SetOrgID(p.OrgID).SetUserID(p.UserID).SetAction(action).SetSubjectID(subject).SetCreatedAt(tx.Now).Exec(ctx)
}

func desc() entsql.OrderTermOption { return entsql.OrderDesc() }
