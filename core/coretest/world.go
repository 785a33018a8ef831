// Package coretest builds a whole world for one test: a database of its own, the embedded chain in memory, and
// a core over both. Nothing of ours is faked.
package coretest

import (
	"context"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/jobs"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/agentpay"
	"bursar/pay/l402"
	"bursar/pay/mpp"
	"bursar/pay/x402"
)

// World is what a test has.
type World struct {
	T     testing.TB
	Ctx   context.Context // ends with the test
	Net   *chaintest.Net
	DB    *core.DB
	Core  *core.Core
	Deps  core.Deps // to build a second core over the same database, as another process would
	Clock *Clock

	Platform, Relayer common.Address
}

// Clock is the test's own time: the real one, and what Pass has added.
type Clock struct{ ahead atomic.Int64 }

// Now is the world's time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Ahead lets time go by on the clock alone.
func (c *Clock) Ahead(d time.Duration) { c.ahead.Add(int64(d)) }

// Pass lets time go by, on the clock and on the chain (a block a second).
func (w *World) Pass(d time.Duration) {
	for range int(d / time.Second) {
		w.Net.Node.Commit()
	}
	w.Clock.ahead.Add(int64(d))
}

// Option changes how a world is built.
type Option func(*settings)

type settings struct {
	databaseURL string
	chainID     uint64
	depth       uint64
}

// OnPostgres puts the world on a fresh database of a PostgreSQL server; see Postgres.
func OnPostgres(url string) Option { return func(s *settings) { s.databaseURL = url } }

// WithChainID makes the chain answer under another id; the official v1 packages know networks by name only.
func WithChainID(id uint64) Option { return func(s *settings) { s.chainID = id } }

// New builds a world.
func New(t testing.TB, options ...Option) *World {
	t.Helper()
	s := settings{databaseURL: filepath.Join(t.TempDir(), "bursar.db")}
	for _, o := range options {
		o(&s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &World{T: t, Ctx: ctx, Clock: &Clock{}}
	var netOptions []chaintest.Option
	if s.chainID != 0 {
		netOptions = append(netOptions, chaintest.WithChainID(s.chainID))
	}
	w.Net = chaintest.New(t, netOptions...)
	platform, err := crypto.GenerateKey()
	w.no(err)
	relayer, err := crypto.GenerateKey()
	w.no(err)
	w.Platform, w.Relayer = crypto.PubkeyToAddress(platform.PublicKey), crypto.PubkeyToAddress(relayer.PublicKey)
	w.Net.Ether(w.Relayer, new(big.Int).Mul(big.NewInt(100), big.NewInt(1e18)))
	w.DB, err = core.OpenDB(ctx, s.databaseURL)
	w.no(err)
	t.Cleanup(func() { _ = w.DB.Close() })
	private := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("[::1]:0")}
	w.Deps = core.Deps{
		DB: w.DB, Chain: deep{w.Net.Client, s.depth}, Clock: w.Clock.Now, Log: slog.New(slog.DiscardHandler),
		Protocols: []pay.Protocol{x402.V2{Identifiers: true}, x402.V1{}, mpp.Charge{}, mpp.Plain{}, agentpay.Protocol{Default: w.Net.Client.Network()}, l402.Protocol{}},
		Upstream:  core.NewUpstream(private), Private: private,
		MasterKey: []byte(strings.Repeat("m", 32)), JWTSecret: []byte(strings.Repeat("j", 32)),
		PlatformKey: platform, RelayerKey: relayer, GasGrantWei: big.NewInt(30_000_000_000_000), MaxPayment: 1000 * money.One, Permit2Reserve: 100 * money.One,
		PasswordCost: &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}, // thousands of users sign up
	}
	w.Core, err = core.New(ctx, w.Deps)
	w.no(err)
	w.no(w.Core.Funding.ReadChain(ctx))
	return w
}

func (w *World) no(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// User registers a person and returns their principal and login.
func (w *World) User(email string) (core.Principal, *core.Login) {
	w.T.Helper()
	l, err := w.Core.Auth.Register(w.Ctx, core.PasswordInput{Email: email, Password: "correct horse"})
	w.no(err)
	p, _, err := w.Core.Auth.Authenticate(w.Ctx, core.Credentials{Bearer: l.Token})
	w.no(err)
	return p, l
}

// Agent creates an agent and funds its wallet on chain, and waits until the books show it.
func (w *World) Agent(p core.Principal, name string, funds money.USDC) *core.AgentView {
	w.T.Helper()
	a, err := w.Core.Agents.Create(w.Ctx, p, core.CreateAgentInput{Name: name})
	w.no(err)
	if funds > 0 {
		w.Net.Fund(common.HexToAddress(a.Address), funds)
		for a.Wallet.Posted != funds { // a receipt can be there a moment before the head that it is in
			w.Settle()
			a, err = w.Core.Agents.Get(w.Ctx, p, a.ID)
			w.no(err)
		}
	}
	return a
}

// Settle runs every job until nothing moves: operations are final and the chain is read to its head.
func (w *World) Settle() {
	w.T.Helper()
	w.Net.Node.Commit() // what was mined before is now below the head
	for range 3 {
		w.Mine(int(w.Deps.Chain.Network().Confirmations))
		w.no(w.Core.Operations.AdvanceDue(w.Ctx))
		w.no(w.Core.Funding.ReadChain(w.Ctx))
		w.no(w.Core.Sessions.ExpireDue(w.Ctx))
	}
}

// Jobs runs every job of the program once, in the order of its table.
func (w *World) Jobs() {
	w.T.Helper()
	for _, j := range jobs.Table(w.Core, time.Second) {
		if err := j.Run(w.Ctx); err != nil {
			w.T.Fatalf("%s: %v", j.Name, err)
		}
	}
}

// Head is the chain's newest block and its time. Each block takes a whole second of the chain's time, so a burst of
// them leaves the world's clock behind: it is moved up to the chain's.
func (w *World) Head() (uint64, time.Time) {
	w.T.Helper()
	b, err := w.Net.Head(w.Ctx)
	w.no(err)
	if late := b.Time.Sub(w.Clock.Now()); late > 0 {
		w.Clock.ahead.Add(int64(late))
	}
	return b.Number, b.Time
}

// Balanced fails the test unless the audit finds no difference.
func (w *World) Balanced() {
	w.T.Helper()
	w.no(w.Core.Funding.ReadChain(w.Ctx))
	a, err := w.Core.Books.Audit(w.Ctx)
	w.no(err)
	for _, d := range a.Differences {
		w.T.Errorf("audit: %s", d)
	}
}

// Serve runs a paid service for the test and returns its base URL.
func (w *World) Serve(h http.Handler) string {
	s := httptest.NewServer(h)
	w.T.Cleanup(s.Close)
	return s.URL
}
