package migrate

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"entgo.io/ent/dialect"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Versioned migrations, one folder for each database. They are written by ent/migrate/diff and never edited
// after they have landed.
//
//go:embed all:sqlite all:postgres
var files embed.FS

// Sum names the state of PostgreSQL's migrations, in 16 digits.
func Sum() string {
	sums, err := files.ReadFile("postgres/atlas.sum")
	if err != nil {
		return "" // it is embedded
	}
	return fmt.Sprintf("%x", sha256.Sum256(sums))[:16]
}

// Up applies the migrations that the database lacks. On PostgreSQL it holds a session lock, so that several
// processes may start at once; an SQLite file has one process.
func Up(ctx context.Context, db *sql.DB, name string) error {
	folder, kind := "sqlite", goose.DialectSQLite3
	var options []goose.ProviderOption
	if name == dialect.Postgres {
		folder, kind = "postgres", goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(kind, db, sub, options...)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
