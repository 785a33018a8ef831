package core_test

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/session"
	"bursar/jobs"
	"bursar/money"
	"bursar/pay/paytest"
)

// deed is something that a process may be asked to do.
type deed struct {
	name string
	do   func(ctx context.Context, c *core.Core) error
}

// operation draws one: something that happens in the world, or that one process does, or both at once. A process may
// meet a bad node or a bad wire on the way, or die.
func (m *modelRun) operation() {
	switch n := m.IntN(100); {
	case n < 8:
		a := m.agent()
		m.note("somebody funds %s", a.Name)
		f := funding{agent: a.ID, amount: money.USDC(1+m.IntN(2000)) * cent}
		f.hash = m.w.Net.Fund(common.HexToAddress(a.Address), f.amount)
		m.lastMint = &f
	case n < 14:
		m.late()
	case n < 15:
		m.audit()
	case n < 16:
		m.behindOurBack()
	case n < 17:
		m.allowance()
	case n < 21:
		d := time.Duration(1+m.IntN(40)) * time.Second
		if m.one(3) {
			d = time.Duration(1+m.IntN(12)) * time.Minute
		}
		if m.one(40) {
			d = 24 * time.Hour
		}
		m.note("%s pass", d)
		m.pass(d)
	case n < 22:
		m.outage()
	case n < 27:
		m.reorganise()
	case n < 38:
		both := [2]deed{m.deed(), m.deed()}
		m.note("at once: %s; %s", both[0].name, both[1].name)
		m.during(both[:], func() {
			var wg sync.WaitGroup
			for i, d := range both {
				wg.Go(func() { m.order(i, d, inHaste) })
			}
			wg.Wait()
		})
	default:
		i, d := m.IntN(2), m.deed()
		m.note("process %d: %s", i, d.name)
		m.trouble(i)
		switch {
		case d.mines():
			check := m.paidOnce(m.pages())
			m.alive(func() { m.order(i, d, withPatience) })
			check()
		case m.one(2):
			m.mining(func() { m.order(i, d, withPatience) })
		default:
			m.order(i, d, inHaste)
		}
		m.heal(i)
	}
}

// How long a caller waits: without a chain that moves, not for blocks that nobody seals.
const (
	inHaste      = 400 * time.Millisecond
	withPatience = 5 * time.Second
)

// order has a process do a deed, whatever comes of it.
func (m *modelRun) order(i int, d deed, patience time.Duration) {
	m.run(i, func(ctx context.Context, c *core.Core) {
		ctx, leave := context.WithTimeout(ctx, patience)
		defer leave()
		if err := d.do(ctx, c); err != nil {
			m.note("  process %d, %s: %v", i, d.name, err)
		}
	})
}

// trouble is what a process may meet on its next deed.
func (m *modelRun) trouble(i int) {
	p := m.processes[i]
	switch m.IntN(12) {
	case 0, 1:
		n := 1 + m.IntN(8)
		m.note("  at its step %d it will die", n)
		p.steps.Store(int64(n))
	case 2:
		m.note("  answers of the node are lost now and then")
		p.node.Set(chaintest.Sometimes(uint64(m.IntN(1<<30)), 2+m.IntN(4), chaintest.LoseAnswer()))
	case 3:
		m.note("  answers to sends are lost")
		p.node.Set(chaintest.On(chaintest.LoseAnswer(), "eth_sendRawTransaction"))
	case 4:
		m.note("  the node fails now and then")
		p.node.Set(chaintest.Sometimes(uint64(m.IntN(1<<30)), 2+m.IntN(4), chaintest.Status(500)))
	case 8:
		m.note("  sends never arrive")
		p.node.Set(chaintest.On(chaintest.LoseRequest(), "eth_sendRawTransaction"))
	case 5:
		m.note("  the node lies 5 blocks behind")
		p.node.Set(chaintest.Stale(5))
	case 6, 7:
		if p.wire != nil {
			plan := make([]coretest.Break, 1+m.IntN(3))
			for k := range plan {
				plan[k] = []coretest.Break{coretest.BeforeCommit, coretest.AfterCommit, coretest.AfterCommit, coretest.AtStatement}[m.IntN(4)]
			}
			m.note("  the wire to the database breaks: %v", plan)
			p.wire.Set(plan...)
		}
	}
}

