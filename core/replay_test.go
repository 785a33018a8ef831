package core_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay/paytest"
)

// pastOf gives an agent a history of calls at a cent: one that is paid in fact, and its trace and record again, at moments
// before it, some of them the same. The trace is as large as one with many offers.
func pastOf(t *testing.T, w *coretest.World, calls, size int) (core.Principal, *core.AgentView) {
	t.Helper()
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	r := fetch(w, p, core.FetchInput{Agent: "bot", URL: w.Seller(cent).Link(2, paytest.Serve, 0)})
	v, err := w.Core.Traces.Get(w.Ctx, p, r.Payment.ID)
	must(w, err)
	v.Notes = []string{strings.Repeat("x", size)}
	detail, err := json.Marshal(v.TraceDetail)
	must(w, err)
	tx, err := w.DB.Begin(w.Ctx)
	must(w, err)
	again := func(table, columns, values string) func(args ...any) {
		made, err := tx.SQL.PrepareContext(w.Ctx, fmt.Sprintf("INSERT INTO %[1]s (id, created_at, %[2]s) SELECT $1, $2, %[3]s FROM %[1]s WHERE id = $3", table, columns, values))
		must(w, err)
		return func(args ...any) {
			if _, err := made.ExecContext(w.Ctx, args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	const why, record = "org_id, agent_id, outcome, method, service, host, endpoint, amount, ", "org_id, agent_id, kind, quoted, permit2, "
	traced := again("traces", why+"detail", why+"$4")
	paid := again("transactions", record+"status, amount", record+"'success', quoted")
	for i := range calls - 1 {
		id, at := uuid.Must(uuid.NewV7()).String(), r.Payment.CreatedAt.Add(-time.Duration(i/3+1)*time.Second)
		traced(id, at, r.Payment.ID.String(), string(detail))
		paid(id, at, r.Payment.ID.String())
	}
	must(w, tx.SQL.Commit())
	exec(t, raw(t, w), fmt.Sprintf("UPDATE usages SET spent = %d WHERE id = 'agent:%s:total'", int64(calls)*int64(cent), a.ID))
	return p, a
}

// A replay reads its calls by pages: none is left out or judged twice at their borders, and the oldest come first.
func TestReplayOfManyCalls(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		const calls = 1700
		p, a := pastOf(t, w, calls, 10)
		replay := func(draft core.PolicyInput) *core.Replay {
			t.Helper()
			r, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Days: 2, Draft: draft})
			must(w, err)
			return r
		}
		if r := replay(core.PolicyInput{}); r.Calls != calls || r.Spent != calls*cent || r.Refused+r.Freed+r.Held != 0 || r.Truncated {
			t.Errorf("%+v", r)
		}
		r := replay(core.PolicyInput{SpendingCap: core.Set(600 * cent)})
		if r.Calls != calls || r.Refused != calls-600 || r.Saved != (calls-600)*cent || len(r.Differences) != 100 {
			t.Errorf("%d calls, %d refused, %s saved, %d listed", r.Calls, r.Refused, r.Saved, len(r.Differences))
		}
		met := map[uuid.UUID]bool{}
		for i, d := range r.Differences {
			if met[d.Trace.ID] || d.Rule != "spending_cap" || (i > 0 && d.Trace.CreatedAt.Before(r.Differences[i-1].Trace.CreatedAt)) {
				t.Errorf("%d: %s %s", i, d.Trace.ID, d.Rule)
			}
			met[d.Trace.ID] = true
		}
		newest, err := w.Core.Traces.List(w.Ctx, p, core.TraceFilter{AgentID: &a.ID, Limit: 1, Offset: calls - 601})
		must(w, err)
		if got := r.Differences[0].Trace; !got.CreatedAt.Equal(newest.Items[0].CreatedAt) {
			t.Errorf("the first that is refused is of %s, not %s", got.CreatedAt, newest.Items[0].CreatedAt)
		}
	})
}

// What a replay holds at one time does not grow with the calls that it judges.
func TestReplayIsSmall(t *testing.T) {
	const calls, size, most = 20_003, 4 << 10, 40 << 20 // bytes: of 80 MiB of traces, and as much again when they are read
	w := coretest.New(t)
	p, a := pastOf(t, w, calls, size)
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, highest := live(), uint64(0)
	var r *core.Replay
	done := make(chan error, 1)
	go func() {
		var err error
		r, err = w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Days: 2, Draft: core.PolicyInput{PerCallMax: core.Set(money.USDC(1))}})
		done <- err
	}()
	for samples := 0; ; samples++ {
		select {
		case err := <-done:
			must(w, err)
			if r.Calls != 20_000 || !r.Truncated || r.Refused != 20_000 || r.Saved != 20_000*cent {
				t.Errorf("%d calls, %d refused", r.Calls, r.Refused)
			}
			if samples < 10 {
				t.Fatalf("it was looked at %d times", samples)
			}
			t.Logf("%d MiB at most, of %d samples", highest>>20, samples)
			if highest > most {
				t.Errorf("it has held %d MiB", highest>>20)
			}
			return
		default:
			if now := live(); now > before {
				highest = max(highest, now-before)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// A process runs a few replays at a time. The others wait, for as long as who asks.
func TestReplaysWait(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	w := coretest.New(t, coretest.OnPostgres(coretest.Postgres(t)))
	p, a := pastOf(t, w, 3, 10)
	db := raw(t, w)
	held, err := db.BeginTx(w.Ctx, nil)
	must(w, err)
	defer func() { _ = held.Rollback() }()
	if _, err := held.ExecContext(w.Ctx, "LOCK TABLE traces"); err != nil {
		t.Fatal(err)
	}
	const replays = 6
	replay := func(ctx context.Context) error {
		_, err := w.Core.Policies.Replay(ctx, p, core.ReplayInput{AgentID: a.ID, Days: 1})
		return err
	}
	done := make(chan error, replays)
	for range replays {
		go func() { done <- replay(w.Ctx) }()
	}
	running := func() (n int) {
		t.Helper()
		if err := db.QueryRow("SELECT count(*) FROM pg_locks WHERE relation = 'traces'::regclass AND NOT granted").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(5 * time.Second); running() < 2 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // in which a third would come
	if n := running(); n != 2 {
		t.Errorf("%d replays at a time", n)
	}
	impatient, cancel := context.WithTimeout(w.Ctx, 50*time.Millisecond)
	defer cancel()
	if err := replay(impatient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who does not wait is told %v", err)
	}
	must(w, held.Rollback())
	for range replays {
		must(w, <-done)
	}
}
