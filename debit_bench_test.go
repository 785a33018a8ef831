package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	_ "github.com/lib/pq" // driver "postgres"

	"bursar/core/coretest"
	"bursar/money"
)

// BenchmarkDebits compares paid calls from sessions, through the public HTTP interface with an API key and durable
// before each answer, with pgbench running one equivalent statement a debit on the same PostgreSQL. A round runs each
// side in turn, and the ratios are of a round, so that they hold when the machine's speed drifts. A call here is all of
// it: the request to the service, its 402, the signature, the second request, hold and post; the service answers at
// once and judges no proof. BURSAR_BENCH_ROUNDS (default 3) and BURSAR_BENCH_SECONDS (default 4, of each measurement).
//
//	TEST_POSTGRES_URL=… go test -run '^$' -bench Debits -benchtime 1x .
func BenchmarkDebits(b *testing.B) {
	l := newDebitLab(b)
	rounds, length := setting(b, "BURSAR_BENCH_ROUNDS", 3), time.Duration(setting(b, "BURSAR_BENCH_SECONDS", 4))*time.Second
	var rows []debitRound
	b.ResetTimer()
	for range rounds {
		rows = append(rows, debitRound{
			pgHot: l.pgbench(256, length, "hot"), hot: l.load(256, length, l.hot),
			pgWide: l.pgbench(32, length, "wide"), wide: l.load(256, length, l.wide),
			pgOne: l.pgbench(1, length, "hot"), one: l.load(1, length, l.hot),
		})
	}
	for i, r := range rows {
		b.Logf("round %d: hot session at 256 callers %s, pgbench %s; %d sessions at 256 %s, pgbench at 32 %s; one caller %s, pgbench %s",
			i+1, r.hot, r.pgHot, len(l.wide), r.wide, r.pgWide, r.one, r.pgOne)
	}
	b.ReportMetric(middle(rows, func(r debitRound) float64 { return r.hot.perSecond / r.pgHot.perSecond }), "hot/pgbench")
	b.ReportMetric(middle(rows, func(r debitRound) float64 { return r.wide.perSecond / r.pgWide.perSecond }), "wide/pgbench")
	b.ReportMetric(middle(rows, func(r debitRound) float64 { return r.one.p50 / r.pgOne.p50 }), "p50/pgbench")
	b.ReportMetric(middle(rows, func(r debitRound) float64 { return r.hot.requests }), "requests/call")
	b.ReportMetric(middle(rows, func(r debitRound) float64 { return r.hot.perSecond }), "hot-calls/s")
	b.ReportMetric(middle(rows, func(r debitRound) float64 { return r.wide.perSecond }), "wide-calls/s")
}

type debitRound struct{ hot, pgHot, wide, pgWide, one, pgOne figures }

type figures struct {
	perSecond float64
	requests  float64 // to the service, a call
	p50       float64 // milliseconds
	cost      spent   // a call
}

// spent is processor time in milliseconds: of the program with its chain, of all PostgreSQL servers on this machine, and
// of this test, which calls and is the paid service.
type spent struct{ program, database, here float64 }

func (f figures) String() string {
	if f.cost == (spent{}) {
		return fmt.Sprintf("%.0f/s p50 %.2f ms", f.perSecond, f.p50)
	}
	return fmt.Sprintf("%.0f/s p50 %.2f ms (processor time of a call: program %.2f, PostgreSQL %.2f, caller and service %.2f ms)",
		f.perSecond, f.p50, f.cost.program, f.cost.database, f.cost.here)
}