func (m *modelRun) heal(i int) {
	m.processes[i].node.Set()
	if w := m.processes[i].wire; w != nil {
		w.Set()
	}
}

// late is a seller that uses an old proof.
func (m *modelRun) late() {
	m.mu.Lock()
	n := len(m.later)
	if n == 0 {
		m.mu.Unlock()
		return
	}
	k := m.IntN(n)
	use := m.later[k]
	m.later = append(m.later[:k:k], m.later[k+1:]...)
	m.mu.Unlock()
	m.note("a seller uses an old proof")
	use()
}

// reorganise takes the newest blocks back. What was in them is mined again, or not.
func (m *modelRun) reorganise() {
	room := m.w.Height() - m.base
	if room == 0 {
		return
	}
	n := int(min(room, uint64(1+m.IntN(int(m.depth)+5))))
	switch {
	case !m.one(5):
		m.note("%d blocks are taken back", n)
		m.w.Reorg(n)
	case m.one(3):
		m.note("%d blocks are taken back, and the relayer's transactions never come again", n)
		m.w.Replace(m.w.Height()-uint64(n), m.w.Deps.RelayerKey)
		if m.one(2) {
			m.pass(11 * time.Minute)
		}
	default:
		m.note("%d blocks are taken back, and what sellers and owners sent never comes again", n)
		gone := []*ecdsa.PrivateKey{m.carrier}
		for _, s := range m.permit2 {
			gone = append(gone, s.Key)
		}
		m.w.Replace(m.w.Height()-uint64(n), gone...)
	}
}

// outage is a time in which nothing that the program sends arrives, until authorizations are dead.
func (m *modelRun) outage() {
	m.note("sends never arrive for 11 minutes")
	deaf := func() {
		for _, p := range m.processes {
			p.node.Set(chaintest.On(chaintest.LoseRequest(), "eth_sendRawTransaction"))
		}
	}
	for range 3 {
		deaf()
		i, d := m.IntN(2), m.deed()
		m.note("  process %d: %s", i, d.name)
		m.order(i, d, inHaste)
	}
	deaf()
	m.pass(11 * time.Minute)
	m.order(m.IntN(2), deed{"all jobs", func(ctx context.Context, c *core.Core) error {
		m.jobs(ctx, c)
		return nil
	}}, withPatience)
	m.heal(0)
	m.heal(1)
}

// agent draws one that is active.
func (m *modelRun) agent() *ent.Agent {
	all := read(m, func(ctx context.Context, c *ent.Client) ([]*ent.Agent, error) {
		return c.Agent.Query().Where(agent.Active(true), agent.IsDefault(false)).Order(byID).All(ctx)
	})
	return all[m.IntN(len(all))]
}

// session draws one, mostly an open one, or none.
func (m *modelRun) session() *ent.Session {
	all := read(m, func(ctx context.Context, c *ent.Client) ([]*ent.Session, error) {
		return c.Session.Query().Order(byID).All(ctx)
	})
	open := slices.DeleteFunc(slices.Clone(all), func(s *ent.Session) bool { return s.Status != session.StatusOpen })
	if len(open) > 0 && !m.one(10) {
		all = open
	}
	if len(all) == 0 {
		return nil
	}
	return all[m.IntN(len(all))]
}

