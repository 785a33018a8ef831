package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"
	"github.com/lib/pq"

	"bursar/money"
)

// wanted names every row that units touch.
type wanted struct {
	agents, credentials, accounts, holds map[uuid.UUID]bool
	counters, keys, logs                 map[string]bool
}

func want(units []Unit) *wanted {
	w := &wanted{
		agents: map[uuid.UUID]bool{}, credentials: map[uuid.UUID]bool{}, accounts: map[uuid.UUID]bool{}, holds: map[uuid.UUID]bool{},
		counters: map[string]bool{}, keys: map[string]bool{}, logs: map[string]bool{},
	}
	for _, u := range units {
		note(w.agents, u.Guard.Agent)
		note(w.credentials, u.Guard.Credential)
		for _, m := range u.Moves {
			note(w.holds, m.HoldID)
			note(w.accounts, m.Debit, m.Credit)
			note(w.keys, m.Key)
			note(w.logs, m.LogKey)
			note(w.counters, m.Counters...)
			note(w.counters, m.Read...)
		}
	}
	return w
}

func note[K comparable](set map[K]bool, names ...K) {
	var none K
	for _, n := range names {
		if n != none {
			set[n] = true
		}
	}
}

// load locks and reads every row that the units touch: on PostgreSQL by the function ledger_load, in one round trip; on
// SQLite, whose transaction is the only writer and where a call costs no trip, query by query.
func load(ctx context.Context, tx Tx, units []Unit) (*books, error) {
	b, w := newBooks(), want(units)
	if tx.Dialect == dialect.Postgres {
		return b, b.read(ctx, tx, `SELECT * FROM ledger_load($1, $2, $3, $4, $5, $6, $7)`,
			pq.Array(texts(w.agents)), pq.Array(texts(w.credentials)), pq.Array(sorted(w.counters)), pq.Array(texts(w.accounts)),
			pq.Array(texts(w.holds)), pq.Array(sorted(w.keys)), pq.Array(sorted(w.logs)))
	}
	return b, b.loadSQLite(ctx, tx, w)
}

// The queries of the function ledger_load, one by one. A counter that is not there counts zero, and is added when it is
// written.
const (
	selRules = `SELECT 'rules', a.id, NULL, a.department_id, NULL, NULL, NULL, NULL, NULL, NULL, p.version, COALESCE(d.version, 0), o.version, NULL, NULL, a.active, NULL
		FROM agents a JOIN spending_policies p ON p.agent_id = a.id JOIN orgs o ON o.id = a.org_id LEFT JOIN departments d ON d.id = a.department_id
		WHERE a.id IN (SELECT value FROM json_each(?1))`
	selCredentials = `SELECT 'credential', id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, revoked_at IS NOT NULL, expires_at
		FROM api_keys WHERE id IN (SELECT value FROM json_each(?1))`
	selCounters = `SELECT 'counter', NULL, id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, spent, calls, NULL, NULL, NULL, NULL, NULL
		FROM usages WHERE id IN (SELECT value FROM json_each(?1))`
	selAccounts = `SELECT 'account', id, kind, owner_id, org_id, agent_id, NULL, NULL, NULL, NULL,
		debits_pending, debits_posted, credits_posted, holds_until, version, NULL, NULL
		FROM accounts WHERE id IN (SELECT value FROM json_each(?1))`
	selTransfers = `SELECT 'transfer', id, key, debit_id, credit_id, transaction_id, status, code, counters, log_key, amount, posted, block, NULL, NULL, NULL, NULL
		FROM transfers WHERE id IN (SELECT value FROM json_each(?1)) OR key IN (SELECT value FROM json_each(?2)) OR log_key IN (SELECT value FROM json_each(?3))`
)