// processorTime reads what Linux says that processes have used, in milliseconds.
func (l *debitLab) processorTime() spent {
	l.b.Helper()
	var out spent
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// proc(5): pid (comm) state … utime, stime, and both of children that have ended, are fields 14 to 17, in ticks of
		// 10 ms; comm may contain anything.
		head, tail, _ := bytes.Cut(text, []byte("("))
		end := bytes.LastIndexByte(tail, ')')
		fields := bytes.Fields(tail[end+1:])
		var ticks float64
		for _, f := range fields[11:15] {
			n, err := strconv.Atoi(string(f))
			if err != nil {
				l.b.Fatal(err)
			}
			ticks += float64(n) * 10
		}
		switch pid := string(bytes.TrimSpace(head)); {
		case pid == strconv.Itoa(os.Getpid()):
			out.here += ticks
		case pid == strconv.Itoa(l.p.cmd.Process.Pid):
			out.program += ticks
		case string(tail[:end]) == "postgres":
			out.database += ticks
		}
	}
	return out
}

func middle(rows []debitRound, of func(debitRound) float64) float64 {
	v := make([]float64, len(rows))
	for i, r := range rows {
		v[i] = of(r)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func setting(b *testing.B, name string, standard int) int {
	b.Helper()
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			b.Fatalf("%s is %q", name, text)
		}
		return n
	}
	return standard
}

type debitLab struct {
	b         *testing.B
	p         *program
	agent     string
	hot, wide []string // sessions
	service   string
	requests  atomic.Int64 // that the service has had
	plain     string       // URL of pgbench's database
}

const benchSessions = 1000

func newDebitLab(b *testing.B) *debitLab {
	l := &debitLab{b: b, plain: coretest.EmptyPostgres(b)}
	till := newTill(b, money.One/1_000_000)
	careless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.requests.Add(1)
		if r.Header.Get("PAYMENT-SIGNATURE") == "" {
			_ = till.ask.Challenge(w, "")
			return
		}
		_ = till.ask.Receipt(w.Header(), common.Address{1}, common.Hash{1}, "")
		_, _ = io.WriteString(w, "served\n")
	}))
	b.Cleanup(careless.Close)
	l.service = careless.URL + "/"
	l.p = start(b, append(secrets(), "--database-url="+coretest.EmptyPostgres(b), "--allow-private="+careless.Listener.Addr().String())...)
	l.agent = l.p.agentID()
	l.hot, l.wide = l.open(1, "1.00"), l.open(benchSessions, "0.01")
	l.tables()
	return l
}

// open opens sessions with so much each.
func (l *debitLab) open(n int, deposit string) []string {
	l.b.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var ids []string
	gate := make(chan struct{}, 40)
	for range n {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			id := text(l.p.must("POST", "/sessions", map[string]any{"agent_wallet_id": l.agent, "deposit_amount": json.Number(deposit)}), "session", "id")
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
		})
	}
	wg.Wait()
	return ids
}

