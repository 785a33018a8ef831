package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/lib/pq"
)

// Statement writes many rows of one table: on PostgreSQL its rows are unnested from one array for each column, on SQLite
// it is run once a row (a call there costs no round trip).
type Statement struct {
	Name     string
	Table    string
	Columns  []string // PostgreSQL types, in the order of the row's values
	Postgres string   // reads from v(c1, c2, …), and may be followed by RETURNING
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
		Table:    "usages",
		Columns:  []string{"text", "bigint", "bigint"},
		Postgres: `UPDATE usages u SET spent = v.c2, calls = v.c3 FROM v WHERE u.id = v.c1`,
		SQLite:   `INSERT INTO usages (id, spent, calls) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET spent = ?2, calls = ?3`,
	}
	setAccount = &Statement{
		Name:     "set account",
		Table:    "accounts",
		Columns:  []string{"uuid", "bigint", "bigint", "bigint", "bigint", "bigint"},
		Postgres: `UPDATE accounts a SET debits_pending = v.c2, debits_posted = v.c3, credits_posted = v.c4, holds_until = v.c5, version = v.c6 FROM v WHERE a.id = v.c1`,
		SQLite:   `UPDATE accounts SET debits_pending = ?2, debits_posted = ?3, credits_posted = ?4, holds_until = ?5, version = ?6 WHERE id = ?1`,
	}
	addTransfer = &Statement{
		Name:    "add transfer",
		Table:   "transfers",
		Columns: []string{"uuid", "timestamptz", "text", "uuid", "uuid", "text", "bigint", "bigint", "text", "uuid", "text", "text", "timestamptz", "bigint"},
		Postgres: `INSERT INTO transfers (id, created_at, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, ended_at, block)
			SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14 FROM v`,
		SQLite: `INSERT INTO transfers (id, created_at, key, debit_id, credit_id, status, amount, posted, code, transaction_id, counters, log_key, ended_at, block)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)`,
	}
	endTransfer = &Statement{
		Name:     "end transfer",
		Table:    "transfers",
		Columns:  []string{"uuid", "text", "bigint", "text", "timestamptz", "bigint"},
		Postgres: `UPDATE transfers t SET status = v.c2, posted = v.c3, log_key = v.c4, ended_at = v.c5, block = v.c6 FROM v WHERE t.id = v.c1 AND t.status = 'pending'`,
		SQLite:   `UPDATE transfers SET status = ?2, posted = ?3, log_key = ?4, ended_at = ?5, block = ?6 WHERE id = ?1 AND status = 'pending'`,
	}
)

// writer gathers rows by statement.
type writer struct {
	tx    Tx
	order []*Statement // of first use
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

// flush runs the statements: on PostgreSQL as few as may be. Every row must be hit: a row that is not means that a lock was
// missing, and the transaction is given up.
func (w *writer) flush(ctx context.Context) error {
	if w.tx.Dialect == dialect.SQLite {
		for _, s := range w.order {
			hit, err := w.each(ctx, s)
			if err = w.checked(s, hit, err); err != nil {
				return err
			}
		}
		return nil
	}
	for _, together := range rounds(w.order) {
		if err := w.atOnce(ctx, together); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) checked(s *Statement, hit int64, err error) error {
	if err != nil {
		return fmt.Errorf("ledger: %s: %w", s.Name, err)
	}
	if want := int64(len(w.rows[s])); hit != want && !s.MayMiss {
		return fmt.Errorf("ledger: %s: %w: %d of %d", s.Name, ErrMissed, hit, want)
	}
	return nil
}

// each runs a statement once a row.
func (w *writer) each(ctx context.Context, s *Statement) (hit int64, err error) {
	for _, row := range w.rows[s] {
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

// rounds divides statements into those that may run as one: a table is changed by one of them, since two that change one
// row at once would not see each other. What comes first for a table stays first.
func rounds(order []*Statement) [][]*Statement {
	var out [][]*Statement
	met := map[string]int{} // the round in which a table comes next
	for _, s := range order {
		n := met[s.Table]
		met[s.Table] = n + 1
		if n == len(out) {
			out = append(out, nil)
		}
		out[n] = append(out[n], s)
	}
	for _, together := range out { // in one order, so that the same statements are one text, which is prepared once
		slices.SortFunc(together, func(a, b *Statement) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

// atOnce runs statements as one, in one round trip: each is a common table expression, whose rows are counted.
func (w *writer) atOnce(ctx context.Context, together []*Statement) error {
	var with, counts []string
	var args []any
	for i, s := range together {
		names, from := make([]string, len(s.Columns)), make([]string, len(s.Columns))
		for c, kind := range s.Columns {
			args = append(args, column(w.rows[s], c))
			names[c], from[c] = fmt.Sprintf("c%d", c+1), fmt.Sprintf("$%d::%s[]", len(args), kind)
		}
		with = append(with, fmt.Sprintf("w%d AS (WITH v(%s) AS (SELECT * FROM unnest(%s)) %s RETURNING 1)", i, strings.Join(names, ", "), strings.Join(from, ", "), s.Postgres))
		counts = append(counts, fmt.Sprintf("(SELECT count(*) FROM w%d)", i))
	}
	hits := make([]int64, len(together))
	into := make([]any, len(hits))
	for i := range hits {
		into[i] = &hits[i]
	}
	rows, err := w.tx.query(ctx, "WITH "+strings.Join(with, ", ")+" SELECT "+strings.Join(counts, ", "), args...)
	if err != nil {
		return fmt.Errorf("ledger: write: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("ledger: write: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("ledger: write: %w", err)
	}
	for i, s := range together {
		if err := w.checked(s, hits[i], nil); err != nil {
			return err
		}
	}
	return nil
}

func column(rows [][]any, c int) any {
	out := make([]any, len(rows))
	for r := range rows {
		out[r] = rows[r][c]
	}
	return pq.GenericArray{A: out}
}
