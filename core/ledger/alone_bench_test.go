package ledger_test

import (
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core/coretest"
	"bursar/core/ledger"
)

// BenchmarkAlone compares pairs of hold and post through the batch with debits that each have a transaction of their own:
// counter, balance and row, as plainly as SQL can say it, in an SQLite file that keeps its word as ours does. 256 callers,
// one session, a round of each side in turn.
//
//	go test -run '^$' -bench Alone -benchtime 1x ./core/ledger
func BenchmarkAlone(b *testing.B) {
	const rounds, length, callers = 3, 3 * time.Second, 256
	w := newWorld(b, filepath.Join(b.TempDir(), "ledger.db"))
	id := w.open(ledger.Session, ledger.Always)
	w.fund(id, 1_000_000_000)
	alone := newAlone(b)
	var ratios []float64
	b.ResetTimer()
	for range rounds {
		single := perSecond(callers, length, alone.debit)
		batched := perSecond(callers, length, func() { pair(b, w, id) })
		b.Logf("each its own transaction %.0f/s, through the batch %.0f/s", single, batched)
		ratios = append(ratios, batched/single)
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[rounds/2], "batch/alone")
}

func perSecond(callers int, length time.Duration, do func()) float64 {
	end := time.Now().Add(length)
	begin := time.Now()
	counts := make([]int, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for time.Now().Before(end) {
				do()
				counts[i]++
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / time.Since(begin).Seconds()
}

type alone struct {
	b  *testing.B
	db *sql.DB
}

func newAlone(b *testing.B) *alone {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range []string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"} {
		q.Add("_pragma", p)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "alone.db")+"?"+q.Encode())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	for _, statement := range []string{
		`CREATE TABLE agents (id INTEGER PRIMARY KEY, day_limit INTEGER NOT NULL, day_spent INTEGER NOT NULL)`,
		`CREATE TABLE sessions (id INTEGER PRIMARY KEY, deposit INTEGER NOT NULL, used INTEGER NOT NULL)`,
		`CREATE TABLE entries (id TEXT PRIMARY KEY, session_id INTEGER NOT NULL, amount INTEGER NOT NULL, created_at INTEGER NOT NULL)`,
		`CREATE INDEX entries_session ON entries (session_id, created_at)`,
		`INSERT INTO agents VALUES (1, 1000000000, 0)`, `INSERT INTO sessions VALUES (1, 1000000000, 0)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			b.Fatal(err)
		}
	}
	return &alone{b, db}
}

func (a *alone) debit() {
	tx, err := a.db.Begin()
	if err != nil {
		a.b.Error(err)
		return
	}
	for _, s := range []struct {
		text string
		args []any
	}{
		{`UPDATE agents SET day_spent = day_spent + 1 WHERE id = 1 AND day_spent + 1 <= day_limit`, nil},
		{`UPDATE sessions SET used = used + 1 WHERE id = 1 AND used + 1 <= deposit`, nil},
		{`INSERT INTO entries VALUES (?, 1, 1, ?)`, []any{uuid.NewString(), time.Now().UnixNano()}},
	} {
		if _, err := tx.Exec(s.text, s.args...); err != nil {
			a.b.Error(err)
			return
		}
	}
	if err := tx.Commit(); err != nil {
		a.b.Error(err)
	}
}

// TestMemoryIsFlat: what a debit leaves behind is in the database. BURSAR_MEMORY_DEBITS is how many are made, and
// BURSAR_MEMORY_DATABASE=postgres where; without them 20,000, on SQLite.
func TestMemoryIsFlat(t *testing.T) {
	debits := 20_000
	if text := os.Getenv("BURSAR_MEMORY_DEBITS"); text != "" {
		var err error
		if debits, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		t.Skip("one of many debits")
	}
	where := filepath.Join(t.TempDir(), "ledger.db")
	if os.Getenv("BURSAR_MEMORY_DATABASE") == "postgres" {
		where = coretest.Postgres(t)
	}
	w := newWorld(t, where)
	id := w.open(ledger.Session, ledger.Always)
	w.fund(id, 1_000_000_000)
	const steps, callers = 10, 256
	heap := make([]uint64, steps)
	for s := range steps {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range debits / steps / callers {
					pair(t, w, id)
				}
			})
		}
		wg.Wait()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap[s] = m.HeapAlloc
		t.Logf("after %d: %.1f MB", (s+1)*debits/steps, float64(m.HeapAlloc)/(1<<20))
	}
	const room = 4 << 20 // pools and buffers that are filled later
	if heap[steps-1] > heap[0]+room {
		t.Errorf("the heap has grown from %d to %d bytes", heap[0], heap[steps-1])
	}
}
