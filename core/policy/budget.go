package policy

import (
	"fmt"
	"strconv"
	"time"

	"bursar/money"
)

// TokenLimits bound what one credential may spend. Windows are rolling, as AgnicPay documents them.
type TokenLimits struct {
	PerCallMax, Rolling24h, Rolling30d *money.USDC
}

// OrgLimits bound what all agents of an organisation may spend together. A nil limit means none.
type OrgLimits struct {
	DailyLimit   *money.USDC // UTC calendar day
	MonthlyLimit *money.USDC // UTC calendar month
	SpendingCap  *money.USDC // lifetime
}

// Budget is every limit that applies to one call, with the ids of the scopes it counts in. Empty ids are left out.
type Budget struct {
	OrgID, DepartmentID, AgentID, TokenID string

	Agent      Policy
	Department *money.USDC // calendar month, over all its agents
	Org        OrgLimits
	Token      TokenLimits
}

// Counters names the usage rows that a hold touches.
type Counters struct {
	Raise []string // raised with the hold
	Read  []string // read besides, for rolling windows
}

const (
	hoursOfDay  = 24
	daysOfMonth = 30
)

func day(scope, id string, t time.Time) string {
	return scope + ":" + id + ":day:" + t.UTC().Format("2006-01-02")
}

func month(scope, id string, t time.Time) string {
	return scope + ":" + id + ":month:" + t.UTC().Format("2006-01")
}

// DepartmentMonth is the counter of a department's spend in the calendar month of t.
func DepartmentMonth(id string, t time.Time) string { return month("department", id, t) }

// OrgCounters are the counters of an organisation's spend on the UTC day of t, in its calendar month, and for ever.
func OrgCounters(id string, t time.Time) (today, thisMonth, ever string) {
	return day("org", id, t), month("org", id, t), total("org", id)
}

// AgentCounters are the counters of an agent's spend in the calendar month of t, and for ever.
func AgentCounters(id string, t time.Time) (thisMonth, ever string) {
	return month("agent", id, t), total("agent", id)
}

func hour(scope, id string, n int64) string {
	return scope + ":" + id + ":hour:" + strconv.FormatInt(n, 10)
}

func total(scope, id string) string { return scope + ":" + id + ":total" }

// Counters lists the usage rows of a call made at now. Each scope's "total" row is always among them: every
// hold of the scope locks it, so that two calls on either side of a window's edge are judged one after the
// other as well.
func (b Budget) Counters(now time.Time) Counters {
	c := Counters{Raise: []string{day("org", b.OrgID, now), month("org", b.OrgID, now), total("org", b.OrgID)}}
	if b.DepartmentID != "" {
		c.Raise = append(c.Raise, month("department", b.DepartmentID, now))
	}
	c.Raise = append(c.Raise, day("agent", b.AgentID, now), month("agent", b.AgentID, now), total("agent", b.AgentID))
	if b.TokenID == "" {
		return c
	}
	c.Raise = append(c.Raise, total("token", b.TokenID), hour("token", b.TokenID, hourOf(now)), day("token", b.TokenID, now))
	if b.Token.Rolling24h != nil {
		c.Read = append(c.Read, b.lastDay(now)...)
	}
	if b.Token.Rolling30d != nil {
		c.Read = append(c.Read, b.lastMonth(now)...)
	}
	return c
}

func hourOf(t time.Time) int64 { return t.Unix() / int64(time.Hour/time.Second) }

// lastDay lists the hour buckets that may hold a second of the last 24 hours: one more than 24, since a bucket
// counts until its last second has left the window. A limit may so refuse a little early, never late.
func (b Budget) lastDay(now time.Time) []string {
	ids := make([]string, 0, hoursOfDay+1)
	for h := hourOf(now) - hoursOfDay; h <= hourOf(now); h++ {
		ids = append(ids, hour("token", b.TokenID, h))
	}
	return ids
}

