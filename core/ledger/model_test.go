package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/ledger"
	"bursar/money"
)

// Random histories against the model of modelstate_test.go. BURSAR_MODEL_SEED repeats the history of that seed,
// BURSAR_MODEL_SECONDS is for how long new ones are begun, on each database.
const (
	seedVariable    = "BURSAR_MODEL_SEED"
	secondsVariable = "BURSAR_MODEL_SECONDS"

	operations       = 200 // of a history
	perDatabase      = 100 // histories, then a fresh one: they share nothing but its tables
	defaultSeconds   = 10  // of histories in a run of all tests
	provenEach       = 50  // operations between proofs of all sums
	modelChain       = 7   // the chain of the accounts
	modelBegin       = 1_800_000_000
	patienceOfWriter = "busy_timeout(30000)"
)

var errLimit = errors.New("a counter's limit")

// regressions are seeds that have failed once.
var regressions = []uint64{1, 2}

// TestModel: whatever is asked in whatever order, by two processes, with transactions that fail, connections that break,
// answers to COMMIT that are lost, and processes that are gone: each verdict, and every column after it, are the model's.
// The databases do not wait for the disk: whether a commit outlives a loss of power is not the question here.
func TestModel(t *testing.T) {
	seconds, first := defaultSeconds, uint64(1000) // a run of all tests has the same seeds each time; a run on request has new ones
	if n, err := strconv.Atoi(os.Getenv(secondsVariable)); err == nil {
		seconds, first = n, uint64(time.Now().UnixNano())
	}
	seeds := regressions
	if n, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		seeds, first, seconds = []uint64{n}, n, 0
	}
	eachModelDatabase(t, func(t *testing.T, open func(t *testing.T) *modelWorld) {
		end, ran := time.Now().Add(time.Duration(seconds)*time.Second), 0
		next := func() (seed uint64, more bool) {
			if ran++; ran <= len(seeds) {
				return seeds[ran-1], true
			}
			return first + uint64(ran-len(seeds)-1), time.Now().Before(end)
		}
		for seed, more := next(); more && !t.Failed(); {
			t.Run(fmt.Sprintf("from seed %d", seed), func(t *testing.T) {
				w := open(t)
				for range perDatabase {
					newModelRun(t, w, seed).history()
					if seed, more = next(); !more {
						return
					}
				}
			})
		}
		t.Logf("%d histories of %d operations; seeds from %d on", ran-1, operations, first)
	})
}

// modelWorld is a database with three users: two processes of the program, and the test that looks at its rows.
type modelWorld struct {
	processes [2]*process
	look      *process
	prepared  map[string]*sql.Stmt // of look
}

func eachModelDatabase(t *testing.T, f func(t *testing.T, open func(t *testing.T) *modelWorld)) {
	t.Run("sqlite", func(t *testing.T) {
		f(t, func(t *testing.T) *modelWorld {
			path := filepath.Join(t.TempDir(), "ledger.db")
			dsn := "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_pragma=" + patienceOfWriter +
				"&_txlock=immediate&_time_format=sqlite"
			return openModelWorld(t, path, dialect.SQLite, dsn)
		})
	})
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		f(t, func(t *testing.T) *modelWorld {
			url := coretest.Postgres(t)
			return openModelWorld(t, url, dialect.Postgres, url+"&synchronous_commit=off")
		})
	})
}

