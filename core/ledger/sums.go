package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"bursar/money"
)

// Sum is an account beside what its transfers add up to.
type Sum struct {
	State                    State
	Pending, Debits, Credits money.USDC
	Transfers                int // that debit the account; over all accounts, each transfer counts once
}

// selSums leaves open which accounts (1), and which transfers may touch them as debits (2) and credits (3).
const selSums = `SELECT a.id, a.kind, a.owner_id, a.debits_pending, a.debits_posted, a.credits_posted, a.version,
	COALESCE(d.pending, 0), COALESCE(d.posted, 0), COALESCE(d.n, 0), COALESCE(c.posted, 0)
	FROM accounts a
	LEFT JOIN (SELECT debit_id, SUM(CASE WHEN status = 'pending' THEN amount ELSE 0 END) AS pending, SUM(posted) AS posted, COUNT(*) AS n
		FROM transfers %[2]s GROUP BY debit_id) d ON d.debit_id = a.id
	LEFT JOIN (SELECT credit_id, SUM(posted) AS posted FROM transfers %[3]s GROUP BY credit_id) c ON c.credit_id = a.id
	WHERE %[1]s`

// Sums reads every account of a chain, or of one organisation on it, beside the sums of its transfers, in one statement
// and so at one moment. org uuid.Nil means every account, the platform's own included.
func Sums(ctx context.Context, tx *sql.Tx, chainID uint64, org uuid.UUID) ([]Sum, error) {
	which, debits, credits := fmt.Sprintf("a.chain_id = %d", chainID), "", ""
	if org != uuid.Nil {
		which += fmt.Sprintf(" AND a.org_id = '%s'", org) // a uuid's own spelling: nothing of a caller's
		own := "WHERE %s IN (SELECT a.id FROM accounts a WHERE " + which + ")"
		debits, credits = fmt.Sprintf(own, "debit_id"), fmt.Sprintf(own, "credit_id")
	}
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(selSums, which, debits, credits))
	if err != nil {
		return nil, fmt.Errorf("ledger: sums: %w", err)
	}
	defer rows.Close()
	var out []Sum
	for rows.Next() {
		var s Sum
		if err := rows.Scan(&s.State.ID, &s.State.Kind, &s.State.OwnerID, &s.State.DebitsPending, &s.State.DebitsPosted, &s.State.CreditsPosted,
			&s.State.Version, &s.Pending, &s.Debits, &s.Transfers, &s.Credits); err != nil {
			return nil, fmt.Errorf("ledger: sums: %w", err)
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
