package core

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"
	"github.com/lib/pq"    // driver "postgres"
	_ "modernc.org/sqlite" // driver "sqlite"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/migrate"
)

// Pool sizes. SQLite has one writer by nature; the readers never wait for it in WAL mode.
const (
	sqliteReaders   = 4
	postgresReaders = 12
	postgresWriters = 20
)

// DB is the database in its two roles. On PostgreSQL the pool of writers also reads what is found by key.
type DB struct {
	Dialect string // dialect.Postgres or dialect.SQLite
	URL     string

	read, write       *sql.DB
	readEnt, writeEnt *ent.Client
	prepared          *ledger.Prepared
	reading           statements
}

// OpenDB opens databaseURL and brings its schema up to date: "postgres://…", or the path of an SQLite file.
func OpenDB(ctx context.Context, databaseURL string) (*DB, error) {
	db := &DB{Dialect: dialect.SQLite, URL: databaseURL}
	var err error
	if isPostgres(databaseURL) {
		db.Dialect = dialect.Postgres
		err = db.open("postgres", byKey(databaseURL), postgresWriters, databaseURL, postgresReaders)
		db.reading.db = db.write
	} else {
		err = db.open("sqlite", sqliteDSN(databaseURL, "immediate"), 1, sqliteDSN(databaseURL, "deferred"), sqliteReaders)
		db.reading.db = db.read
	}
	if err != nil {
		return nil, err
	}
	db.prepared = ledger.NewPrepared(db.write)
	db.writeEnt = ent.NewClient(ent.Driver(entsql.OpenDB(db.Dialect, db.write)))
	db.readEnt = ent.NewClient(ent.Driver(entsql.OpenDB(db.Dialect, db.read)))
	if err := migrate.Up(ctx, db.write, db.Dialect); err != nil {
		return nil, fmt.Errorf("core: database %s: %w", redacted(databaseURL), err)
	}
	return db, nil
}

func isPostgres(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

func (db *DB) open(driver, writeDSN string, writers int, readDSN string, readers int) (err error) {
	if db.write, err = open(driver, writeDSN, writers); err == nil {
		db.read, err = open(driver, readDSN, readers)
	}
	return err
}

// byKey makes PostgreSQL find rows by an index wherever there is one, and plan a prepared statement once. The statements
// of money all name their rows by key, and are prepared when the tables are small: a plan made then for what is cheapest
// reads whole tables, to look through them or to join them, and is kept while they grow.
func byKey(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return databaseURL // opening it says what is wrong
	}
	q := u.Query()
	for _, method := range []string{"seqscan", "hashjoin", "mergejoin"} {
		q.Set("enable_"+method, "off")
	}
	q.Set("plan_cache_mode", "force_generic_plan")
	q.Set("jit", "off") // it takes what is switched off for dear, and compiles for milliseconds what takes microseconds
	u.RawQuery = q.Encode()
	return u.String()
}

func open(driver, dsn string, conns int) (*sql.DB, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("core: open database: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// sqliteDSN carries every pragma, because database/sql opens connections at will. synchronous=FULL: in WAL mode
// NORMAL loses acknowledged commits when the power goes. Without immediate transactions a read followed by a
// write fails with BUSY whatever the time-out.
func sqliteDSN(path, lock string) string {
	q := url.Values{}
	for _, p := range []string{"foreign_keys(1)", "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"} {
		q.Add("_pragma", p)
	}
	q.Set("_txlock", lock)
	q.Set("_time_format", "sqlite")
	return "file:" + path + "?" + q.Encode()
}

func redacted(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "(unreadable URL)"
	}
	return u.Redacted()
}

// Begin opens a transaction that may write.
func (db *DB) Begin(ctx context.Context) (ledger.Tx, error) {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return ledger.Tx{}, fmt.Errorf("core: begin: %w", err)
	}
	conn := nested{entsql.NewDriver(db.Dialect, entsql.Conn{ExecQuerier: tx})}
	return ledger.Tx{SQL: tx, Client: ent.NewClient(ent.Driver(conn)), Dialect: db.Dialect, Prepared: db.prepared}, nil
}

// nested is an ent driver inside a transaction that is open already: ent's own statements join it.
type nested struct{ *entsql.Driver }

// Tx joins the open transaction.
func (n nested) Tx(context.Context) (dialect.Tx, error) { return dialect.NopTx(n.Driver), nil }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// Close closes the pools.
func (db *DB) Close() error {
	return errors.Join(db.write.Close(), db.read.Close())
}

