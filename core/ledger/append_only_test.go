package ledger_test

import (
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"bursar/core/ledger"
)

// TestHistoryIsAppendOnly: whoever writes, the database refuses to forget or to change what was booked.
func TestHistoryIsAppendOnly(t *testing.T) {
	const ended, open = ` WHERE status <> 'pending'`, ` WHERE status = 'pending'`
	eachDatabase(t, func(t *testing.T, w *world) {
		id := w.open(ledger.Session, ledger.Always)
		w.fund(id, 100)
		hold := func() uuid.UUID {
			r := w.do(ledger.Move{Verb: ledger.Hold, Key: uuid.NewString(), Debit: id, Credit: w.platform.Clearing, Amount: 10, Code: "test"})
			return r.Transfers[0].ID
		}
		w.do(ledger.Move{Verb: ledger.Post, HoldID: hold(), Amount: 4, LogKey: "log:1"})
		w.do(ledger.Move{Verb: ledger.Void, HoldID: hold()})
		hold()

		const columns = `(id, created_at, key, debit_id, credit_id, status, amount, posted, code, log_key, ended_at)`
		statements := []string{
			`DELETE FROM transfers`, `DELETE FROM transfers` + ended, `DELETE FROM transfers` + open,
			`INSERT INTO transfers ` + columns + ` SELECT '` + uuid.NewString() + `', created_at, 'x1', debit_id, credit_id, 'pending', amount, 0, code, NULL, created_at FROM transfers` + open,
			`INSERT INTO transfers ` + columns + ` SELECT '` + uuid.NewString() + `', created_at, 'x2', debit_id, credit_id, 'voided', amount, 0, code, NULL, NULL FROM transfers` + open,
			`UPDATE transfers SET status = 'voided', posted = 0` + ended, // a post taken back
			`UPDATE transfers SET status = 'pending', posted = 0, ended_at = NULL` + ended,
			`UPDATE transfers SET posted = posted - 1 WHERE status = 'posted' AND posted > 1`,
			`UPDATE transfers SET log_key = 'log:2' WHERE log_key = 'log:1'`,
			`UPDATE transfers SET block = 7` + ended,
			`UPDATE transfers SET ended_at = created_at` + ended,
			`UPDATE transfers SET status = 'voided'` + open, // without its moment
			`UPDATE transfers SET ended_at = created_at` + open,
			`UPDATE transfers SET id = '` + uuid.NewString() + `'` + open,
			`UPDATE transfers SET key = key || '!'` + open,
			`UPDATE transfers SET amount = amount + 1` + open,
			`UPDATE transfers SET debit_id = credit_id, credit_id = debit_id` + open,
			`UPDATE transfers SET code = 'other'` + open,
			`UPDATE transfers SET counters = 'other'` + open,
			`UPDATE transfers SET transaction_id = id` + open,
			`UPDATE transfers SET created_at = '2020-01-01 00:00:00+00:00'` + open,
		}
		if w.db.Dialect == dialect.Postgres {
			statements = append(statements, `TRUNCATE transfers`,
				`INSERT INTO transfers `+columns+` SELECT id, created_at, key, debit_id, credit_id, status, amount, posted, code, log_key, ended_at FROM transfers
					ON CONFLICT (key) DO UPDATE SET posted = 1, status = 'posted', ended_at = now()`)
		} else {
			row := ` created_at, 'x3', debit_id, credit_id, 'posted', amount, 1, code, NULL, created_at FROM transfers`
			statements = append(statements,
				`REPLACE INTO transfers `+columns+` SELECT id,`+row+ended,
				`INSERT OR REPLACE INTO transfers `+columns+` SELECT '`+uuid.NewString()+`', created_at, key, debit_id, credit_id, 'posted', amount, 1, code, NULL, created_at FROM transfers`+ended,
				`INSERT OR REPLACE INTO transfers `+columns+` SELECT '`+uuid.NewString()+`', created_at, 'x4', debit_id, credit_id, 'posted', amount, 1, code, log_key, created_at FROM transfers WHERE log_key IS NOT NULL`,
				`INSERT OR REPLACE INTO transfers (rowid, `+columns[1:]+` SELECT rowid, '`+uuid.NewString()+`',`+row+ended+` LIMIT 1`,
				`UPDATE OR REPLACE transfers SET log_key = 'log:1'`+open,
				`UPDATE OR REPLACE transfers SET rowid = (SELECT rowid FROM transfers WHERE log_key = 'log:1')`+open)
		}
		before := w.proven(t.Errorf)
		for _, statement := range statements {
			tx, err := w.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.SQL.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %v", statement, err)
			}
			_ = tx.SQL.Rollback()
		}
		if after := w.proven(t.Errorf); before[id] != after[id] {
			t.Errorf("%+v, was %+v", after[id], before[id])
		}
	})
}
