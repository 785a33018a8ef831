package coretest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	_ "github.com/lib/pq" // driver "postgres"

	"bursar/core"
	"bursar/ent/migrate"
)

// PostgresVariable names the server that the tests may make databases on.
const PostgresVariable = "TEST_POSTGRES_URL"

// Postgres makes a database for the test on the server that TEST_POSTGRES_URL names, with the schema as it is now, and drops
// it afterwards. ./test starts such a server; without one the test fails, so that nothing is skipped silently.
func Postgres(t testing.TB) string {
	t.Helper()
	return database(t, func(db *sql.DB) (string, error) { return prepared(t.Context(), db) })
}

// EmptyPostgres is Postgres without the schema.
func EmptyPostgres(t testing.TB) string {
	t.Helper()
	return database(t, func(*sql.DB) (string, error) { return "template1", nil })
}

func database(t testing.TB, template func(*sql.DB) (string, error)) string {
	t.Helper()
	if os.Getenv(PostgresVariable) == "" {
		t.Fatalf("%s is not set: run ./test, which starts a PostgreSQL of its own, or go test -short for SQLite alone", PostgresVariable)
	}
	db, err := sql.Open("postgres", os.Getenv(PostgresVariable))
	if err != nil {
		t.Fatal(err)
	}
	from, err := template(db)
	if err != nil {
		t.Fatal(err)
	}
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, from)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec(fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)); err != nil {
			t.Errorf("drop %s: %v", name, err)
		}
		_ = db.Close()
	})
	return address(name)
}

// address is the URL of a database on the server.
func address(name string) string {
	u, err := url.Parse(os.Getenv(PostgresVariable))
	if err != nil {
		return ""
	}
	u.Path = "/" + name
	return u.String()
}

// preparing is the advisory lock of who makes the template, of all test programs on a server.
const preparing = 7_201_116

// prepared is the name of a database that has the schema and nothing else. It is made once for a server and a state of the
// migrations: copying it takes a fraction of what they take.
func prepared(ctx context.Context, db *sql.DB) (string, error) {
	name := "prepared_" + migrate.Sum()
	held, err := db.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = held.Close() }()
	if _, err := held.ExecContext(ctx, "SELECT pg_advisory_lock($1)", preparing); err != nil {
		return "", err
	}
	defer func() {
		_, _ = held.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", preparing)
	}()
	var there bool
	if err := held.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil || there {
		return name, err
	}
	begun := name + "_begun" // a program that dies on the way leaves this one
	for _, do := range []string{"DROP DATABASE IF EXISTS " + begun, "CREATE DATABASE " + begun} {
		if _, err := held.ExecContext(ctx, do); err != nil {
			return "", err
		}
	}
	made, err := core.OpenDB(ctx, address(begun))
	if err != nil {
		return "", err
	}
	if err := made.Close(); err != nil {
		return "", err
	}
	_, err = held.ExecContext(ctx, fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", begun, name))
	return name, err
}