// deed draws what a process is asked.
func (m *modelRun) deed() deed {
	a, s := m.agent(), m.session()
	switch n := m.IntN(100); {
	case n < 20:
		return m.fetch(a.ID, "")
	case n < 48 && s != nil:
		return m.fetch(s.AgentID, s.ID.String())
	case n < 56:
		in := core.OpenSessionInput{AgentID: a.ID, Deposit: money.USDC(1+m.IntN(300)) * cent, Duration: time.Duration(10+m.IntN(800)) * time.Second}
		return deed{fmt.Sprintf("open %s for %s", in.Deposit, in.Duration), func(ctx context.Context, c *core.Core) error {
			v, err := c.Sessions.Open(ctx, m.p, in)
			if err == nil {
				m.note("  session %s is %s", v.ID, v.Status)
			}
			return err
		}}
	case n < 60 && s != nil:
		return deed{"close " + s.ID.String(), func(ctx context.Context, c *core.Core) error {
			_, err := c.Sessions.Close(ctx, m.p, s.ID, nil)
			return err
		}}
	case n < 61:
		return m.replaceAgent(a)
	case n < 62 && m.lastMint != nil:
		f := *m.lastMint
		return deed{"announce a funding", func(ctx context.Context, c *core.Core) error {
			_, err := c.Funding.Fund(ctx, m.p, f.agent, f.hash.Hex(), f.amount, nil)
			return err
		}}
	case n < 63:
		return deed{"drain " + a.Name, func(ctx context.Context, c *core.Core) error {
			_, err := c.Funding.Drain(ctx, m.p, a.ID, "", nil)
			return err
		}}
	case n < 67:
		return m.policy(a)
	case n < 70:
		return m.topUp(a)
	}
	table := jobs.Table(m.processes[0].core, time.Second)
	k := m.IntN(len(table) + 10)
	if k >= len(table) {
		return deed{"all jobs", func(ctx context.Context, c *core.Core) error {
			m.jobs(ctx, c)
			return nil
		}}
	}
	return deed{"job " + table[k].Name, func(ctx context.Context, c *core.Core) error { return jobs.Table(c, time.Second)[k].Run(ctx) }}
}

// replaceAgent deactivates an agent once there is another in its place.
func (m *modelRun) replaceAgent(a *ent.Agent) deed {
	name := fmt.Sprintf("agent %d", m.step)
	return deed{"deactivate " + a.Name, func(ctx context.Context, c *core.Core) error {
		v, err := c.Agents.Create(ctx, m.p, core.CreateAgentInput{Name: name})
		if err != nil {
			return err
		}
		if err := m.names(ctx, c, v.ID); err != nil {
			return err
		}
		_, err = c.Agents.Deactivate(ctx, m.p, a.ID, nil)
		return err
	}}
}

// jobs runs every job once. Any may fail: the next run does its work.
func (m *modelRun) jobs(ctx context.Context, c *core.Core) {
	for _, j := range jobs.Table(c, time.Second) {
		if j.Name == "audit" {
			continue
		}
		if err := j.Run(ctx); err != nil {
			m.note("  %s: %v", j.Name, err)
		}
	}
}

// fetch calls a seller that does anything, or a service of the catalogue. The prices tell payments apart.
func (m *modelRun) fetch(payer uuid.UUID, from string) deed {
	if m.one(4) {
		return m.meter(payer, from)
	}
	if m.one(5) {
		return m.sendAhead(payer, from)
	}
	if m.one(5) {
		return m.payByPermit2(payer, from)
	}
	s := m.sellers[m.IntN(len(m.sellers))]
	n := m.IntN(len(modelAnswers))
	if n == len(modelAnswers)-1 && !m.one(4) { // hangs
		n = 0
	}
	settles := []string{"now", "now", "now", "later", "never"}[m.IntN(5)]
	price := money.USDC(1+m.IntN(20)) * cent / 10
	url := fmt.Sprintf("%s&settles=%s&answer=%d", s.Link(1+m.IntN(2), paytest.Serve, price), settles, n)
	name := fmt.Sprintf("fetch at %s from %q, the seller settles %s and answers %d", price, from, settles, n)
	return deed{name, func(ctx context.Context, c *core.Core) error {
		r, err := c.Payments.Fetch(ctx, m.p, core.FetchInput{Agent: payer.String(), SessionID: from, URL: url, Timeout: time.Second})
		if err == nil && r.Payment != nil {
			m.note("  payment %s is %s", r.Payment.ID, r.Payment.Status)
		}
		return err
	}}
}
