// Command diff writes the next versioned migration for both databases from the ent schema:
//
//	BURSAR_DIFF_POSTGRES=postgres://…/empty go run ./ent/migrate/diff NAME
//
// The PostgreSQL database must be empty: the existing files are replayed in it. Without a NAME it only writes the
// folders' sums (atlas.sum) anew, as is needed after a migration was written by hand: triggers, which ent knows nothing of.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	atlas "ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqltool"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"bursar/ent/migrate"
)

func main() {
	if len(os.Args) > 2 {
		exit(fmt.Errorf("usage: diff [NAME]"))
	}
	ctx := context.Background()
	for _, d := range []struct{ driver, dialect, dsn, dir string }{
		{"postgres", dialect.Postgres, os.Getenv("BURSAR_DIFF_POSTGRES"), "ent/migrate/postgres"},
		{"sqlite", dialect.SQLite, "file:diff?mode=memory&cache=shared&_pragma=foreign_keys(1)", "ent/migrate/sqlite"},
	} {
		var err error
		if len(os.Args) == 1 {
			err = sum(d.dir)
		} else {
			err = diff(ctx, d.driver, d.dialect, d.dsn, d.dir, os.Args[1])
		}
		if err != nil {
			exit(fmt.Errorf("%s: %w", d.dialect, err))
		}
	}
}

// sum writes the sums of a folder's files.
func sum(folder string) error {
	dir, err := sqltool.NewGooseDir(folder)
	if err != nil {
		return err
	}
	sums, err := dir.Checksum()
	if err != nil {
		return err
	}
	return atlas.WriteSumFile(dir, sums)
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
