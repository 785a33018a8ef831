// Command diff writes the next versioned migration for both databases from the ent schema:
//
//	BURSAR_DIFF_POSTGRES=postgres://…/empty go run ./ent/migrate/diff NAME
//
// The PostgreSQL database must be empty: the existing files are replayed in it.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	"ariga.io/atlas/sql/sqltool"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"bursar/ent/migrate"
)

func main() {
	if len(os.Args) != 2 {
		exit(fmt.Errorf("usage: diff NAME"))
	}
	ctx := context.Background()
	for _, d := range []struct{ driver, dialect, dsn, dir string }{
		{"postgres", dialect.Postgres, os.Getenv("BURSAR_DIFF_POSTGRES"), "ent/migrate/postgres"},
		{"sqlite", dialect.SQLite, "file:diff?mode=memory&cache=shared&_pragma=foreign_keys(1)", "ent/migrate/sqlite"},
	} {
		if err := diff(ctx, d.driver, d.dialect, d.dsn, d.dir, os.Args[1]); err != nil {
			exit(fmt.Errorf("%s: %w", d.dialect, err))
		}
	}
}

func diff(ctx context.Context, driver, name, dsn, folder, title string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	dir, err := sqltool.NewGooseDir(folder)
	if err != nil {
		return err
	}
	m, err := schema.NewMigrate(entsql.OpenDB(name, db), schema.WithDir(dir), schema.WithMigrationMode(schema.ModeReplay),
		schema.WithDialect(name), schema.WithFormatter(sqltool.GooseFormatter), schema.WithDropColumn(true), schema.WithDropIndex(true))
	if err != nil {
		return err
	}
	return m.NamedDiff(ctx, title, migrate.Tables...)
}

func exit(err error) {
	_, _ = fmt.Fprintln(os.Stderr, "diff:", err)
	os.Exit(1)
}
