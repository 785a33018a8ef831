package ledger

import (
	"context"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/lib/pq"
)

// Statement writes many rows: on PostgreSQL it is one statement whose rows are unnested from one array for each
// column, on SQLite it is run once a row (a call there costs no round trip).
type Statement struct {
	Name     string
	Columns  []string // PostgreSQL types, in the order of the row's values
	Postgres string   // reads from v(c1, c2, …)
	SQLite   string   // ?1, ?2, …
	MayMiss  bool     // a row that hits nothing is no error
}

// Row is one row for a statement.
type Row struct {
	Into   *Statement
	Values []any
}

var (
	setUsage = &Statement{
		Name:     "set usage",
		Columns:  []string{"text", "bigint", "bigint"},
		Postgres: `UPDATE usages u SET spent = v.c2, calls = v.c3 FROM v WHERE u.id = v.c1`,
		SQLite:   `UPDATE usages SET spent = ?2, calls = ?3 WHERE id = ?1`,
	}
	setAccount = &Statement{
		Name:     "set account",
		Columns:  []string{"uuid", "bigint", "bigint", "bigint", "bigint", "bigint"},
		Postgres: `UPDATE accounts a SET debits_pending = v.c2, debits_posted = v.c3, credits_posted = v.c4, holds_until = v.c5, version = v.c6 FROM v WHERE a.id = v.c1`,
		SQLite:   `UPDATE accounts SET debits_pending = ?2, debits_posted = ?3, credits_posted = ?4, holds_until = ?5, version = ?6 WHERE id = ?1`,
	}
	addTransfer = &Statement{
		Name:    "add transfer",
		Columns: []string{"uuid", "timestamptz", "text", "uuid", "uuid", "text", "bigint", "bigint", "text", "uuid", "text", "text", "timestamptz", "bigint"},
		Postgres: `INSERT INTO transfers (id, created_at, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, ended_at, block)
			SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 FROM v`,
		SQLite: `INSERT INTO transfers (id, created_at, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, ended_at, block)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)`,
	}
	endTransfer = &Statement{
		Name:     "end transfer",
		Columns:  []string{"uuid", "text", "bigint", "text", "timestamptz", "bigint"},
		Postgres: `UPDATE transfers t SET status = v.c2, posted = v.c3, log_key = v.c4, ended_at = v.c5, block = v.c6 FROM v WHERE t.id = v.c1 AND t.status = 'pending'`,
		SQLite:   `UPDATE transfers SET status = ?2, posted = ?3, log_key = ?4, ended_at = ?5, block = ?6 WHERE id = ?1 AND status = 'pending'`,
	}
)

// writer gathers rows by statement and runs each statement once, in the order of first use.
type writer struct {
	tx    Tx
	order []*Statement
	rows  map[*Statement][][]any
}

func (w *writer) add(s *Statement, values ...any) {
	if w.rows == nil {
		w.rows = map[*Statement][][]any{}
	}
	if _, seen := w.rows[s]; !seen {
		w.order = append(w.order, s)
	}
	w.rows[s] = append(w.rows[s], values)
}

// flush runs the statements. Every row must be hit: a row that is not means that a lock was missing, and the
// transaction is given up.
func (w *writer) flush(ctx context.Context) error {
	for _, s := range w.order {
		rows := w.rows[s]
		hit, err := w.run(ctx, s, rows)
		if err != nil {
			return fmt.Errorf("ledger: %s: %w", s.Name, err)
		}
		if hit != int64(len(rows)) && !s.MayMiss {
			return fmt.Errorf("ledger: %s: %w: %d of %d", s.Name, ErrMissed, hit, len(rows))
		}
	}
	return nil
}

func (w *writer) run(ctx context.Context, s *Statement, rows [][]any) (int64, error) {
	if w.tx.Dialect == dialect.Postgres {
		args, names := make([]any, len(s.Columns)), make([]string, len(s.Columns))
		from := make([]string, len(s.Columns))
		for c, kind := range s.Columns {
			column := make([]any, len(rows))
			for r := range rows {
				column[r] = rows[r][c]
			}
			args[c], names[c] = pq.GenericArray{A: column}, fmt.Sprintf("c%d", c+1)
			from[c] = fmt.Sprintf("$%d::%s[]", c+1, kind)
		}
		with := fmt.Sprintf("WITH v(%s) AS (SELECT * FROM unnest(%s)) ", strings.Join(names, ", "), strings.Join(from, ", "))
		res, err := w.tx.exec(ctx, with+s.Postgres, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	var hit int64
	for _, row := range rows {
		res, err := w.tx.exec(ctx, s.SQLite, row...)
		if err != nil {
			return 0, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return 0, err
		}
		hit += n
	}
	return hit, nil
}
