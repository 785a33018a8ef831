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

// CheckAmount asks every limit whether amount may be spent at now, given what the counters say (holds
// included). It returns nil or a *Denial. A missing counter is zero.
func (b Budget) CheckAmount(now time.Time, amount money.USDC, spent map[string]money.USDC) error {
	sum := func(ids ...string) (s money.USDC) {
		for _, id := range ids {
			s = s.Add(spent[id])
		}
		return s
	}
	for _, l := range []struct {
		rule    Rule
		max     *money.USDC
		current money.USDC
		text    string
	}{
		{RulePerCall, b.Agent.PerCallMax, 0, "Per-call maximum exceeded"},
		{RuleTokenPerCall, b.Token.PerCallMax, 0, "Per-transaction limit exceeded"},
		{RuleDaily, b.Agent.DailyLimit, sum(day("agent", b.AgentID, now)), "Daily limit exceeded"},
		{RuleMonthly, b.Agent.MonthlyLimit, sum(month("agent", b.AgentID, now)), "Monthly limit exceeded"},
		{RuleCap, b.Agent.SpendingCap, sum(total("agent", b.AgentID)), "Spending cap exceeded"},
		{RuleDepartment, b.Department, sum(month("department", b.DepartmentID, now)), "Department budget exceeded"},
		{RuleOrgDaily, b.Org.DailyLimit, sum(day("org", b.OrgID, now)), "The organisation's daily limit exceeded"},
		{RuleOrgMonthly, b.Org.MonthlyLimit, sum(month("org", b.OrgID, now)), "The organisation's monthly limit exceeded"},
		{RuleOrgCap, b.Org.SpendingCap, sum(total("org", b.OrgID)), "The organisation's spending cap exceeded"},
		{RuleTokenDaily, b.Token.Rolling24h, sum(b.lastDay(now)...), "Daily limit exceeded"},
		{RuleTokenMonthly, b.Token.Rolling30d, sum(b.lastMonth(now)...), "Monthly limit exceeded"},
	} {
		if l.max == nil || l.current.Add(amount) <= *l.max {
			continue
		}
		return &Denial{
			Rule: l.rule, Current: l.current, Requested: amount, Max: *l.max,
			Message: fmt.Sprintf("%s: spent %s, requested %s, limit %s", l.text, l.current.Decimal(), amount.Decimal(), l.max.Decimal()),
		}
	}
	return nil
}
