package metrics_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/metrics"
	"bursar/money"
	"bursar/pay/paytest"
)

// scrape returns every sample by its name and labels.
func scrape(t *testing.T, h http.Handler) map[string]float64 {
	t.Helper()
	out := httptest.NewRecorder()
	h.ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(out.Result().Body)
	if err != nil || out.Code != http.StatusOK {
		t.Fatalf("%d %s %v", out.Code, body, err)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		samples[line[:at]] = v
	}
	return samples
}

func TestFigures(t *testing.T) {
	for name, options := range map[string][]coretest.Option{"sqlite": nil, "postgres": {nil}} {
		t.Run(name, func(t *testing.T) {
			if name == "postgres" {
				if testing.Short() {
					t.Skip("SQLite alone")
				}
				options[0] = coretest.OnPostgres(coretest.Postgres(t))
			}
			figuresOf(t, coretest.New(t, options...))
		})
	}
}

func figuresOf(t *testing.T, w *coretest.World) {
	h := metrics.New(w.Core, metrics.Options{Log: slog.New(slog.DiscardHandler), NodeFailures: w.Net.Client.Failures}).Handler()
	if _, there := scrape(t, h)["bursar_audit_differences"]; there {
		t.Error("a proof before the first")
	}
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 3*money.One)
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	s := w.Seller(money.One / 100)
	for _, b := range []paytest.Behaviour{paytest.Serve, paytest.Serve, paytest.FailAfter} { // the last one keeps its proof
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, b, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Core.Books.Check(w.Ctx); err != nil {
		t.Fatal(err)
	}
	got := scrape(t, h)
	for sample, want := range map[string]float64{
		`bursar_figures_complete{source="database"}`:              1,
		`bursar_figures_complete{source="chain"}`:                 1,
		`bursar_accounts{kind="wallet"}`:                          2, // the agent's, and the user's own
		`bursar_balance_atomic_usdc{kind="wallet"}`:               2_000_000,
		`bursar_balance_atomic_usdc{kind="session"}`:              980_000,
		`bursar_pending_atomic_usdc{kind="session"}`:              10_000,
		`bursar_holds_pending`:                                    1,
		`bursar_payments_open{status="unknown"}`:                  1,
		`bursar_payments_open{status="pending"}`:                  0,
		`bursar_payments_total{outcome="reserved"}`:               3,
		`bursar_payments_total{outcome="charged"}`:                2,
		`bursar_payments_total{outcome="unknown"}`:                1,
		`bursar_payments_total{outcome="failed"}`:                 0,
		`bursar_audit_differences`:                                0,
		`bursar_ledger_failed_transactions_total`:                 0,
		`bursar_operations_open{state="queued"}`:                  0,
		`bursar_ledger_batch_units_bucket{le="+Inf"}`:             6, // three holds, two posts, a note of what is unknown
		`bursar_ledger_batch_units_sum`:                           6,
		`bursar_ledger_commit_duration_seconds_count`:             6,
		`bursar_ledger_commit_duration_seconds_bucket{le="+Inf"}`: 6,
	} {
		if v, there := got[sample]; !there || v != want {
			t.Errorf("%s is %v (%v), want %v", sample, v, there, want)
		}
	}
	for _, sample := range []string{
		"bursar_relayer_wei", "bursar_watcher_block", "bursar_chain_head_block", "bursar_audit_timestamp_seconds", "bursar_holds_pending_oldest_seconds",
		"bursar_watcher_block_timestamp_seconds", "go_goroutines",
	} {
		if got[sample] <= 0 {
			t.Errorf("%s is %v", sample, got[sample])
		}
	}
	for sample := range got {
		for _, id := range []string{a.ID.String(), v.ID.String(), p.OrgID.String(), a.Address, "dev@example.com", s.URL} {
			if strings.Contains(sample, id) {
				t.Errorf("%s names %s", sample, id)
			}
		}
	}
	// Without the database the chain's figures are told all the same.
	if err := w.DB.Close(); err != nil {
		t.Fatal(err)
	}
	got = scrape(t, h)
	if got[`bursar_figures_complete{source="database"}`] != 0 || got[`bursar_figures_complete{source="chain"}`] != 1 || got["bursar_relayer_wei"] <= 0 {
		t.Errorf("without a database: %v", got)
	}
	if _, there := got["bursar_holds_pending"]; there {
		t.Error("a figure of nothing")
	}
}

func TestRequests(t *testing.T) {
	w := coretest.New(t)
	d := metrics.New(w.Core, metrics.Options{Log: slog.New(slog.DiscardHandler)})
	d.Observe("GET /agents/{id}", 200, 20*time.Millisecond)
	d.Observe("GET /agents/{id}", 404, 2*time.Millisecond)
	d.Observe("", 404, time.Millisecond)
	got := scrape(t, d.Handler())
	for sample, want := range map[string]float64{
		`bursar_http_requests_total{code="200",route="GET /agents/{id}"}`:                  1,
		`bursar_http_requests_total{code="404",route="GET /agents/{id}"}`:                  1,
		`bursar_http_requests_total{code="404",route="none"}`:                              1,
		`bursar_http_request_duration_seconds_bucket{route="GET /agents/{id}",le="0.005"}`: 1,
		`bursar_http_request_duration_seconds_count{route="GET /agents/{id}"}`:             2,
	} {
		if got[sample] != want {
			t.Errorf("%s is %v, want %v", sample, got[sample], want)
		}
	}
	for path, want := range map[string]int{"/": 404, "/metrics/": 404} {
		out := httptest.NewRecorder()
		d.Handler().ServeHTTP(out, httptest.NewRequest(http.MethodGet, path, nil))
		if out.Code != want {
			t.Errorf("%s: %d", path, out.Code)
		}
	}
}
