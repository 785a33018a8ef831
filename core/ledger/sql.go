package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"
	"github.com/lib/pq"

	"bursar/ent"
)

// Tx is one database transaction in both of its forms: statements by hand for money, ent for the rest.
type Tx struct {
	SQL      *sql.Tx
	Client   *ent.Client
	Dialect  string // dialect.Postgres or dialect.SQLite
	Prepared *Prepared
}

// The money statements. Locks are taken in one order everywhere: usage rows by id, then accounts by id. A hold's
// end needs no lock on the transfer, because every end of it locks its debit account first. On SQLite the
// transaction is the only writer, so nothing is locked by row.
const (
	selTransfers = `SELECT id, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, block FROM transfers
		WHERE id %s OR key %s OR log_key %s`
	addUsagesPostgres = `INSERT INTO usages (id, spent, calls) SELECT v, 0, 0 FROM unnest($1::text[]) AS v ORDER BY v ON CONFLICT (id) DO NOTHING`
	addUsagesSQLite   = `INSERT INTO usages (id, spent, calls) SELECT value, 0, 0 FROM json_each(?1) WHERE true ON CONFLICT (id) DO NOTHING`
	selUsages         = `SELECT id, spent, calls FROM usages WHERE id %s ORDER BY id`
	selAccounts       = `SELECT id, kind, owner_id, org_id, agent_id, debits_pending, debits_posted, credits_posted, holds_until, version FROM accounts
		WHERE id %s ORDER BY id`
	forUpdate = ` FOR UPDATE`
)

// in writes the condition "is one of these" over one list parameter, and the parameter.
func (tx Tx) in(n int, kind string, values []string) (string, any) {
	if tx.Dialect == dialect.Postgres {
		return fmt.Sprintf("= ANY($%d::%s[])", n, kind), pq.Array(values)
	}
	if values == nil {
		values = []string{}
	}
	b, _ := json.Marshal(values) // a list of strings always marshals
	return fmt.Sprintf("IN (SELECT value FROM json_each(?%d))", n), string(b)
}

func (tx Tx) locking(query string) string {
	if tx.Dialect == dialect.Postgres {
		return query + forUpdate
	}
	return query
}

// load locks and reads every row that the units touch.
func load(ctx context.Context, tx Tx, units []Unit) (*books, error) {
	b := newBooks()
	ids, keys, logs := map[uuid.UUID]bool{}, map[string]bool{}, map[string]bool{}
	counters, accounts := map[string]bool{}, map[uuid.UUID]bool{}
	for _, u := range units {
		for _, m := range u.Moves {
			if m.HoldID != uuid.Nil {
				ids[m.HoldID] = true
			}
			if m.Key != "" {
				keys[m.Key] = true
			}
			if m.LogKey != "" {
				logs[m.LogKey] = true
			}
			for _, id := range []uuid.UUID{m.Debit, m.Credit} {
				if id != uuid.Nil {
					accounts[id] = true
				}
			}
			for _, c := range slices.Concat(m.Counters, m.Read) {
				counters[c] = true
			}
		}
	}
	if err := b.guards.load(ctx, tx, units); err != nil {
		return nil, err
	}
	// A hold's accounts and counters never change, so they may be read before the locks.
	if len(ids) > 0 {
		if err := loadTransfers(ctx, tx, b, ids, nil, nil); err != nil {
			return nil, err
		}
		for _, e := range b.transfers {
			accounts[e.Debit], accounts[e.Credit] = true, true
			for _, c := range e.Counters {
				counters[c] = true
			}
		}
	}
	if err := loadUsages(ctx, tx, b, counters); err != nil {
		return nil, err
	}
	if err := loadAccounts(ctx, tx, b, accounts); err != nil {
		return nil, err
	}
	// Its status may: read what counts once more, behind the locks.
	return b, loadTransfers(ctx, tx, b, ids, keys, logs)
}

