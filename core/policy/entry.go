package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Entry is a service of the catalogue as rules may name it.
type Entry struct {
	Name         string // its own, as history has it
	Host, Domain string // where it is, as CheckService takes them
	// Stranger says that an organisation sells it: leave to pay a host is no leave to pay whoever says that it sells it.
	Stranger bool
}

// strangers is what the names of the services that organisations sell begin with. No host has a slash.
const strangers = "gateway/"

// StrangerName is the name of a service that an organisation sells under a slug.
func StrangerName(slug string) string { return strangers + slug }

// Strange reports whether history's name of a service is that of an organisation's.
func Strange(service string) bool { return strings.HasPrefix(service, strangers) }

// CheckEntry is CheckService for a service of the catalogue. Rules name it by its own name, and the operator's own by its
// host as well; one that blocks names it by anything.
func (p Policy) CheckEntry(e Entry, inSession bool) error {
	named := func(rule string) bool { return strings.EqualFold(strings.TrimSpace(rule), e.Name) }
	there := func(rule string) bool { return Matches(rule, e.Host, e.Domain) }
	bare := func(rule string) bool { return strings.EqualFold(strangers+strings.TrimSpace(rule), e.Name) }
	switch {
	case slices.ContainsFunc(p.Blocked, func(r string) bool { return named(r) || there(r) || bare(r) }):
		return &Denial{Rule: RuleBlocked, Message: fmt.Sprintf("Service %s is blocked by the agent's policy", e.Name)}
	case len(p.Allowed) > 0 && !slices.ContainsFunc(p.Allowed, func(r string) bool { return named(r) || (!e.Stranger && there(r)) }):
		return &Denial{Rule: RuleAllowed, Message: fmt.Sprintf("Service %s is not in the agent's allowed services", e.Name)}
	}
	return p.sessionRule(inSession)
}

func (p Policy) sessionRule(inSession bool) error {
	if p.RequireSession && !inSession {
		return &Denial{Rule: RuleRequireSession, Message: "The agent's policy requires a session"}
	}
	return nil
}

// checkPast judges a service by what history knows of it.
func (p Policy) checkPast(c Past) error {
	if Strange(c.Service) {
		return p.CheckEntry(Entry{Name: c.Service, Host: c.Host, Domain: c.Domain, Stranger: true}, c.InSession)
	}
	if !strings.Contains(c.Service, ".") && c.Service != c.Host { // an entry's own name
		return p.CheckEntry(Entry{Name: c.Service, Host: c.Host, Domain: c.Domain}, c.InSession)
	}
	return p.CheckService(c.Host, c.Service, c.InSession)
}
