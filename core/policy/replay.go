package policy

import (
	"crypto/sha256"
	"time"

	"bursar/money"
)

// Past is a call of the past, as far as a policy judges it.
type Past struct {
	At            time.Time
	Host, Service string
	Domain        string // the registrable one of the host
	InSession     bool
	Place         string     // the host as the memory names it
	Payee, Route  string     // who asked, and for which method and path
	Price         money.USDC // what was asked
	Charged       money.USDC // what counts for the limits, if the call is let pass
	Settled       money.USDC // what of it was taken; zero: nothing yet
}

// Before is what an agent had spent when a replay begins: in the month of that, and ever.
type Before struct{ Month, Total money.USDC }

// HostPayee is somebody to whom a host is paid.
type HostPayee struct{ Host, Payee string }

// Unanswered is the verdict "a person must say yes".
type Unanswered struct{ Found []Finding }

func (u *Unanswered) Error() string { return Texts(u.Found) }

// pastMemory is what had been paid before a call.
type pastMemory struct {
	payees map[HostPayee]time.Time
	hosts  map[string]time.Time             // the same of anybody
	prices map[[sha256.Size]byte]money.USDC // the usual one of a route, by place and route: there may be as many as calls
}

func routeOf(c Past) [sha256.Size]byte { return sha256.Sum256([]byte(c.Place + " " + c.Route)) }

func (m *pastMemory) meets(p HostPayee, at time.Time) {
	if since, known := m.payees[p]; !known || at.Before(since) {
		m.payees[p] = at
	}
	m.meetsHost(p.Host, at)
}

func (m *pastMemory) meetsHost(host string, at time.Time) {
	if since, known := m.hosts[host]; !known || at.Before(since) {
		m.hosts[host] = at
	}
}

func (m *pastMemory) before(c Past) Known {
	var k Known
	if since, known := m.payees[HostPayee{c.Place, c.Payee}]; known {
		k.Payee = since.Before(c.At)
	}
	if since, known := m.hosts[c.Place]; known {
		k.Host = since.Before(c.At)
	}
	if price, known := m.prices[routeOf(c)]; known {
		k.Price = &price
	}
	return k
}

// paid remembers a call as the memory of the present does, but for the time between a payment and its charge: what was charged
// at all counts at once. A person's yes to a price makes it the usual one.
func (m *pastMemory) paid(c Past, approved bool) {
	m.meets(HostPayee{c.Place, c.Payee}, c.At)
	route := routeOf(c)
	usual, known := m.prices[route]
	switch {
	case !known || approved:
		m.prices[route] = c.Price
	case c.Settled > 0:
		m.prices[route] = min(c.Price, max(usual, c.Settled))
	}
}

// Replay judges calls of the past, oldest first, as if a policy had been in force: what that refuses is not spent, and what it
// holds for a person's yes is. Limits of the department, the organisation and the token are left out, since a draft does not
// change them. The first price of a route is compared with none.
type Replay struct {
	budget Budget
	spent  map[string]money.USDC
	memory pastMemory
}

// NewReplay begins a replay at a moment.
func NewReplay(p Policy, at time.Time, before Before) *Replay {
	r := &Replay{
		budget: Budget{AgentID: "past", Agent: p},
		memory: pastMemory{payees: map[HostPayee]time.Time{}, hosts: map[string]time.Time{}, prices: map[[sha256.Size]byte]money.USDC{}},
	}
	r.spent = map[string]money.USDC{month("agent", r.budget.AgentID, at): before.Month, total("agent", r.budget.AgentID): before.Total}
	return r
}

// Paid tells of somebody to whom a host has been paid besides, and since when; PaidSomebody, that there is one. A call must
// be judged after all that is older has been told.
func (r *Replay) Paid(who HostPayee, since time.Time) { r.memory.meets(who, since) }

// PaidSomebody is told in the place of Paid for those whom no call to be judged names.
func (r *Replay) PaidSomebody(host string, since time.Time) { r.memory.meetsHost(host, since) }

// Judge returns the verdict on the next call: nil for yes, else a *Denial or an *Unanswered.
func (r *Replay) Judge(c Past) error {
	b := r.budget
	if err := b.Agent.checkPast(c); err != nil {
		return err
	}
	does, by := Strongest(b.Agent.Judge(c.Host, c.Payee, c.Price, r.memory.before(c)))
	if does == Refuse {
		return by[0].Denial()
	}
	if err := b.CheckAmount(c.At, c.Price, r.spent); err != nil {
		return err
	}
	r.memory.paid(c, does == Approve)
	for _, id := range []string{day("agent", b.AgentID, c.At), month("agent", b.AgentID, c.At), total("agent", b.AgentID)} {
		r.spent[id] = r.spent[id].Add(c.Charged)
	}
	if does == Approve {
		return &Unanswered{by}
	}
	return nil
}
