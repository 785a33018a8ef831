package policy

import (
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

// Before is what an agent had spent when a replay begins, which is at the start of a UTC day.
type Before struct {
	Month, Total money.USDC
	Payees       map[HostPayee]time.Time // whom hosts have been paid to besides, and since when
}

// HostPayee is somebody to whom a host is paid.
type HostPayee struct{ Host, Payee string }

// Unanswered is the verdict "a person must say yes".
type Unanswered struct{ Found []Finding }

func (u *Unanswered) Error() string { return Texts(u.Found) }

// pastMemory is what had been paid before a call.
type pastMemory struct {
	payees map[HostPayee]time.Time
	hosts  map[string]time.Time  // the same of anybody
	prices map[string]money.USDC // the usual one of a route
}

func newPastMemory(b Before) *pastMemory {
	m := &pastMemory{payees: map[HostPayee]time.Time{}, hosts: map[string]time.Time{}, prices: map[string]money.USDC{}}
	for p, at := range b.Payees {
		m.meets(p, at)
	}
	return m
}

func (m *pastMemory) meets(p HostPayee, at time.Time) {
	if since, known := m.payees[p]; !known || at.Before(since) {
		m.payees[p] = at
	}
	if since, known := m.hosts[p.Host]; !known || at.Before(since) {
		m.hosts[p.Host] = at
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
	if price, known := m.prices[c.Place+" "+c.Route]; known {
		k.Price = &price
	}
	return k
}

// paid remembers a call as the memory of the present does, but for the time between a payment and its charge: what was charged
// at all counts at once. A person's yes to a price makes it the usual one.
func (m *pastMemory) paid(c Past, approved bool) {
	m.meets(HostPayee{c.Place, c.Payee}, c.At)
	route := c.Place + " " + c.Route
	usual, known := m.prices[route]
	switch {
	case !known || approved:
		m.prices[route] = c.Price
	case c.Settled > 0:
		m.prices[route] = min(c.Price, max(usual, c.Settled))
	}
}

// Replay judges calls of the past, oldest first, as if p had been in force: what it refuses is not spent, and what it holds
// for a person's yes is. It returns one verdict a call, nil for yes, else a *Denial or an *Unanswered. Limits of the
// department, the organisation and the token are left out, since a draft does not change them. The first price of a route
// is compared with none.
func Replay(p Policy, before Before, calls []Past) []error {
	b := Budget{AgentID: "past", Agent: p}
	spent, memory := map[string]money.USDC{}, newPastMemory(before)
	if len(calls) > 0 {
		spent[month("agent", b.AgentID, calls[0].At)] = before.Month
		spent[total("agent", b.AgentID)] = before.Total
	}
	out := make([]error, len(calls))
	for i, c := range calls {
		if out[i] = p.checkPast(c); out[i] != nil {
			continue
		}
		does, by := Strongest(p.Judge(c.Host, c.Payee, c.Price, memory.before(c)))
		if does == Refuse {
			out[i] = by[0].Denial()
			continue
		}
		if out[i] = b.CheckAmount(c.At, c.Price, spent); out[i] != nil {
			continue
		}
		if does == Approve {
			out[i] = &Unanswered{by}
		}
		memory.paid(c, does == Approve)
		for _, id := range []string{day("agent", b.AgentID, c.At), month("agent", b.AgentID, c.At), total("agent", b.AgentID)} {
			spent[id] = spent[id].Add(c.Charged)
		}
	}
	return out
}
