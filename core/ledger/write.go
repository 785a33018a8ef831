package ledger

import (
	"context"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/lib/pq"
)

// bulk is a statement over many rows: on PostgreSQL one statement whose rows are unnested from one array for
// each column, on SQLite the row statement once a row (a call there costs no round trip).
type bulk struct {
	name     string
	columns  []string // PostgreSQL types, in the order of the row's values
	postgres string   // reads from v(c1, c2, …)
	sqlite   string   // ?1, ?2, …
}

var (
	setUsage = &bulk{
		"set usage",
		[]string{"text", "bigint", "bigint"},
		`UPDATE usages u SET spent = v.c2, calls = v.c3 FROM v WHERE u.id = v.c1`,
		`UPDATE usages SET spent = ?2, calls = ?3 WHERE id = ?1`,
	}
	setAccount = &bulk{
		"set account",
		[]string{"uuid", "bigint", "bigint", "bigint", "bigint", "bigint"},
		`UPDATE accounts a SET debits_pending = v.c2, debits_posted = v.c3, credits_posted = v.c4, holds_until = v.c5, version = v.c6 FROM v WHERE a.id = v.c1`,
		`UPDATE accounts SET debits_pending = ?2, debits_posted = ?3, credits_posted = ?4, holds_until = ?5, version = ?6 WHERE id = ?1`,
	}
	addTransfer = &bulk{
		"add transfer",
		[]string{"uuid", "timestamptz", "text", "uuid", "uuid", "text", "bigint", "bigint", "text", "uuid", "text", "text", "timestamptz", "bigint"},
		`INSERT INTO transfers (id, created_at, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, ended_at, block)
			SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 FROM v`,
		`INSERT INTO transfers (id, created_at, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, ended_at, block)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)`,
	}
	endTransfer = &bulk{
		"end transfer",
		[]string{"uuid", "text", "bigint", "text", "timestamptz", "bigint"},
		`UPDATE transfers t SET status = v.c2, posted = v.c3, log_key = v.c4, ended_at = v.c5, block = v.c6 FROM v WHERE t.id = v.c1 AND t.status = 'pending'`,
		`UPDATE transfers SET status = ?2, posted = ?3, log_key = ?4, ended_at = ?5, block = ?6 WHERE id = ?1 AND status = 'pending'`,
	}
)

// writer gathers rows by statement and runs each statement once, in the order of first use.
type writer struct {
	tx    Tx
	order []*bulk
	rows  map[*bulk][][]any
}

func (w *writer) add(s *bulk, values ...any) {
	if w.rows == nil {
		w.rows = map[*bulk][][]any{}
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
			return fmt.Errorf("ledger: %s: %w", s.name, err)
		}
		if hit != int64(len(rows)) {
			return fmt.Errorf("ledger: %s: %d rows of %d", s.name, hit, len(rows))
		}
	}
	return nil
}

func (w *writer) run(ctx context.Context, s *bulk, rows [][]any) (int64, error) {
	if w.tx.Dialect == dialect.Postgres {
		args, names := make([]any, len(s.columns)), make([]string, len(s.columns))
		from := make([]string, len(s.columns))
		for c, kind := range s.columns {
			column := make([]any, len(rows))
			for r := range rows {
				column[r] = rows[r][c]
			}
			args[c], names[c] = pq.GenericArray{A: column}, fmt.Sprintf("c%d", c+1)
			from[c] = fmt.Sprintf("$%d::%s[]", c+1, kind)
		}
		with := fmt.Sprintf("WITH v(%s) AS (SELECT * FROM unnest(%s)) ", strings.Join(names, ", "), strings.Join(from, ", "))
		res, err := w.tx.SQL.ExecContext(ctx, with+s.postgres, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	var hit int64
	for _, row := range rows {
		res, err := w.tx.SQL.ExecContext(ctx, s.sqlite, row...)
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
