package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"bursar/money"
)

// Past is what a wallet or session account held at a moment.
type Past struct {
	Posted, Pending money.USDC
}

// Available is what could still be reserved then.
func (p Past) Available() money.USDC { return p.Posted.Sub(p.Pending) }

// Queryer is a database or a transaction that may only read.
type Queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// selPast adds up an account's transfers. A transfer counts from the moment at which it was made, as pending until it
// ended and as posted from then on; both moments are inclusive, so what a commit dated t has done is in the answer for
// t. SQLite compares the moments as text, which orders them as long as all are UTC: "+" < "." < "0".
const selPast = `SELECT
	(SELECT COALESCE(SUM(posted), 0) FROM transfers WHERE credit_id = a.id AND created_at <= $1 AND ended_at <= $1) -
	(SELECT COALESCE(SUM(posted), 0) FROM transfers WHERE debit_id = a.id AND created_at <= $1 AND ended_at <= $1),
	(SELECT COALESCE(SUM(amount), 0) FROM transfers WHERE debit_id = a.id AND created_at <= $1 AND (ended_at IS NULL OR ended_at > $1))
	FROM accounts a WHERE a.kind IN ('wallet', 'session') AND a.chain_id = $2 AND a.owner_id = $3 AND a.org_id = $4`

// At reads, in one statement, what the wallet of an agent or the account of a session held at a moment; owner is the
// agent or the session, org the organisation that it must belong to. It is ErrUnknown when there is no such account.
// What a transaction has dated is seen when it commits, so the answer for a moment is settled once no transaction that
// began before it is under way.
func At(ctx context.Context, q Queryer, databaseDialect string, chainID uint64, owner, org uuid.UUID, at time.Time) (Past, error) {
	query := selPast
	if databaseDialect == dialect.SQLite {
		query = strings.ReplaceAll(query, "$", "?")
	}
	var p Past
	err := q.QueryRowContext(ctx, query, at.UTC().Truncate(time.Microsecond), int64(chainID), owner.String(), org.String()).Scan(&p.Posted, &p.Pending)
	if errors.Is(err, sql.ErrNoRows) {
		return p, ErrUnknown
	}
	if err != nil {
		return p, fmt.Errorf("ledger: at %s: %w", at, err)
	}
	return p, nil
}