// list runs a query that ends in "… column" for the rows whose column is one of values, and scans each row. more are
// the parameters from $2 on.
func (db *DB) list(ctx context.Context, query, kind string, values []string, scan func(*sql.Rows) error, more ...any) error {
	if db.Dialect == dialect.Postgres {
		return db.scan(ctx, query+"= ANY($1::"+kind+"[])", scan, append([]any{pq.Array(values)}, more...)...)
	}
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	return db.scan(ctx, query+"IN (SELECT value FROM json_each($1))", scan, append([]any{string(text)}, more...)...)
}

// listBytes is list for a column of hashes.
func (db *DB) listBytes(ctx context.Context, query string, values [][32]byte, scan func(*sql.Rows) error) error {
	if db.Dialect == dialect.Postgres {
		raw := make(pq.ByteaArray, len(values))
		for i := range values {
			raw[i] = values[i][:]
		}
		return db.scan(ctx, query+"= ANY($1::bytea[])", scan, raw)
	}
	digits := make([]string, len(values))
	for i := range values {
		digits[i] = hex.EncodeToString(values[i][:])
	}
	text, err := json.Marshal(digits)
	if err != nil {
		return err
	}
	return db.scan(ctx, query+"IN (SELECT unhex(value) FROM json_each($1))", scan, string(text))
}

// listSeats reads the rows of seats, and scans each.
func (db *DB) listSeats(ctx context.Context, seats []seat, chainID uint64, scan func(*sql.Rows) error) error {
	if db.Dialect == dialect.Postgres {
		hashes, agents := make(pq.ByteaArray, len(seats)), make([]string, len(seats))
		for i := range seats {
			hashes[i], agents[i] = seats[i].hash[:], seats[i].agent.String()
		}
		return db.scan(ctx, seatsOnPostgres, scan, hashes, int64(chainID), pq.Array(agents))
	}
	pairs := make([][2]string, len(seats))
	for i := range seats {
		pairs[i] = [2]string{hex.EncodeToString(seats[i].hash[:]), seats[i].agent.String()}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		return err
	}
	return db.scan(ctx, seatsOnSQLite, scan, string(text), int64(chainID))
}

func (db *DB) scan(ctx context.Context, query string, scan func(*sql.Rows) error, args ...any) error {
	s, err := db.reading.statement(ctx, db.bind(query)) //nolint:sqlclosecheck // it is kept for the next reader
	if err != nil {
		return fmt.Errorf("core: prepare: %w", err)
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return fmt.Errorf("core: read: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("core: read: %w", err)
		}
	}
	return rows.Err()
}

// statements keeps queries prepared on a pool.
type statements struct {
	db    *sql.DB
	known sync.Map // of text to *sql.Stmt
}

func (c *statements) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := c.known.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := c.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if first, loaded := c.known.LoadOrStore(query, s); loaded {
		_ = s.Close() //nolint:sqlclosecheck // another reader was faster; this one returns that statement
		return first.(*sql.Stmt), nil
	}
	return s, nil
}

// bind writes a statement's parameters in the database's own way; statements say $1, $2.
func (db *DB) bind(query string) string {
	if db.Dialect == dialect.SQLite {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

// snapshot are the options of a transaction that reads at one moment. An SQLite reader always does.
func (db *DB) snapshot() *sql.TxOptions {
	if db.Dialect == dialect.Postgres {
		return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	return nil
}

// atOnce reads at one moment, so that figures of several tables agree.
func (db *DB) atOnce(ctx context.Context, read func(*ent.Client) error) error {
	tx, err := db.read.BeginTx(ctx, db.snapshot())
	if err != nil {
		return fmt.Errorf("core: begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // read only: nothing to lose
	return read(ent.NewClient(ent.Driver(nested{entsql.NewDriver(db.Dialect, entsql.Conn{ExecQuerier: tx})})))
}

// maxInactive is how many deactivated agents one run of the drain job serves.
const maxInactive = 50

// inactiveWithMoney lists deactivated agents whose wallets have something free, and no drain under way.
func (db *DB) inactiveWithMoney(ctx context.Context, chainID uint64) ([]uuid.UUID, error) {
	rows, err := db.read.QueryContext(ctx, db.bind(`SELECT g.id FROM agents g JOIN accounts a ON a.owner_id = g.id AND a.kind = 'wallet' AND a.chain_id = $1
		JOIN users u ON u.id = g.owner_id
		WHERE NOT g.active AND u.wallet_address IS NOT NULL AND u.wallet_address <> g.address AND a.credits_posted - a.debits_posted - a.debits_pending > 0 LIMIT $2`), int64(chainID), maxInactive)
	if err != nil {
		return nil, fmt.Errorf("core: inactive agents: %w", err)
	}
	defer rows.Close()
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("core: inactive agents: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
