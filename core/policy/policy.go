// Package policy decides whether a charge is allowed. It is pure: limits, usage and a charge go in, a verdict
// comes out. The caller asks it inside the transaction that makes the hold, so that no two calls can both
// pass under one limit.
package policy

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"bursar/money"
)

// Policy is what one agent may spend. A nil limit means none; amounts are atomic units.
type Policy struct {
	SpendingCap    *money.USDC // lifetime
	DailyLimit     *money.USDC // UTC calendar day
	MonthlyLimit   *money.USDC // UTC calendar month
	PerCallMax     *money.USDC
	Allowed        []string // empty: every service
	Blocked        []string // wins over Allowed
	RequireSession bool

	Caution
}

// Rule names what a denial came from; the names are part of the API.
type Rule string

// The rules, in the order in which they are asked; those of payee.go come before the limits.
const (
	RuleBlocked        Rule = "blocked_services"
	RuleAllowed        Rule = "allowed_services"
	RuleRequireSession Rule = "require_session"
	RulePerCall        Rule = "per_call_max"
	RuleTokenPerCall   Rule = "max_per_transaction"
	RuleDaily          Rule = "daily"
	RuleMonthly        Rule = "monthly"
	RuleCap            Rule = "spending_cap"
	RuleDepartment     Rule = "department_budget"
	RuleOrgDaily       Rule = "org_daily"
	RuleOrgMonthly     Rule = "org_monthly"
	RuleOrgCap         Rule = "org_cap"
	RuleTokenDaily     Rule = "token_daily"
	RuleTokenMonthly   Rule = "token_monthly"
)

// Denial is the verdict "no". Current, Requested and Max are set for limits.
type Denial struct {
	Rule                    Rule
	Message                 string
	Current, Requested, Max money.USDC
}

func (d *Denial) Error() string { return d.Message }

// Forbidden reports whether the denial is about where or how the agent may spend, not about how much.
func (d *Denial) Forbidden() bool {
	return slices.Contains([]Rule{RuleBlocked, RuleAllowed, RuleRequireSession, RuleNewPayee, RuleChangedPayee}, d.Rule)
}

// CheckService asks the rules that need no price, before the network is touched. It returns nil or a *Denial.
// host may carry a port; domain is its registrable domain, or empty.
func (p Policy) CheckService(host, domain string, inSession bool) error {
	service := host
	matches := func(rule string) bool { return Matches(rule, host, domain) }
	switch {
	case slices.ContainsFunc(p.Blocked, matches):
		return &Denial{Rule: RuleBlocked, Message: fmt.Sprintf("Service %s is blocked by the agent's policy", service)}
	case len(p.Allowed) > 0 && !slices.ContainsFunc(p.Allowed, matches):
		return &Denial{Rule: RuleAllowed, Message: fmt.Sprintf("Service %s is not in the agent's allowed services", service)}
	}
	return p.sessionRule(inSession)
}

// Matches reports whether a rule of a policy names a service: by the full host (with or without its port), by a
// parent domain of it, or by the first label of its registrable domain ("exa" for api.exa.ai). A host without a port is at its
// scheme's own, whichever that is: a rule with 80 or 443 names it as well. Rules and hosts come in one spelling.
func Matches(rule, host, domain string) bool {
	rule, host, domain = strings.ToLower(strings.TrimSpace(rule)), strings.ToLower(host), strings.ToLower(domain)
	if rule == "" {
		return false
	}
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	} else if rule == host+":443" || rule == host+":80" {
		return true
	}
	name = strings.Trim(name, "[]")
	if rule == host || rule == name || strings.HasSuffix(name, "."+rule) {
		return true
	}
	label, _, found := strings.Cut(domain, ".")
	return found && label == rule
}