func loadTransfers(ctx context.Context, tx Tx, b *books, ids map[uuid.UUID]bool, keys, logs map[string]bool) error {
	if len(ids)+len(keys)+len(logs) == 0 {
		return nil
	}
	q1, a1 := tx.in(1, "uuid", texts(ids))
	q2, a2 := tx.in(2, "text", slices.Collect(maps.Keys(keys)))
	q3, a3 := tx.in(3, "text", slices.Collect(maps.Keys(logs)))
	rows, err := tx.query(ctx, fmt.Sprintf(selTransfers, q1, q2, q3), a1, a2, a3)
	if err != nil {
		return fmt.Errorf("ledger: read transfers: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		var transaction uuid.NullUUID
		var counters, log sql.NullString
		var block sql.NullInt64
		if err := rows.Scan(&e.ID, &e.Key, &e.Debit, &e.Credit, &e.Status, &e.Amount, &e.Posted, &e.Code, &transaction, &counters, &log, &block); err != nil {
			return fmt.Errorf("ledger: read transfers: %w", err)
		}
		e.TransactionID, e.Counters, e.LogKey = transaction.UUID, strings.Fields(counters.String), log.String
		e.Block = uint64(block.Int64)
		b.add(&e)
	}
	return rows.Err()
}

func loadUsages(ctx context.Context, tx Tx, b *books, ids map[string]bool) error {
	if len(ids) == 0 {
		return nil
	}
	q, arg := tx.in(1, "text", slices.Sorted(maps.Keys(ids)))
	add := addUsagesPostgres
	if tx.Dialect == dialect.SQLite {
		add = addUsagesSQLite
	}
	if _, err := tx.exec(ctx, add, arg); err != nil {
		return fmt.Errorf("ledger: add counters: %w", err)
	}
	rows, err := tx.query(ctx, tx.locking(fmt.Sprintf(selUsages, q)), arg)
	if err != nil {
		return fmt.Errorf("ledger: read counters: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		c := &counter{}
		if err := rows.Scan(&id, &c.spent, &c.calls); err != nil {
			return fmt.Errorf("ledger: read counters: %w", err)
		}
		b.counters[id] = c
	}
	return rows.Err()
}

func loadAccounts(ctx context.Context, tx Tx, b *books, ids map[uuid.UUID]bool) error {
	if len(ids) == 0 {
		return nil
	}
	q, arg := tx.in(1, "uuid", texts(ids))
	rows, err := tx.query(ctx, tx.locking(fmt.Sprintf(selAccounts, q)), arg)
	if err != nil {
		return fmt.Errorf("ledger: read accounts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		s := &State{}
		var org, agent uuid.NullUUID
		if err := rows.Scan(&s.ID, &s.Kind, &s.OwnerID, &org, &agent, &s.DebitsPending, &s.DebitsPosted, &s.CreditsPosted, &s.HoldsUntil, &s.Version); err != nil {
			return fmt.Errorf("ledger: read accounts: %w", err)
		}
		s.OrgID, s.AgentID = org.UUID, agent.UUID
		b.accounts[s.ID] = s
	}
	return rows.Err()
}

func texts(ids map[uuid.UUID]bool) []string {
	out := make([]string, 0, len(ids))
	for id := range ids {
		out = append(out, id.String())
	}
	slices.Sort(out)
	return out
}

func nullable(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

func nullableID(id uuid.UUID) sql.NullString {
	return sql.NullString{String: id.String(), Valid: id != uuid.Nil}
}

func nullableBlock(b uint64) sql.NullInt64 { return sql.NullInt64{Int64: int64(b), Valid: b != 0} }

// store hands what judge changed to the writer.
func (b *books) store(w *writer, now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(b.changedCounters)) {
		c := b.counters[id]
		w.add(setUsage, id, int64(c.spent), c.calls)
	}
	for _, id := range texts(b.changedAccounts) {
		s := b.accounts[uuid.MustParse(id)]
		w.add(setAccount, id, int64(s.DebitsPending), int64(s.DebitsPosted), int64(s.CreditsPosted), s.HoldsUntil, s.Version)
	}
	now = now.UTC()
	for _, id := range b.newTransfers {
		e := b.transfers[id]
		ended := sql.NullTime{Time: now, Valid: e.Status != pending}
		w.add(addTransfer, e.ID.String(), now, e.Key, e.Debit.String(), e.Credit.String(), e.Status, int64(e.Amount), int64(e.Posted), e.Code,
			nullableID(e.TransactionID), strings.Join(e.Counters, " "), nullable(e.LogKey), ended, nullableBlock(e.Block))
	}
	for id := range b.changedTransfers {
		e := b.transfers[id]
		w.add(endTransfer, e.ID.String(), e.Status, int64(e.Posted), nullable(e.LogKey), now, nullableBlock(e.Block))
	}
}
