package policy

import (
	"time"

	"bursar/money"
)

// Past is a call of the past, as far as a policy judges it.
type Past struct {
	At            time.Time
	Host, Service string
	InSession     bool
	Price         money.USDC // what was asked
	Charged       money.USDC // what counts for the limits, if the call is let pass
}

// Before is what an agent had spent when a replay begins, which is at the start of a UTC day.
type Before struct{ Month, Total money.USDC }

// Replay judges calls of the past, oldest first, as if p had been in force: what it refuses is not spent. It returns one
// verdict a call, nil for yes, else a *Denial. Limits of the department, the organisation and the token are left out,
// since a draft does not change them.
func Replay(p Policy, before Before, calls []Past) []error {
	b := Budget{AgentID: "past", Agent: p}
	spent := map[string]money.USDC{}
	if len(calls) > 0 {
		spent[month("agent", b.AgentID, calls[0].At)] = before.Month
		spent[total("agent", b.AgentID)] = before.Total
	}
	out := make([]error, len(calls))
	for i, c := range calls {
		if out[i] = p.checkPast(c); out[i] != nil {
			continue
		}
		if out[i] = b.CheckAmount(c.At, c.Price, spent); out[i] != nil {
			continue
		}
		for _, id := range []string{day("agent", b.AgentID, c.At), month("agent", b.AgentID, c.At), total("agent", b.AgentID)} {
			spent[id] = spent[id].Add(c.Charged)
		}
	}
	return out
}
