package ledger_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/lib/pq"

	"bursar/core/ledger"
)

// fault is what happens to the connection of one transaction.
type fault int

const (
	midway       fault = iota + 1 // it breaks in the middle of the statements
	beforeCommit                  // it breaks before the database has heard of COMMIT
	afterCommit                   // the database has committed, and the answer is lost
)

var errCut = errors.New("the connection to the database is cut")

// process is the database as one process of the program has it: a pool of its own whose transactions meet the faults
// that are planned for them, one after the other, and then none.
type process struct {
	db      *sql.DB
	dialect string
	store   *ledger.Prepared

	mu     sync.Mutex
	plan   []fault
	killed bool // nothing is begun any more once the plan is used up
}

func newProcess(t testing.TB, d, dsn string) *process {
	t.Helper()
	p := &process{dialect: d}
	name := map[string]string{dialect.Postgres: "postgres", dialect.SQLite: "sqlite"}[d]
	plain, err := sql.Open(name, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	p.db = sql.OpenDB(connector{plain.Driver(), dsn, p})
	p.db.SetMaxOpenConns(map[string]int{dialect.Postgres: 4, dialect.SQLite: 1}[d])
	t.Cleanup(func() { _ = p.db.Close() })
	p.store = ledger.NewPrepared(p.db)
	return p
}

func (p *process) begin(ctx context.Context) (ledger.Tx, error) {
	p.mu.Lock()
	gone := p.killed && len(p.plan) == 0
	p.mu.Unlock()
	if gone {
		return ledger.Tx{}, errCut
	}
	tx, err := p.db.BeginTx(ctx, nil)
	return ledger.Tx{SQL: tx, Dialect: p.dialect, Prepared: p.store}, err
}

// meets plans the faults of the next transactions; killed: nothing is begun after them.
func (p *process) meets(killed bool, plan ...fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.killed = plan, killed
}

func (p *process) next() (f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.plan) > 0 {
		f, p.plan = p.plan[0], p.plan[1:]
	}
	return f
}

type connector struct {
	driver  driver.Driver
	dsn     string
	process *process
}

func (c connector) Driver() driver.Driver { return c.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	both, ok := inner.(whole)
	if !ok {
		return nil, errors.New("the driver lacks an interface")
	}
	return &conn{whole: both, process: c.process}, nil
}

// whole is what both drivers' connections are.
type whole interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.QueryerContext
	driver.ExecerContext
}

type conn struct {
	whole
	process *process
	fault   fault
	left    int // statements before a fault in their middle
	open    driver.Tx
	dead    bool
}

const untilMidway = 2 // behind what was read, before what was written

// cut ends the connection, as the end of a process or of a network would: the database gives up what is open. SQLite's
// is a file that has statements on it: it is closed when they are.
func (c *conn) cut(open driver.Tx) error {
	c.dead = true
	if c.process.dialect == dialect.Postgres {
		return errors.Join(errCut, c.whole.Close())
	}
	if open != nil {
		return errors.Join(errCut, open.Rollback())
	}
	return errCut
}

func (c *conn) Close() error {
	if c.dead && c.process.dialect == dialect.Postgres {
		return nil
	}
	return c.whole.Close()
}

// IsValid makes the pool forget a connection that is cut.
func (c *conn) IsValid() bool { return !c.dead }

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.whole.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if c.dead {
		return nil, driver.ErrBadConn
	}
	tx, err := c.whole.BeginTx(ctx, o)
	c.open, c.fault, c.left = tx, c.process.next(), untilMidway
	return &cutTx{tx, c}, err
}

func (c *conn) step() error {
	if c.dead {
		return errCut
	}
	if c.fault == midway {
		if c.left--; c.left == 0 {
			return c.cut(c.open)
		}
	}
	return nil
}

func (c *conn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.step(); err != nil {
		return nil, err
	}
	return c.whole.QueryContext(ctx, q, args)
}

func (c *conn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.step(); err != nil {
		return nil, err
	}
	return c.whole.ExecContext(ctx, q, args)
}

func (c *conn) PrepareContext(ctx context.Context, q string) (driver.Stmt, error) {
	if c.dead {
		return nil, driver.ErrBadConn
	}
	s, err := c.whole.PrepareContext(ctx, q)
	if err != nil {
		return nil, err
	}
	both, ok := s.(wholeStmt)
	if !ok {
		return nil, errors.New("the driver lacks an interface")
	}
	return &stmt{both, c}, nil
}

type wholeStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type stmt struct {
	wholeStmt
	conn *conn
}

func (s *stmt) Close() error {
	if s.conn.dead && s.conn.process.dialect == dialect.Postgres {
		return nil
	}
	return s.wholeStmt.Close()
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.conn.step(); err != nil {
		return nil, err
	}
	return s.wholeStmt.QueryContext(ctx, args)
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.conn.step(); err != nil {
		return nil, err
	}
	return s.wholeStmt.ExecContext(ctx, args)
}

type cutTx struct {
	driver.Tx
	conn *conn
}

func (t *cutTx) Commit() error {
	switch {
	case t.conn.dead:
		return errCut
	case t.conn.fault == beforeCommit || t.conn.fault == midway:
		return t.conn.cut(t.Tx)
	case t.conn.fault == afterCommit:
		return errors.Join(t.Tx.Commit(), t.conn.cut(nil))
	}
	return t.Tx.Commit()
}

func (t *cutTx) Rollback() error {
	if t.conn.dead {
		return nil
	}
	return t.Tx.Rollback()
}

// list is a parameter that holds a list, and the condition that reads it.
func (p *process) list(kind string, values []string) (string, any) {
	if p.dialect == dialect.Postgres {
		return "= ANY($1::" + kind + "[])", pq.Array(values)
	}
	return "IN (SELECT value FROM json_each(?1))", jsonList(values)
}

func jsonList(values []string) string {
	text, _ := json.Marshal(values) // a list of strings always marshals
	return string(text)
}