func (b *books) loadSQLite(ctx context.Context, tx Tx, w *wanted) error {
	if err := b.readSome(ctx, tx, selTransfers, len(w.holds)+len(w.keys)+len(w.logs), list(texts(w.holds)), list(sorted(w.keys)), list(sorted(w.logs))); err != nil {
		return err
	}
	for id := range w.holds {
		if e := b.transfers[id]; e != nil {
			note(w.accounts, e.Debit, e.Credit)
			note(w.counters, e.Counters...)
		}
	}
	for _, q := range []struct {
		query string
		names []string
	}{{selRules, texts(w.agents)}, {selCredentials, texts(w.credentials)}, {selCounters, sorted(w.counters)}, {selAccounts, texts(w.accounts)}} {
		if err := b.readSome(ctx, tx, q.query, len(q.names), list(q.names)); err != nil {
			return err
		}
	}
	for c := range w.counters {
		if b.counters[c] == nil {
			b.counters[c] = &counter{}
		}
	}
	return nil
}

func (b *books) readSome(ctx context.Context, tx Tx, query string, names int, args ...any) error {
	if names == 0 {
		return nil
	}
	return b.read(ctx, tx, query, args...)
}

// read enters rows of any kind. Their columns are those of the function ledger_load.
func (b *books) read(ctx context.Context, tx Tx, query string, args ...any) error {
	rows, err := tx.query(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("ledger: read: %w", err)
	}
	defer rows.Close()
	var r row
	for rows.Next() {
		if err := rows.Scan(&r.what, &r.id, &r.name, &r.x, &r.y, &r.z, &r.s[0], &r.s[1], &r.s[2], &r.s[3],
			&r.n[0], &r.n[1], &r.n[2], &r.n[3], &r.n[4], &r.yes, &r.at); err != nil {
			return fmt.Errorf("ledger: read: %w", err)
		}
		if err := b.enter(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row is one of any kind; which columns it has is said in enter.
type row struct {
	what    string
	id      uuid.NullUUID
	name    sql.NullString
	x, y, z uuid.NullUUID
	s       [4]sql.NullString
	n       [5]sql.NullInt64
	yes     sql.NullBool
	at      sql.NullTime
}

func (b *books) enter(r *row) error {
	usdc := func(i int) money.USDC { return money.USDC(r.n[i].Int64) }
	switch r.what {
	case "rules":
		b.guards.rules[r.id.UUID] = Rules{
			Active: r.yes.Bool, Department: r.x.UUID, PolicyVersion: r.n[0].Int64, DepartmentVersion: r.n[1].Int64, OrgVersion: r.n[2].Int64,
		}
	case "credential":
		b.guards.credentials[r.id.UUID] = credential{revoked: r.yes.Bool, expires: r.at}
	case "counter":
		b.counters[r.name.String] = &counter{spent: usdc(0), calls: r.n[1].Int64}
	case "account":
		b.accounts[r.id.UUID] = &State{
			ID: r.id.UUID, Kind: r.name.String, OwnerID: r.x.UUID, OrgID: r.y.UUID, AgentID: r.z.UUID,
			DebitsPending: usdc(0), DebitsPosted: usdc(1), CreditsPosted: usdc(2), HoldsUntil: r.n[3].Int64, Version: r.n[4].Int64,
		}
	case "transfer":
		b.add(&Entry{
			ID: r.id.UUID, Key: r.name.String, Debit: r.x.UUID, Credit: r.y.UUID, TransactionID: r.z.UUID,
			Status: r.s[0].String, Code: r.s[1].String, Counters: strings.Fields(r.s[2].String), LogKey: r.s[3].String,
			Amount: usdc(0), Posted: usdc(1), Block: uint64(r.n[2].Int64),
		})
	default:
		return fmt.Errorf("ledger: a row of kind %q", r.what)
	}
	return nil
}

// sorted is never nil, which the database would take for NULL.
func sorted(names map[string]bool) []string {
	out := slices.AppendSeq(make([]string, 0, len(names)), maps.Keys(names))
	slices.Sort(out)
	return out
}
