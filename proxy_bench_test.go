package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/pricing"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
	"bursar/rest"
	"bursar/rest/agnic"
)

// BenchmarkProxy compares a free call through POST /api/x402/fetch with the same call through Go's own
// httputil.ReverseProxy behind the same authentication, and tells what a session adds to a call whose service takes 2 ms:
// one that is paid with the first request, and one that this server bills for.
// All of them run in this process, in turn, call by call, so that their ratios hold when the machine's speed drifts.
// The services answer 1 KiB. PostgreSQL is measured when TEST_POSTGRES_URL names one.
//
//	TEST_POSTGRES_URL=… go test -run '^$' -bench Proxy -benchtime 2000x .
func BenchmarkProxy(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchProxy(b, coretest.New(b)) })
	if os.Getenv(coretest.PostgresVariable) != "" {
		b.Run("postgres", func(b *testing.B) { benchProxy(b, coretest.New(b, coretest.OnPostgres(coretest.Postgres(b)))) })
	}
}

func benchProxy(b *testing.B, w *coretest.World) {
	l := newProxyLab(b, w)
	free, slow := l.free(0), l.free(2*time.Millisecond)
	paid, billed := l.paid(2*time.Millisecond), l.billed(2*time.Millisecond)
	reverse, ours := l.reverse(free), l.fetch(free)
	sides := []struct {
		name string
		call func() time.Duration
	}{
		{"reverse", l.caller(reverse, "")},
		{"ours", l.caller(ours, "")},
		{"slow", l.caller(l.fetch(slow), "")},
		{"session", l.caller(l.fetch(paid), l.session)},
		{"billed", l.caller(l.fetch(billed), l.session)},
	}
	times := map[string][]time.Duration{}
	for range 50 { // until connections, plans and pools are there
		for _, s := range sides {
			s.call()
		}
	}
	b.ResetTimer()
	for range b.N {
		for _, s := range sides {
			times[s.name] = append(times[s.name], s.call())
		}
	}
	b.StopTimer()
	half := func(name string) float64 {
		slices.Sort(times[name])
		return float64(times[name][len(times[name])/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(half("reverse"), "reverse-µs")
	b.ReportMetric(half("ours"), "ours-µs")
	b.ReportMetric(half("ours")/half("reverse"), "ours/reverse")
	b.ReportMetric(half("slow"), "free-2ms-µs")
	b.ReportMetric(half("session"), "session-2ms-µs")
	b.ReportMetric(half("session")-half("slow"), "session-adds-µs")
	b.ReportMetric(half("billed"), "billed-2ms-µs")
	b.ReportMetric(half("billed")-half("slow"), "billing-adds-µs")
	many := func(url string) float64 { return l.throughput(url, 32, time.Second) }
	var rounds []float64
	for range 3 {
		rounds = append(rounds, many(ours)/many(reverse))
	}
	slices.Sort(rounds)
	b.ReportMetric(rounds[1], "calls/s-ours/reverse-32")
}

// proxyLab is the dialect's door over a socket, and somebody with a token, a wallet and a session.
type proxyLab struct {
	*coretest.World
	b              *testing.B
	door           string
	token, session string
	client         *http.Client
}

func newProxyLab(b *testing.B, w *coretest.World) *proxyLab {
	l := &proxyLab{World: w, b: b, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
	deps := w.Deps
	deps.PayAhead = true // as the program does
	var err error
	w.Core, err = core.New(w.Ctx, deps)
	l.no(err)
	p, _ := w.User("dev@example.com")
	wallet, err := w.Core.Agents.Default(w.Ctx, p)
	l.no(err)
	key, err := w.Core.APIKeys.CreateToken(w.Ctx, p, core.TokenInput{Label: "bench"})
	l.no(err)
	l.token = key.Secret
	w.Fund(wallet, 1000*money.One)
	w.Settle()
	session, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: wallet.ID, Deposit: 900 * money.One})
	l.no(err)
	l.session = session.ID.String()
	mux := http.NewServeMux()
	agnic.Mount(mux, w.Core, l.options())
	l.door = w.Serve(mux)
	return l
}

func (l *proxyLab) options() rest.Options {
	return rest.Options{Log: slog.New(slog.DiscardHandler), Clock: time.Now}
}

func (l *proxyLab) no(err error) {
	l.b.Helper()
	if err != nil {
		l.b.Fatal(err)
	}
}

var oneKiB = bytes.Repeat([]byte("0123456789abcdef"), 64)

// free is a service that takes its time.
func (l *proxyLab) free(takes time.Duration) string {
	return l.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(takes)
		_, _ = w.Write(oneKiB)
	}))
}

// paid is one that is paid, and believes every proof.
func (l *proxyLab) paid(takes time.Duration) string {
	shop := paytest.New(l.b, paytest.Options{
		Network: l.Net.Network(), PayTo: common.HexToAddress("0x5e11e2"), Clock: l.Clock.Now, Price: money.One / 10_000,
		Answer: func(w http.ResponseWriter, _ *http.Request, a x402.Ask, p pay.Proof) {
			l.no(a.Receipt(w.Header(), p.Authorization.From, common.Hash{7}, ""))
			_, _ = w.Write(oneKiB)
		},
	})
	return l.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(takes)
		shop.ServeHTTP(w, r)
	})) + "/v2/" + string(paytest.Serve)
}

// billed is one of this server's own catalogue, at a price per call.
func (l *proxyLab) billed(takes time.Duration) string {
	base := l.free(takes)
	l.no(l.Core.Services.Install(l.Ctx, []core.ServiceInput{{Name: "search", BaseURL: base, Price: pricing.Price{PerCall: money.One / 10_000}}}))
	return base
}

// fetch is the URL of a call through the door.
func (l *proxyLab) fetch(target string) string {
	return l.door + "/api/x402/fetch?method=GET&url=" + url.QueryEscape(target)
}

// reverse is Go's own proxy to a service, for callers that the same authentication lets through.
func (l *proxyLab) reverse(target string) string {
	to, err := url.Parse(target)
	l.no(err)
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 512},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Header.Del("X-Agnic-Token")
			r.Out.Method = http.MethodGet
			r.SetURL(to)
			r.Out.URL.Path, r.Out.URL.RawQuery = "/", ""
		},
	}
	return l.Serve(rest.NewDoor(rest.Agnic, l.Core, l.options()).Authenticated(proxy)) + "/"
}

// caller calls once over a connection that is kept.
func (l *proxyLab) caller(target, session string) func() time.Duration {
	return func() time.Duration {
		begin := time.Now()
		if err := l.ask(target, session); err != nil {
			l.b.Fatal(err)
		}
		return time.Since(begin)
	}
}

func (l *proxyLab) ask(target, session string) error {
	r, err := http.NewRequestWithContext(l.Ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("X-Agnic-Token", l.token)
	if session != "" {
		r.Header.Set("X-Session-Id", session)
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || len(body) != len(oneKiB) {
		return fmt.Errorf("%d %s %w", resp.StatusCode, body, err)
	}
	return nil
}

// throughput is how many calls a second so many callers get.
func (l *proxyLab) throughput(target string, callers int, length time.Duration) float64 {
	var wg sync.WaitGroup
	counts := make([]int, callers)
	begin := time.Now()
	for i := range callers {
		wg.Go(func() {
			for time.Since(begin) < length {
				if err := l.ask(target, ""); err != nil {
					l.b.Error(err)
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	n := 0
	for _, c := range counts {
		n += c
	}
	return float64(n) / time.Since(begin).Seconds()
}
