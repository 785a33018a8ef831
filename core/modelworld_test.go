package core_test

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

// modelProcess is one process of the program over the world's database. It can be killed at any step: whatever it did
// then never goes on, and nothing that it would have tidied up is tidied up.
type modelProcess struct {
	core  *core.Core
	node  *chaintest.Proxy
	wire  *coretest.Wire // nil on SQLite
	stop  context.CancelFunc
	dead  chan struct{} // closed when it dies
	steps atomic.Int64  // until it dies; zero: it lives on
}

// process starts one. What blocks in a dead one is let go when the test ends.
func (m *modelRun) process() *modelProcess {
	m.t.Helper()
	ctx, stop := context.WithCancel(m.w.Ctx)
	p := &modelProcess{node: m.w.Net.Proxy(), stop: stop, dead: make(chan struct{})}
	client, err := chain.Open(ctx, chain.Config{URLs: []string{p.node.URL()}, Network: m.w.Deps.Chain.Network(), Clock: m.w.Clock.Now})
	must(m.w, err)
	m.t.Cleanup(client.Close)
	deps := m.w.Deps
	deps.Chain = client
	if m.w.DB.Dialect == "postgres" {
		p.wire = coretest.NewWire(m.t, m.w.DB.URL)
		deps.DB, err = core.OpenDB(ctx, p.wire.URL())
		must(m.w, err)
		m.t.Cleanup(func() { _ = deps.DB.Close() })
	}
	deps.Step = func(name string) {
		if p.steps.Load() > 0 && p.steps.Add(-1) == 0 {
			m.note("  it dies at %s", name)
			close(p.dead)
			<-m.w.Ctx.Done()
		}
	}
	p.core, err = core.New(ctx, deps)
	must(m.w, err)
	return p
}

// run lets a process do something, until that is done or the process is dead. Another is then in its place.
func (m *modelRun) run(i int, f func(ctx context.Context, c *core.Core)) {
	p, done := m.processes[i], make(chan struct{})
	ctx, cancel := context.WithTimeout(m.w.Ctx, time.Minute)
	go func() {
		defer close(done)
		f(ctx, p.core)
	}()
	select {
	case <-done:
		cancel()
		p.steps.Store(0)
	case <-p.dead: // its context goes on: a dead process gives nothing up
		if p.wire != nil {
			p.wire.Close()
		}
		m.t.Cleanup(cancel)
		m.t.Cleanup(p.stop)
		m.processes[i] = m.process()
	}
}

// modelRun is one history in a world of its own.
type modelRun struct {
	*rand.Rand
	t         *testing.T
	w         *coretest.World
	p         core.Principal
	seed      uint64
	step      int
	base      uint64 // the block below which no reorganisation goes
	depth     uint64
	processes [2]*modelProcess
	purse     *purse
	home      common.Address
	sellers   []*modelSeller
	till      *modelTill
	permit2   []*coretest.Permit2Seller
	lastMint  *funding
	carrier   *ecdsa.PrivateKey      // what sellers and owners send with
	limits    map[string]*money.USDC // by agent, and by organisation: the daily ones
	seen      map[string]bool        // payments

	mu     sync.Mutex
	trace  []string
	proofs map[common.Hash]int // by nonce: how often a seller was given it
	later  []func()            // that use proofs which sellers have
	settle func(context.Context, pay.Proof) (common.Hash, error)
}

type funding struct {
	agent  uuid.UUID
	hash   common.Hash
	amount money.USDC
}

// modelSeller is a paid service that does with a proof what the URL of the call says, and so what the history has drawn.
type modelSeller struct {
	*paytest.Service
	payTo common.Address
}

func (m *modelRun) seller(payTo common.Address) {
	s := paytest.New(m.t, paytest.Options{
		Network: m.w.Net.Network(), PayTo: payTo, Clock: m.w.Clock.Now, Price: cent,
		Answer: func(rw http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
			m.mu.Lock()
			m.proofs[p.Authorization.Nonce]++
			m.mu.Unlock()
			q := r.URL.Query()
			switch q.Get("settles") {
			case "now":
				m.carry(p)
			case "later":
				m.mu.Lock()
				m.later = append(m.later, func() { m.carry(p) })
				m.mu.Unlock()
			}
			n, _ := strconv.Atoi(q.Get("answer")) // of our own making
			modelAnswers[n](rw, r, a, p)
		},
	})
	m.sellers = append(m.sellers, &modelSeller{s, payTo})
}

// carry takes a proof to the chain; the token may refuse it.
func (m *modelRun) carry(p pay.Proof) {
	ctx, cancel := context.WithTimeout(m.w.Ctx, 5*time.Second)
	defer cancel()
	if _, err := m.settle(ctx, p); err != nil {
		m.note("  a seller's settlement: %v", err)
	}
}

// The answers to a paid request. Those that make the caller wait come last, and seldom.
var modelAnswers = []answer{serve(""), serve(""), serve(""), serve(""), serve("no_money"), receipted(404), status(404), status(500), receipted(500), again(1), again(2), redirect, reset, cut, hang}

func (m *modelRun) one(in int) bool { return m.IntN(in) == 0 }

func (m *modelRun) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trace = append(m.trace, fmt.Sprintf("%3d  ", m.step)+fmt.Sprintf(format, args...))
}

func (m *modelRun) fail(format string, args ...any) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	shown := m.trace
	if last := 80; os.Getenv("BURSAR_MODEL_TRACE") == "" {
		shown = shown[max(0, len(shown)-last):]
	}
	for _, line := range shown {
		m.t.Log(line)
	}
	m.t.Fatalf("BURSAR_MODEL_SEED=%d, operation %d: %s", m.seed, m.step, fmt.Sprintf(format, args...))
}

// mining seals blocks while f runs, as a chain does.
func (m *modelRun) mining(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			m.w.Mine(1)
		}
	}
}

// pass lets time go by. A long time is one block's: the chain would be hours at work otherwise.
func (m *modelRun) pass(d time.Duration) {
	if d > time.Minute {
		for give := time.Now().Add(10 * time.Second); ; m.w.Mine(1) { // it takes no jump with transactions in the pool
			err := m.w.Net.Node.Advance(d)
			if err == nil {
				break
			}
			if time.Now().After(give) {
				m.fail("%v", err)
			}
		}
		m.w.Clock.Ahead(d)
		d = time.Duration(m.depth+1) * time.Second
	}
	m.w.Mine(int(d / time.Second))
	m.w.Head()
}
