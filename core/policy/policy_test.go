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
