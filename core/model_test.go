package core_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
)

// Random histories of two processes of the program, sellers, owners and a chain, any of which may do anything at any
// time. BURSAR_MODEL_SEED repeats the operations of a seed; what runs at once may still fall in another order.
// BURSAR_MODEL_SECONDS is for how long new histories are begun, on each database.
const (
	modelSeedVariable    = "BURSAR_MODEL_SEED"
	modelSecondsVariable = "BURSAR_MODEL_SECONDS"
	modelOperations      = 200
	modelSeconds         = 10 // of histories in a run of all tests
)

// modelRegressions are seeds that have failed once.
var modelRegressions = []uint64{}

func TestModel(t *testing.T) {
	// A run of all tests has the same seeds each time; a run on request has new ones.
	seconds, seeds, first := modelSeconds, modelRegressions, uint64(1)
	if n, err := strconv.Atoi(os.Getenv(modelSecondsVariable)); err == nil {
		seconds, first = n, uint64(time.Now().UnixNano())
	}
	if n, err := strconv.ParseUint(os.Getenv(modelSeedVariable), 10, 64); err == nil {
		seeds, first, seconds = []uint64{n}, n, 0
	}
	run := func(t *testing.T, options func(t *testing.T) []coretest.Option) {
		history := func(seed uint64) {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { newModelRun(t, seed, options(t)...).history() })
		}
		for _, seed := range seeds {
			history(seed)
		}
		seed := first
		for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end) && !t.Failed(); seed++ {
			history(seed)
		}
		t.Logf("%d histories of %d operations, from seed %d on", int(seed-first)+len(seeds), modelOperations, first)
	}
	t.Run("sqlite", func(t *testing.T) { run(t, func(*testing.T) []coretest.Option { return nil }) })
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		run(t, func(t *testing.T) []coretest.Option {
			return []coretest.Option{coretest.OnPostgres(coretest.Postgres(t))}
		})
	})
}

func newModelRun(t *testing.T, seed uint64, options ...coretest.Option) *modelRun {
	m := &modelRun{
		Rand: rand.New(rand.NewPCG(seedOf(seed, 0))), t: t, seed: seed, limits: map[string]*money.USDC{}, seen: map[string]bool{}, proofs: map[common.Hash]int{},
		home: address("0x00000000000000000000000000000000000b0b01"),
	}
	m.depth = uint64(m.IntN(4))
	m.w = coretest.New(t, append(options, coretest.Confirmations(m.depth))...)
	m.p, _ = m.w.User("dev@example.com")
	_, err := m.w.Core.Auth.SetWallet(m.w.Ctx, m.p, m.home.Hex())
	must(m.w, err)
	m.carrier, m.settle = m.w.Facilitator()
	m.seller(address("0x00000000000000000000000000000000005e1101"))
	m.seller(address("0x00000000000000000000000000000000005e1102"))
	for _, name := range []string{"one", "two"} {
		a, err := m.w.Core.Agents.Create(m.w.Ctx, m.p, core.CreateAgentInput{Name: name})
		must(m.w, err)
		m.w.Net.Fund(common.HexToAddress(a.Address), 20*money.One)
		m.seller(common.HexToAddress(a.Address)) // an agent may sell to another
		must(m.w, m.names(m.w.Ctx, m.w.Core, a.ID))
	}
	m.meters()
	m.opensTill()
	m.opensPermit2()
	m.purse = newPurse(m.w, 1000*money.One)
	m.purse.approve(m.w.Relayer, 500*money.One)
	m.w.Settle()
	m.base = m.w.Height()
	for i := range m.processes {
		m.processes[i] = m.process()
	}
	m.note("confirmations %d", m.depth)
	return m
}

// history runs the operations, looks at the books after each, and then lets everything come to its end.
func (m *modelRun) history() {
	for m.step = 1; m.step <= modelOperations; m.step++ {
		m.Rand = rand.New(rand.NewPCG(seedOf(m.seed, m.step))) // so that a step draws the same however the last one fell out
		m.w.Head()
		m.operation()
		m.look()
	}
	m.quiet()
	m.conclude()
	if os.Getenv("BURSAR_MODEL_TRACE") != "" {
		for _, line := range m.trace {
			m.t.Log(line)
		}
	}
}

// quiet lets time pass and the jobs run until nothing is under way. Every proof, authorization and session ends within
// a quarter of an hour; the audit gives a hold five minutes more.
func (m *modelRun) quiet() {
	const rounds, twice = 30, 80
	m.w.Mine(twice) // so that the second pass comes to all that was
	for n := range rounds {
		m.pass(4 * time.Minute)
		for i := range m.processes {
			m.note("all jobs of process %d", i)
			m.mining(func() { m.run(i, func(ctx context.Context, c *core.Core) { m.jobs(ctx, c) }) })
			m.look()
		}
		if n > 4 && m.underWay() == "" {
			return
		}
	}
	m.fail("it never ends: %s", m.underWay())
}

func seedOf(seed uint64, step int) (uint64, uint64) { return seed, uint64(step) }