func openModelWorld(t *testing.T, url, d, dsn string) *modelWorld {
	t.Helper()
	db, err := core.OpenDB(t.Context(), url) // makes the tables
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w := &modelWorld{look: newProcess(t, d, dsn), prepared: map[string]*sql.Stmt{}}
	for i := range w.processes {
		w.processes[i] = newProcess(t, d, dsn)
	}
	if _, err := w.look.db.ExecContext(t.Context(), `CREATE TABLE model_rows (id text PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	return w
}

// modelRun is one history.
type modelRun struct {
	*drawn
	t       *testing.T
	w       *modelWorld
	seed    uint64
	step    int
	trace   []string
	org     uuid.UUID
	batches [2]*ledger.Batch
	stop    [2]context.CancelFunc
	clock   func() time.Time
}

func newModelRun(t *testing.T, w *modelWorld, seed uint64) *modelRun {
	r := &modelRun{t: t, w: w, seed: seed}
	m := &model{
		now: modelBegin, accounts: map[uuid.UUID]modelAccount{}, counters: map[string]modelCounter{}, transfers: map[uuid.UUID]modelTransfer{},
		rows: map[string]bool{}, limits: map[string]money.USDC{}, rules: map[uuid.UUID]ledger.Rules{}, revoked: map[uuid.UUID]bool{},
	}
	r.drawn = &drawn{Rand: rand.New(rand.NewPCG(seed, 7)), m: m}
	r.org, r.agent, r.key = r.id(), r.id(), r.id()
	r.name = short(r.org)
	for _, kind := range []string{ledger.External, ledger.External, ledger.Wallet, ledger.Wallet, ledger.Session, ledger.Session, ledger.Session, ledger.Clearing, ledger.Treasury, ledger.Suspense} {
		id := r.id()
		r.accounts = append(r.accounts, id)
		m.accounts[id] = modelAccount{kind: kind, until: ledger.Always}
	}
	for i := range 4 {
		c := fmt.Sprintf("model:%s:%d", r.name, i)
		r.counters = append(r.counters, c)
		if i > 0 {
			m.limits[c] = money.USDC(200 * i)
		}
	}
	m.rules[r.agent] = ledger.Rules{Active: true, PolicyVersion: 1, OrgVersion: 1}
	r.clock = func() time.Time { return time.Unix(m.now, 0).UTC() }
	for i := range r.batches {
		r.restart(i)
	}
	r.insert()
	return r
}

// restart is a process that was gone: what it had begun is given up, and another is in its place.
func (r *modelRun) restart(i int) {
	ctx, stop := context.WithCancel(r.t.Context())
	if r.stop[i] != nil {
		r.stop[i]()
	}
	r.w.processes[i].meets(false)
	r.batches[i], r.stop[i] = ledger.NewBatch(ctx, r.clock, r.w.processes[i].begin), stop
}

// history runs the operations, and looks at everything after each.
func (r *modelRun) history() {
	defer func() {
		for _, stop := range r.stop {
			stop()
		}
	}()
	for _, id := range r.accounts[2:] { // money to begin with
		o := wish{moves: []ledger.Move{{Verb: ledger.Transfer, ID: r.id(), Key: r.fresh("cause"), Debit: r.accounts[0], Credit: id, Amount: money.USDC(100 + r.IntN(400)), Code: "model"}}}
		r.same(o, r.do(0, o), r.m.ask(o))
	}
	for r.step = 1; r.step <= operations && !r.t.Failed(); r.step++ {
		r.operation()
		r.columns()
		if r.step%provenEach == 0 {
			r.sums()
		}
	}
	r.rest()
}

// operation draws one, runs it on the database and on the model, and compares the verdicts.
func (r *modelRun) operation() {
	i := r.IntN(2)
	switch n := r.IntN(40); {
	case n < 24:
		o := r.wish(false)
		r.note("process %d: %s", i, o)
		r.same(o, r.do(i, o), r.m.ask(o))
	case n < 26:
		r.faulty(i)
	case n < 29:
		r.group(i)
	case n < 36:
		r.race()
	case n < 39:
		r.change()
	default:
		r.note("process %d stops", i)
		r.restart(i)
	}
}

func (r *modelRun) note(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf("%3d  ", r.step)+fmt.Sprintf(format, args...))
}

func (r *modelRun) fail(format string, args ...any) {
	r.t.Helper()
	const shown = 60
	for _, line := range r.trace[max(0, len(r.trace)-shown):] {
		r.t.Log(line)
	}
	r.t.Fatalf("%s=%d, operation %d: %s", seedVariable, r.seed, r.step, fmt.Sprintf(format, args...))
}

type told struct {
	result ledger.Result
	err    error
}

func (r *modelRun) do(i int, o wish) told {
	res, err := r.batches[i].Do(r.t.Context(), o.unit(r.m.limits))
	return told{res, err}
}

// same compares what a caller was told with the model's verdict.
func (r *modelRun) same(o wish, got told, want verdict) {
	r.t.Helper()
	if why := r.differs(o, got, want, r.m); why != "" {
		r.fail("%s\n%s", o, why)
	}
}

// differs says how an answer is another than the model's, whose state is the one after it.
func (r *modelRun) differs(o wish, got told, want verdict, m *model) string {
	switch {
	case want.broken != (got.err != nil):
		return fmt.Sprintf("the database says %v, the model %+v", got.err, want)
	case want.broken:
		return ""
	case want.repeated != got.result.Repeated || !errors.Is(got.result.Err, want.err) || (want.err == nil && got.result.Err != nil):
		return fmt.Sprintf("the ledger says %v, repeated %t; the model %+v", got.result.Err, got.result.Repeated, want)
	case want.err != nil || want.repeated:
		return ""
	}
	for i, e := range got.result.Transfers {
		if o.moves[i].Verb == ledger.Limit {
			continue
		}
		if t, known := m.transfers[e.ID]; !known || t.posted != e.Posted || t.amount != e.Amount || t.key != e.Key {
			return fmt.Sprintf("transfer %+v, model %+v", e, t)
		}
	}
	return ""
}
