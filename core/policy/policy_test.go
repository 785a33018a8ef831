package policy_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bursar/core/policy"
	"bursar/money"
)

func usdc(v int64) *money.USDC { a := money.USDC(v); return &a }

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		rule, host, domain string
		want               bool
	}{
		{"exa", "api.exa.ai", "exa.ai", true},
		{"exa.ai", "api.exa.ai", "exa.ai", true},
		{"api.exa.ai", "api.exa.ai", "exa.ai", true},
		{"EXA", "api.exa.ai", "exa.ai", true},
		{"example", "shop.example.co.uk", "example.co.uk", true},
		{"127.0.0.1:4021", "127.0.0.1:4021", "", true},
		{"127.0.0.1", "127.0.0.1:4021", "", true},
		{"::1", "[::1]:80", "", true},
		{"[::1]:443", "[::1]", "", true},
		{"api.exa.ai:443", "api.exa.ai", "exa.ai", true},
		{"api.exa.ai:80", "api.exa.ai", "exa.ai", true},
		{"api.exa.ai:443", "api.exa.ai:443", "exa.ai", true},
		{"api.exa.ai:443", "api.exa.ai:8443", "exa.ai", false},
		{"api.exa.ai:8443", "api.exa.ai", "exa.ai", false},
		{"exa.ai:443", "api.exa.ai", "exa.ai", false},
		{"localhost", "localhost:80", "", true},
		{"", "api.exa.ai", "exa.ai", false},
		{"exa", "exa.evil.com", "evil.com", false},
		{"exa.ai", "notexa.ai", "notexa.ai", false},
		{"exa.ai", "exa.ai.evil.com", "evil.com", false},
		{"co", "shop.example.co.uk", "example.co.uk", false},
	} {
		if got := policy.Matches(c.rule, c.host, c.domain); got != c.want {
			t.Errorf("Matches(%q, %q, %q) = %v", c.rule, c.host, c.domain, got)
		}
	}
}

func TestCheckService(t *testing.T) {
	for _, c := range []struct {
		name    string
		p       policy.Policy
		session bool
		want    policy.Rule
	}{
		{"open", policy.Policy{}, false, ""},
		{"allowed", policy.Policy{Allowed: []string{"exa"}}, false, ""},
		{"not allowed", policy.Policy{Allowed: []string{"openai"}}, false, policy.RuleAllowed},
		{"blocked wins", policy.Policy{Allowed: []string{"exa"}, Blocked: []string{"exa.ai"}}, false, policy.RuleBlocked},
		{"session missing", policy.Policy{RequireSession: true}, false, policy.RuleRequireSession},
		{"session there", policy.Policy{RequireSession: true}, true, ""},
	} {
		err := c.p.CheckService("api.exa.ai", "exa.ai", c.session)
		var d *policy.Denial
		if errors.As(err, &d) != (c.want != "") || (d != nil && (d.Rule != c.want || !d.Forbidden())) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestEachLimitRefusesOneUnitAbove(t *testing.T) {
	now := time.Date(2026, 11, 23, 23, 59, 59, 0, time.UTC)
	for rule, set := range map[policy.Rule]func(*policy.Budget, *money.USDC){
		policy.RulePerCall:      func(b *policy.Budget, m *money.USDC) { b.Agent.PerCallMax = m },
		policy.RuleTokenPerCall: func(b *policy.Budget, m *money.USDC) { b.Token.PerCallMax = m },
		policy.RuleDaily:        func(b *policy.Budget, m *money.USDC) { b.Agent.DailyLimit = m },
		policy.RuleMonthly:      func(b *policy.Budget, m *money.USDC) { b.Agent.MonthlyLimit = m },
		policy.RuleCap:          func(b *policy.Budget, m *money.USDC) { b.Agent.SpendingCap = m },
		policy.RuleDepartment:   func(b *policy.Budget, m *money.USDC) { b.Department = m },
		policy.RuleOrgDaily:     func(b *policy.Budget, m *money.USDC) { b.Org.DailyLimit = m },
		policy.RuleOrgMonthly:   func(b *policy.Budget, m *money.USDC) { b.Org.MonthlyLimit = m },
		policy.RuleOrgCap:       func(b *policy.Budget, m *money.USDC) { b.Org.SpendingCap = m },
		policy.RuleTokenDaily:   func(b *policy.Budget, m *money.USDC) { b.Token.Rolling24h = m },
		policy.RuleTokenMonthly: func(b *policy.Budget, m *money.USDC) { b.Token.Rolling30d = m },
	} {
		b := policy.Budget{OrgID: "o", DepartmentID: "d", AgentID: "a", TokenID: "t"}
		set(&b, usdc(100))
		spent := map[string]money.USDC{}
		perCall := rule == policy.RulePerCall || rule == policy.RuleTokenPerCall
		price := money.USDC(100)
		if !perCall {
			for _, id := range b.Counters(now).Raise {
				spent[id] = 60
			}
			price = 40
		}
		if err := b.CheckAmount(now, price, spent); err != nil {
			t.Errorf("%s refuses at the limit: %v", rule, err)
		}
		var d *policy.Denial
		if err := b.CheckAmount(now, price+1, spent); !errors.As(err, &d) || d.Rule != rule || d.Max != 100 || d.Requested != price+1 {
			t.Errorf("%s above the limit: %v", rule, err)
		}
	}
}

// A spend counts in a rolling window for at least the whole window, and not for more than one bucket longer.
func TestRollingWindowNeverLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "at"), 0)
		later := at.Add(time.Duration(rapid.Int64Range(0, 33*86400).Draw(t, "later")) * time.Second)
		b := policy.Budget{OrgID: "o", AgentID: "a", TokenID: "t"}
		spent := map[string]money.USDC{}
		for _, id := range b.Counters(at).Raise {
			spent[id] = 10
		}
		check := func(window, slack time.Duration, rule policy.Rule) {
			err := b.CheckAmount(later, 1, spent)
			age := later.Sub(at)
			if age < window && err == nil {
				t.Fatalf("%s: forgotten after %v", rule, age)
			}
			if age > window+slack && err != nil {
				t.Fatalf("%s: still counted after %v", rule, age)
			}
		}
		b.Token = policy.TokenLimits{Rolling24h: usdc(10)}
		check(24*time.Hour, time.Hour, policy.RuleTokenDaily)
		b.Token = policy.TokenLimits{Rolling30d: usdc(10)}
		check(30*24*time.Hour, 24*time.Hour, policy.RuleTokenMonthly)
	})
}

