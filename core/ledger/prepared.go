package ledger

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"sync"
)

// Prepared keeps the money statements prepared on a pool. They are a few dozen constant texts; preparing saves
// PostgreSQL a round trip a statement, and SQLite the parsing.
type Prepared struct {
	db     *sql.DB
	mu     sync.Mutex
	known  map[string]*sql.Stmt
	wanted map[string]bool // met in a transaction, which cannot prepare for the whole pool
}

// NewPrepared makes an empty store for a pool.
func NewPrepared(db *sql.DB) *Prepared {
	return &Prepared{db: db, known: map[string]*sql.Stmt{}, wanted: map[string]bool{}}
}

func (p *Prepared) find(query string) *sql.Stmt {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.known[query]
	if s == nil {
		p.wanted[query] = true
	}
	return s
}

// warm prepares what transactions have asked for. It must not be called inside one, nor hold the lock while it prepares:
// an SQLite pool has one connection, and who has it may be looking for a statement.
func (p *Prepared) warm(ctx context.Context) {
	p.mu.Lock()
	queries := slices.Collect(maps.Keys(p.wanted))
	clear(p.wanted)
	p.mu.Unlock()
	for _, query := range queries {
		s, err := p.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // it is kept for all transactions to come
		if err != nil {
			continue // it runs unprepared, and is asked for again
		}
		p.mu.Lock()
		if p.known[query] == nil {
			p.known[query], s = s, nil
		}
		p.mu.Unlock()
		if s != nil {
			_ = s.Close() // another batch on this pool was faster
		}
	}
}

func (tx Tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := tx.Prepared.find(query); s != nil {
		return tx.SQL.StmtContext(ctx, s).QueryContext(ctx, args...) //nolint:sqlclosecheck // it ends with the transaction
	}
	return tx.SQL.QueryContext(ctx, query, args...)
}

func (tx Tx) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := tx.Prepared.find(query); s != nil {
		return tx.SQL.StmtContext(ctx, s).ExecContext(ctx, args...) //nolint:sqlclosecheck // it ends with the transaction
	}
	return tx.SQL.ExecContext(ctx, query, args...)
}