func (b Budget) lastMonth(now time.Time) []string {
	ids := make([]string, 0, daysOfMonth+1)
	for d := daysOfMonth; d >= 0; d-- {
		ids = append(ids, day("token", b.TokenID, now.UTC().AddDate(0, 0, -d)))
	}
	return ids
}

// Weighing is one limit that is set, with the figures compared.
type Weighing struct {
	Rule                    Rule
	Current, Requested, Max money.USDC // Current is spent and held in the rule's scope and window
	text                    string
}

// OK reports whether the limit lets the amount pass.
func (w Weighing) OK() bool { return w.Current.Add(w.Requested) <= w.Max }

// Denial is the verdict of a limit that does not.
func (w Weighing) Denial() *Denial {
	spent := "spent " + w.Current.Decimal() + ", "
	if w.Rule == RulePerCall || w.Rule == RuleTokenPerCall { // they look at the call alone
		spent = ""
	}
	return &Denial{
		Rule: w.Rule, Current: w.Current, Requested: w.Requested, Max: w.Max,
		Message: fmt.Sprintf("%s: %srequested %s, limit %s", w.text, spent, w.Requested.Decimal(), w.Max.Decimal()),
	}
}

// Weigh compares an amount that would be spent at now with every limit that is set, given what the counters say (holds
// included), in the order in which they are asked. A missing counter is zero.
func (b Budget) Weigh(now time.Time, amount money.USDC, spent map[string]money.USDC) []Weighing {
	var out []Weighing
	none := func() []string { return nil }
	of := func(name func(scope, id string, t time.Time) string, scope, id string) func() []string {
		return func() []string { return []string{name(scope, id, now)} }
	}
	ever := func(scope, id string) func() []string { return func() []string { return []string{total(scope, id)} } }
	for _, l := range []struct {
		rule     Rule
		max      *money.USDC
		counters func() []string // named only for a limit that is set
		text     string
	}{
		{RulePerCall, b.Agent.PerCallMax, none, "Per-call maximum exceeded"},
		{RuleTokenPerCall, b.Token.PerCallMax, none, "Per-transaction limit exceeded"},
		{RuleDaily, b.Agent.DailyLimit, of(day, "agent", b.AgentID), "Daily limit exceeded"},
		{RuleMonthly, b.Agent.MonthlyLimit, of(month, "agent", b.AgentID), "Monthly limit exceeded"},
		{RuleCap, b.Agent.SpendingCap, ever("agent", b.AgentID), "Spending cap exceeded"},
		{RuleDepartment, b.Department, of(month, "department", b.DepartmentID), "Department budget exceeded"},
		{RuleOrgDaily, b.Org.DailyLimit, of(day, "org", b.OrgID), "The organisation's daily limit exceeded"},
		{RuleOrgMonthly, b.Org.MonthlyLimit, of(month, "org", b.OrgID), "The organisation's monthly limit exceeded"},
		{RuleOrgCap, b.Org.SpendingCap, ever("org", b.OrgID), "The organisation's spending cap exceeded"},
		{RuleTokenDaily, b.Token.Rolling24h, func() []string { return b.lastDay(now) }, "Daily limit exceeded"},
		{RuleTokenMonthly, b.Token.Rolling30d, func() []string { return b.lastMonth(now) }, "Monthly limit exceeded"},
	} {
		if l.max == nil {
			continue
		}
		w := Weighing{Rule: l.rule, Requested: amount, Max: *l.max, text: l.text}
		for _, id := range l.counters() {
			w.Current = w.Current.Add(spent[id])
		}
		out = append(out, w)
	}
	return out
}

// CheckAmount asks every limit whether amount may be spent at now. It returns nil or a *Denial by the first that does
// not let it pass.
func (b Budget) CheckAmount(now time.Time, amount money.USDC, spent map[string]money.USDC) error {
	return Verdict(b.Weigh(now, amount, spent))
}

// Verdict is nil, or a *Denial by the first limit that does not let the amount pass.
func Verdict(weighed []Weighing) error {
	for _, w := range weighed {
		if !w.OK() {
			return w.Denial()
		}
	}
	return nil
}
