package policy_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bursar/core/policy"
	"bursar/money"
)

// TestJudge: which rules an offer falls under, and what the strongest of them demands.
func TestJudge(t *testing.T) {
	careful := policy.Caution{NewPayee: policy.Approve, ChangedPayee: policy.Refuse, PriceJump: policy.Approve, PriceJumpPercent: 120, ApproveAbove: usdc(1000)}
	for name, c := range map[string]struct {
		c      policy.Caution
		known  policy.Known
		amount money.USDC
		rules  string
		does   policy.Reaction
		by     string
	}{
		"as before":             {careful, policy.Known{Payee: true, Host: true, Price: usdc(100)}, 100, "", policy.Note, ""},
		"new":                   {careful, policy.Known{}, 100, "new_payee", policy.Approve, "new_payee"},
		"changed":               {careful, policy.Known{Host: true, Price: usdc(100)}, 100, "new_payee,changed_payee", policy.Refuse, "changed_payee"},
		"dear":                  {careful, policy.Known{Payee: true, Host: true, Price: usdc(100)}, 121, "price_jump", policy.Approve, "price_jump"},
		"as dear as may be":     {careful, policy.Known{Payee: true, Host: true, Price: usdc(100)}, 120, "", policy.Note, ""},
		"large":                 {careful, policy.Known{Payee: true, Host: true, Price: usdc(1000)}, 1001, "approve_above", policy.Approve, "approve_above"},
		"as large as may be":    {careful, policy.Known{Payee: true, Host: true, Price: usdc(1000)}, 1000, "", policy.Note, ""},
		"new and large":         {careful, policy.Known{}, 1001, "new_payee,approve_above", policy.Approve, "new_payee,approve_above"},
		"nothing is set":        {policy.Caution{}, policy.Known{Host: true, Price: usdc(100)}, 151, "new_payee,changed_payee,price_jump", policy.Note, ""},
		"the usual jump":        {policy.Caution{PriceJump: policy.Refuse}, policy.Known{Payee: true, Host: true, Price: usdc(100)}, 150, "", policy.Note, ""},
		"above the usual jump":  {policy.Caution{PriceJump: policy.Refuse}, policy.Known{Payee: true, Host: true, Price: usdc(100)}, 151, "price_jump", policy.Refuse, "price_jump"},
		"everything needs it":   {policy.Caution{ApproveAbove: usdc(0)}, policy.Known{Payee: true, Host: true}, 1, "approve_above", policy.Approve, "approve_above"},
		"the largest amount":    {policy.Caution{PriceJump: policy.Refuse, PriceJumpPercent: policy.MaxJumpPercent}, policy.Known{Payee: true, Host: true, Price: usdc(int64(money.Max))}, money.Max, "", policy.Note, ""},
		"a fraction is dropped": {policy.Caution{PriceJump: policy.Refuse, PriceJumpPercent: 101}, policy.Known{Payee: true, Host: true, Price: usdc(99)}, 100, "price_jump", policy.Refuse, "price_jump"},
	} {
		found := c.c.Judge("api.example.com", "0xabc", c.amount, c.known)
		does, by := policy.Strongest(found)
		if policy.Names(found) != c.rules || does != c.does || policy.Names(by) != c.by {
			t.Errorf("%s: %q, %s by %q", name, policy.Names(found), does, policy.Names(by))
		}
		for _, f := range found {
			if f.Text == "" || (f.Reaction == policy.Refuse && f.Denial().Rule != f.Rule) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// TestReplayRemembers: a replay knows whom its own calls have paid, whom others have paid by then, and the price before.
func TestReplayRemembers(t *testing.T) {
	day := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	call := func(minute int, payee string, price money.USDC) policy.Past {
		return policy.Past{At: day.Add(time.Duration(minute) * time.Minute), Host: "h", Place: "h", Payee: payee, Route: "GET /", Price: price, Charged: price, Settled: price}
	}
	calls := []policy.Past{call(1, "a", 100), call(2, "a", 100), call(3, "b", 100), call(4, "c", 100), call(5, "a", 200), call(6, "a", 200)}
	for name, c := range map[string]struct {
		p    policy.Caution
		want string // as verdicts spells it
	}{
		"no new payees":         {policy.Caution{NewPayee: policy.Refuse}, "nnnynn"},
		"new payees need a yes": {policy.Caution{NewPayee: policy.Approve}, "?y?yyy"},
		"no changed payees":     {policy.Caution{ChangedPayee: policy.Refuse}, "yynyyy"},
		"no jumps":              {policy.Caution{PriceJump: policy.Refuse}, "yyyynn"},
		"jumps need a yes":      {policy.Caution{PriceJump: policy.Approve}, "yyyy?y"},
	} {
		r := policy.NewReplay(policy.Policy{Caution: c.p}, day, policy.Before{})
		r.Paid(policy.HostPayee{Host: "h", Payee: "c"}, day.Add(150*time.Second))
		if got := verdicts(r, calls); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// verdicts are a letter a call: y(es), n(o), ? for a person's.
func verdicts(r *policy.Replay, calls []policy.Past) (got string) {
	for _, call := range calls {
		err := r.Judge(call)
		var held *policy.Unanswered
		switch {
		case err == nil:
			got += "y"
		case errors.As(err, &held):
			got += "?"
		default:
			got += "n"
		}
	}
	return got
}

// A replay compares prices as they are compared when they are paid: what was never charged is not the usual price.
func TestReplayKnowsTheUsualPrice(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		does  policy.Reaction
		calls [][2]money.USDC // the price, and what was taken
		want  string
	}{
		"nothing is charged":      {policy.Refuse, [][2]money.USDC{{100, 0}, {190, 0}, {361, 0}, {200, 0}, {201, 0}}, "yynyn"},
		"everything is":           {policy.Refuse, [][2]money.USDC{{100, 100}, {190, 190}, {361, 361}, {50, 50}, {101, 101}}, "yyyyn"},
		"a little of a maximum":   {policy.Refuse, [][2]money.USDC{{100, 1}, {190, 1}, {361, 1}, {190, 190}, {361, 200}, {401, 1}, {400, 1}, {90, 1}, {181, 1}}, "yynyynyyn"},
		"a yes is a usual price":  {policy.Approve, [][2]money.USDC{{100, 0}, {300, 0}, {600, 0}, {601, 0}}, "y?y?"},
		"what is refused is none": {policy.Refuse, [][2]money.USDC{{100, 100}, {201, 201}, {201, 201}}, "ynn"},
	} {
		var calls []policy.Past
		for i, call := range c.calls {
			calls = append(calls, policy.Past{At: at.Add(time.Duration(i) * time.Minute), Place: "h", Route: "GET /", Price: call[0], Charged: call[0], Settled: call[1]})
		}
		r := policy.NewReplay(policy.Policy{Caution: policy.Caution{PriceJump: c.does, PriceJumpPercent: 200}}, at, policy.Before{})
		if got := verdicts(r, calls); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestMostOf: the highest price that is no jump is judged to be none, and one unit more is one.
func TestMostOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := policy.Caution{PriceJump: policy.Refuse, PriceJumpPercent: rapid.Int64Range(policy.MinJumpPercent, policy.MaxJumpPercent).Draw(t, "percent")}
		price := money.USDC(rapid.Int64Range(1, int64(money.Max)).Draw(t, "price"))
		known := policy.Known{Payee: true, Host: true, Price: &price}
		if most := c.MostOf(price); len(c.Judge("h", "p", most, known)) != 0 || len(c.Judge("h", "p", most+1, known)) != 1 || most < price {
			t.Fatalf("%s after %s", most, price)
		}
	})
}
