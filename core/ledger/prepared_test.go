package ledger

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// A transaction that has the pool's only connection goes on while a statement waits for it to be prepared.
func TestPreparingHoldsUpNoTransaction(t *testing.T) {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "prepared.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	p := NewPrepared(db)
	const query = "SELECT 1"
	if p.find(query) != nil {
		t.Fatal("prepared by itself")
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	warmed := make(chan struct{})
	go func() {
		defer close(warmed)
		p.warm(ctx)
	}()
	for db.Stats().WaitCount == 0 { // it waits for the connection
		time.Sleep(time.Millisecond)
	}
	p.find(query) // as the transaction's next statement does
	if ctx.Err() != nil {
		t.Error("the transaction waited for a statement that waits for it")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	<-warmed
	if p.find(query) == nil {
		t.Error("not prepared")
	}
}
