package ledger

import (
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
)

// Tx is one database transaction in both of its forms: statements by hand for money, ent for the rest.
type Tx struct {
	SQL      *sql.Tx
	Client   *ent.Client
	Dialect  string // dialect.Postgres or dialect.SQLite
	Prepared *Prepared
}

// list is a parameter that holds a list, for json_each.
func list(values []string) string {
	b, _ := json.Marshal(values) // a list of strings always marshals
	return string(b)
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
	for _, id := range sorted(b.changedCounters) {
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