// load calls from so many connections for so long and returns how many calls were served.
func (l *debitLab) load(callers int, length time.Duration, sessions []string) figures {
	l.b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	body := []byte(`{"url":"` + l.service + `"}`)
	var n atomic.Int64
	times := make([][]time.Duration, callers)
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	begin, before, asked := time.Now(), l.processorTime(), l.requests.Load()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequest(http.MethodPost, l.p.API+"/external/fetch", bytes.NewReader(body))
				if err != nil {
					l.b.Error(err)
					return
				}
				req.Header.Set("X-API-Key", l.p.Key)
				req.Header.Set("X-Agent-Wallet", l.agent)
				req.Header.Set("X-Session-Id", sessions[int(n.Add(1))%len(sessions)])
				at := time.Now()
				resp, err := client.Do(req)
				if err != nil {
					l.b.Error(err)
					return
				}
				answer, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"payment_status":"success"`)) {
					l.b.Errorf("%d %s %v", resp.StatusCode, answer, err)
					return
				}
				times[i] = append(times[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	took, after := time.Since(begin), l.processorTime()
	all := slices.Concat(times...)
	slices.Sort(all)
	calls := float64(len(all))
	return figures{calls / took.Seconds(), float64(l.requests.Load()-asked) / calls, float64(all[len(all)/2].Microseconds()) / 1000, spent{
		(after.program - before.program) / calls, (after.database - before.database) / calls, (after.here - before.here) / calls,
	}}
}

// oneStatement is a debit as pgbench makes it: session, agent's day counter and ledger row in one statement, both rows
// locked and judged.
const oneStatement = `WITH s AS MATERIALIZED (SELECT id, agent_id, deposit, used FROM sessions WHERE id = :id AND open FOR UPDATE),
 a AS MATERIALIZED (SELECT id, day_limit, day_spent FROM agents WHERE id = (SELECT agent_id FROM s) FOR UPDATE),
 ok AS MATERIALIZED (SELECT s.id AS sid, a.id AS aid FROM s JOIN a ON a.id = s.agent_id WHERE s.used + 1 <= s.deposit AND a.day_spent + 1 <= a.day_limit),
 us AS (UPDATE sessions p SET used = p.used + 1, calls = p.calls + 1 FROM ok WHERE p.id = ok.sid),
 ua AS (UPDATE agents g SET day_spent = g.day_spent + 1 FROM ok WHERE g.id = ok.aid)
 INSERT INTO entries (id, session_id, agent_id, amount, created_at) SELECT gen_random_uuid(), sid, aid, 1, now() FROM ok;
`

// tables are pgbench's: as many sessions as ours, each of an agent of its own, so that only the hot script is hot.
func (l *debitLab) tables() {
	l.b.Helper()
	db, err := sql.Open("postgres", l.plain)
	if err != nil {
		l.b.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`CREATE TABLE agents (id int PRIMARY KEY, day_limit bigint NOT NULL, day_spent bigint NOT NULL DEFAULT 0)`,
		`CREATE TABLE sessions (id int PRIMARY KEY, agent_id int NOT NULL, open bool NOT NULL DEFAULT true, deposit bigint NOT NULL, used bigint NOT NULL DEFAULT 0, calls bigint NOT NULL DEFAULT 0)`,
		`CREATE TABLE entries (id uuid PRIMARY KEY, session_id int NOT NULL, agent_id int NOT NULL, amount bigint NOT NULL, created_at timestamptz NOT NULL)`,
		`CREATE INDEX ON entries (session_id, created_at)`,
		fmt.Sprintf(`INSERT INTO agents SELECT n, 1000000000 FROM generate_series(1, %d) n`, benchSessions),
		fmt.Sprintf(`INSERT INTO sessions (id, agent_id, deposit) SELECT n, n, 1000000000 FROM generate_series(1, %d) n`, benchSessions),
	} {
		if _, err := db.Exec(statement); err != nil {
			l.b.Fatal(err)
		}
	}
}

var (
	pgTPS     = regexp.MustCompile(`tps = ([0-9.]+)`)
	pgLatency = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
)

func (l *debitLab) pgbench(clients int, length time.Duration, script string) figures {
	l.b.Helper()
	ids := "\\set id 1\n"
	if script == "wide" {
		ids = fmt.Sprintf("\\set id random(1, %d)\n", benchSessions)
	}
	file := filepath.Join(l.b.TempDir(), script+".sql")
	if err := os.WriteFile(file, []byte(ids+oneStatement), 0o600); err != nil {
		l.b.Fatal(err)
	}
	out, err := exec.Command(pgbenchPath(l.b), "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "2", "-T", strconv.Itoa(int(length/time.Second)),
		"-f", file, l.plain).CombinedOutput()
	if err != nil {
		l.b.Fatalf("pgbench: %v\n%s", err, out)
	}
	number := func(in *regexp.Regexp) float64 {
		m := in.FindSubmatch(out)
		if m == nil {
			l.b.Fatalf("pgbench says\n%s", out)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			l.b.Fatal(err)
		}
		return v
	}
	return figures{perSecond: number(pgTPS), p50: number(pgLatency)}
}

func pgbenchPath(b *testing.B) string {
	b.Helper()
	if found, err := exec.LookPath("pgbench"); err == nil {
		return found
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if len(found) == 0 {
		b.Fatal("pgbench is not there: ./test -bench installs it")
	}
	return found[len(found)-1]
}