// In the last second of its window a spend still counts, however it lies in its bucket.
func TestRollingWindowToTheSecond(t *testing.T) {
	begin := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{begin, begin.Add(time.Second), begin.Add(time.Hour - time.Second), begin.Add(12 * time.Hour), begin.Add(24*time.Hour - time.Second)} {
		b := policy.Budget{OrgID: "o", AgentID: "a", TokenID: "t"}
		spent := map[string]money.USDC{}
		for _, id := range b.Counters(at).Raise {
			spent[id] = 10
		}
		for window, limits := range map[time.Duration]policy.TokenLimits{
			24 * time.Hour: {Rolling24h: usdc(10)}, 30 * 24 * time.Hour: {Rolling30d: usdc(10)},
		} {
			b.Token = limits
			if b.CheckAmount(at.Add(window-time.Second), 1, spent) == nil {
				t.Errorf("%s: forgotten before %s have passed", at, window)
			}
		}
	}
}

// A day is a UTC day, wherever the machine stands and in whatever zone a moment is told.
func TestDaysAreUTC(t *testing.T) {
	defer func(l *time.Location) { time.Local = l }(time.Local)
	for _, hours := range []int{-11, 9} {
		time.Local = time.FixedZone("far", hours*3600)
		b := policy.Budget{OrgID: "o", AgentID: "a"}
		b.Agent.DailyLimit, b.Org.DailyLimit = usdc(10), usdc(10)
		begin := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		for _, at := range []time.Time{begin, begin.Add(12 * time.Hour), begin.Add(24*time.Hour - 1)} {
			spent := map[string]money.USDC{}
			for _, id := range b.Counters(at.Local()).Raise {
				spent[id] = 10
			}
			for _, later := range []time.Time{begin, begin.Add(24*time.Hour - 1)} {
				if b.CheckAmount(later.Local(), 1, spent) == nil {
					t.Errorf("%s: forgotten at %s", at, later)
				}
			}
			if err := b.CheckAmount(begin.Add(24*time.Hour).Local(), 10, spent); err != nil {
				t.Errorf("%s: still counts the next day: %v", at, err)
			}
		}
	}
}

// charge is one that was allowed.
type charge struct {
	at     time.Time
	amount money.USDC
}

// Whatever agents, departments and tokens call, and whenever: what an organisation has spent in a UTC day, in a UTC month
// and for ever stays within its limits, and a refusal names a limit that would have been passed.
func TestOrganisationNeverPassesItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := func(name string) *money.USDC {
			return rapid.OneOf(rapid.Just((*money.USDC)(nil)), rapid.Map(rapid.Int64Range(0, 300), usdc)).Draw(t, name)
		}
		limits := policy.OrgLimits{DailyLimit: limit("day"), MonthlyLimit: limit("month"), SpendingCap: limit("cap")}
		now := time.Date(2026, time.January, 30, 12, 0, 0, 0, time.UTC)
		spent := map[string]money.USDC{} // the counters of every organisation
		var charges []charge
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int64{0, 1, 3600, 43_200, 86_400}).Draw(t, "pass")) * time.Second)
			b := policy.Budget{
				OrgID: rapid.SampledFrom([]string{"o", "o", "other"}).Draw(t, "org"), AgentID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "agent"),
				DepartmentID: rapid.SampledFrom([]string{"", "d"}).Draw(t, "department"), TokenID: rapid.SampledFrom([]string{"", "t"}).Draw(t, "token"),
			}
			if b.OrgID == "o" {
				b.Org = limits
			}
			amount := money.USDC(rapid.Int64Range(1, 120).Draw(t, "amount"))
			err := b.CheckAmount(now, amount, spent)
			if err == nil {
				for _, id := range b.Counters(now).Raise {
					spent[id] += amount
				}
				if b.OrgID == "o" {
					charges = append(charges, charge{now, amount})
				}
			}
			if b.OrgID != "o" {
				continue
			}
			var d *policy.Denial
			errors.As(err, &d)
			for rule, l := range map[policy.Rule]struct {
				max    *money.USDC
				window string
			}{
				policy.RuleOrgDaily: {limits.DailyLimit, "2006-01-02"}, policy.RuleOrgMonthly: {limits.MonthlyLimit, "2006-01"}, policy.RuleOrgCap: {limits.SpendingCap, ""},
			} {
				var sum money.USDC
				for _, c := range charges {
					if c.at.Format(l.window) == now.Format(l.window) {
						sum += c.amount
					}
				}
				if l.max != nil && sum > *l.max && err == nil {
					t.Fatalf("%s: spent %s of %s", rule, sum, *l.max)
				}
				if d != nil && d.Rule == rule && (l.max == nil || sum+amount <= *l.max || d.Current != sum) {
					t.Fatalf("%s refuses %s after %s: %+v", rule, amount, sum, d)
				}
			}
		}
	})
}
