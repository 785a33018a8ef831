// Command bursar gives AI agents wallets with a budget, and pays any paid API for them. This file is the table
// of contents: it wires everything and decides nothing.
package main

//go:generate go tool gqlgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"bursar/config"
	"bursar/core"
	"bursar/demo/newcomer"
	"bursar/evm"
	"bursar/jobs"
	"bursar/metrics"
	"bursar/pay"
	"bursar/pay/agentpay"
	"bursar/pay/l402"
	"bursar/pay/mpp"
	"bursar/pay/x402"
	"bursar/resolvers"
	"bursar/rest"
	"bursar/rest/agnic"
	"bursar/rest/indiegent"
)

// Bounds of the HTTP server.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 20 * time.Second // for requests under way when the program is told to stop
	maxHeader     = 64 << 10         // bytes
)

// gcPercent lets the heap grow to five times what is in use before it is collected. Little is in use, some tens of MB, and
// at Go's own 100 a tenth of the processor time of a busy server went into collecting.
const gcPercent = 400

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, nil)
	stop()
	if err != nil && !errors.Is(err, config.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "bursar:", err)
		os.Exit(1)
	}
}

// run is the program: it returns when ctx ends and everything has stopped, or when it cannot start. step is
// core.Deps.Step.
func run(ctx context.Context, args []string, out io.Writer, step func(string)) error {
	cfg, err := config.Load(args, out)
	if err != nil {
		return err
	}
	if own := debug.SetGCPercent(gcPercent); own != 100 && own != gcPercent { // GOGC is set: its owner knows better
		debug.SetGCPercent(own)
	}
	log := newLog(cfg)
	if cfg.Command != "serve" {
		return command(ctx, cfg, log, out)
	}
	listener, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	secrets, err := cfg.Secrets()
	if err != nil {
		return err
	}
	network, err := openNetwork(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer network.close()
	// What runs in the background ends after the requests that need it, and before what it works on.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	app, db, err := openCore(background, cfg, secrets, log, network, step)
	if err != nil {
		return err
	}
	defer db.Close()
	var running sync.WaitGroup
	defer running.Wait()
	defer stopBackground()
	if err := app.Funding.ReadChain(ctx); err != nil { // the jobs go on trying
		log.ErrorContext(ctx, "the chain could not be read", "error", err)
	}
	running.Go(func() { jobs.Run(background, log, jobs.Table(app, cfg.Poll()), network.wake(background)) })
	running.Go(func() {
		if err := app.Relay(background); err != nil {
			log.ErrorContext(background, "news from other processes are not heard", "error", err)
		}
	})

	if err := installServices(ctx, cfg, log, app); err != nil {
		return err
	}
	mux := http.NewServeMux()
	instruments := metrics.New(app, metrics.Options{Log: log, NodeFailures: network.client.Failures})
	options := rest.Options{Log: log, Clock: time.Now, KeyPerMinute: cfg.RatePerKey, AddressPerMinute: cfg.RatePerIP, Observe: instruments.Observe}
	indiegent.Mount(mux, app, options) // /auth /agents /sessions /external/fetch … /openapi.yaml
	agnic.Mount(mux, app, options)     // /api /.well-known/openapi.yaml
	graph := resolvers.Mount(mux, app, resolvers.Options{Log: log, Clock: time.Now, GraphiQL: cfg.GraphiQLOn(), Observe: instruments.Observe})
	health(mux, app)

	stopMetrics, err := serveMetrics(ctx, cfg, log, instruments)
	if err != nil {
		return err
	}
	defer stopMetrics()
	if cfg.DemoOn() {
		stopDemo, err := startDemo(ctx, cfg, log, network)
		if err != nil {
			return err
		}
		defer stopDemo()
		if err := greet(ctx, cfg, app, network, out); err != nil {
			return err
		}
	}
	log.InfoContext(ctx, "listening", "address", cfg.Listen)
	return serve(ctx, listener, rest.Exactly(mux), graph.Shutdown)
}

// command does what the program is told to do beside a server, or in its place.
func command(ctx context.Context, cfg config.Config, log *slog.Logger, out io.Writer) error {
	if cfg.Command == "fund" {
		return fund(ctx, cfg, out)
	}
	return audit(ctx, cfg, log, out)
}

func newLog(cfg config.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: stop what listens there, or choose another address", address)
	}
	return l, err
}

// databaseURL is the PostgreSQL that is named, or the SQLite file in the data folder.
func databaseURL(cfg config.Config) string {
	if cfg.DatabaseURL != "" {
		return cfg.DatabaseURL
	}
	return filepath.Join(cfg.Data, "bursar.db")
}

// openCore opens the database and builds the domain over it.
func openCore(ctx context.Context, cfg config.Config, secrets config.Secrets, log *slog.Logger, n *network, step func(string)) (*core.Core, *core.DB, error) {
	if cfg.DatabaseURL == "" {
		if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
			return nil, nil, fmt.Errorf("--data: %w", err)
		}
	}
	db, err := core.OpenDB(ctx, databaseURL(cfg))
	if err != nil {
		return nil, nil, err
	}
	allow, err := allowed(cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := n.prepare(ctx, secrets); err != nil {
		return nil, nil, err
	}
	app, err := core.New(ctx, core.Deps{
		DB: db, Chain: n.client, Clock: time.Now, Log: log, Upstream: core.NewUpstream(allow), Private: allow,
		Protocols: protocols(n.client.Network()),
		MasterKey: secrets.MasterKey, JWTSecret: secrets.JWTSecret,
		PlatformKey: secrets.PlatformKey, RelayerKey: secrets.RelayerKey, MoreRelayers: secrets.MoreRelayers,
		GasGrantWei: cfg.GasGrant(), MaxPayment: cfg.Ceiling(), PayAhead: cfg.PayAhead, Permit2Reserve: cfg.Permit2Reserve(),
		PayoutLeast: cfg.PayoutLeast(), PayoutWait: cfg.PayoutWait, Step: step,
		Streams: core.StreamLimits{Bytes: cfg.StreamBytes, Time: cfg.StreamTime, Idle: cfg.StreamIdle}, CallsAtOnce: cfg.CallsPerKey,
	})
	if err == nil {
		err = n.check(ctx, app)
	}
	return app, db, err
}

// protocols are the ways of asking for money that are understood, in order of preference. Which of their offers are paid is
// for the wallet of the call to say (pay.Wallet.Also); the others are refused with their reason.
func protocols(n evm.Network) []pay.Protocol {
	return []pay.Protocol{x402.V2{Identifiers: true}, x402.V1{}, mpp.Charge{}, mpp.Plain{}, agentpay.Protocol{Default: n}, l402.Protocol{}}
}

// allowed are the private addresses that agents may call: those that the operator names, and the demo service.
func allowed(cfg config.Config) ([]netip.AddrPort, error) {
	names := cfg.AllowPrivate
	if cfg.DemoOn() {
		names = append(names[:len(names):len(names)], cfg.DemoAddr)
	}
	out := make([]netip.AddrPort, 0, len(names))
	for _, name := range names {
		a, err := netip.ParseAddrPort(name)
		if err != nil {
			return nil, fmt.Errorf("--allow-private: %q is not ip:port", name)
		}
		out = append(out, a)
	}
	return out, nil
}

// health says whether the process lives, and whether it can work.
func health(mux *http.ServeMux, app *core.Core) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), headerTimeout)
		defer cancel()
		if err := app.Ready(ctx); err != nil {
			http.Error(w, "database or chain does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
}

// serveMetrics answers Prometheus on a listener of its own, when one is set, and returns what stops it.
func serveMetrics(ctx context.Context, cfg config.Config, log *slog.Logger, m *metrics.Door) (func(), error) {
	if cfg.Metrics == "" {
		return func() {}, nil
	}
	listener, err := listen(ctx, cfg.Metrics)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: m.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.ErrorContext(ctx, "metrics are no longer served", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil
}

// greet prepares the demo user and prints what to try.
func greet(ctx context.Context, cfg config.Config, app *core.Core, n *network, out io.Writer) error {
	if n.node == nil {
		return nil // no faucet on a real chain
	}
	secret, err := demoPassword(cfg)
	if err != nil {
		return err
	}
	who, err := newcomer.Ensure(ctx, app, n.node, filepath.Join(cfg.Data, "secrets", "demo.json"), secret)
	if err != nil {
		return err
	}
	return who.Print(out, newcomer.Addresses{
		API: "http://" + cfg.Listen, Demo: "http://" + cfg.DemoAddr, RPC: n.node.URL(), GraphiQL: cfg.GraphiQLOn(),
	})
}

// serve answers requests until ctx ends, and then lets those under way finish.
func serve(ctx context.Context, l net.Listener, h http.Handler, streams func(context.Context) error) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	ended := streams(stop)
	stopped := server.Shutdown(stop)
	if errors.Is(stopped, context.DeadlineExceeded) { // answers on their way may last longer: they are cut off
		stopped = server.Close()
	}
	return errors.Join(ended, stopped)
}
