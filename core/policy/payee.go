package policy

import (
	"fmt"
	"strings"

	"bursar/money"
)

// Reaction is what a policy does about something that a person may want to know.
type Reaction string

// The reactions, from the weakest. The zero value is Note.
const (
	Note    Reaction = "note"    // it is in the trace, and paid
	Refuse  Reaction = "refuse"  // it is not paid
	Approve Reaction = "approve" // it is paid when a person says yes
)

// Rules about whom and how much, which compare an offer with what was paid before.
const (
	RuleNewPayee     Rule = "new_payee"     // the host was never paid to that address
	RuleChangedPayee Rule = "changed_payee" // the same, and it was paid to another one
	RulePriceJump    Rule = "price_jump"    // far more than the usual price of the route
	RuleApproveAbove Rule = "approve_above"
)

// Bounds of PriceJumpPercent. The upper one keeps the products of amounts within 64 bits.
const (
	MinJumpPercent     = 100
	MaxJumpPercent     = 1000
	DefaultJumpPercent = 150
)

// Caution is what a policy does about payees and prices that are not as before.
type Caution struct {
	NewPayee, ChangedPayee, PriceJump Reaction

	PriceJumpPercent int64       // of the usual price may be asked without being a jump; 0: DefaultJumpPercent
	ApproveAbove     *money.USDC // a larger amount needs a person's yes; nil: none does
}

// Known is what an organisation has paid before.
type Known struct {
	Payee bool        // the host, to this payee
	Host  bool        // the host, to anybody
	Price *money.USDC // what the route usually costs; nil: it was never paid
}

// Finding is a rule that an offer falls under, and what the policy does about it.
type Finding struct {
	Rule           Rule
	Reaction       Reaction
	Requested, Max money.USDC // of a rule about amounts
	Text           string
}

// Denial is the verdict of a finding that refuses.
func (f Finding) Denial() *Denial {
	return &Denial{Rule: f.Rule, Requested: f.Requested, Max: f.Max, Message: f.Text}
}

// PayeeMatters reports whether anything but a note depends on who is paid.
func (c Caution) PayeeMatters() bool { return !c.NewPayee.Notes() || !c.ChangedPayee.Notes() }

// PriceMatters reports whether anything but a note depends on the usual price.
func (c Caution) PriceMatters() bool { return !c.PriceJump.Notes() }

// Notes reports whether the reaction is a note in the trace and no more.
func (r Reaction) Notes() bool { return r == Note || r == "" }

// MostOf is the highest price that is no jump after another.
func (c Caution) MostOf(price money.USDC) money.USDC {
	return money.USDC(int64(price) * c.Percent() / 100) //nolint:mnd // a percentage
}

// Percent is PriceJumpPercent with its default.
func (c Caution) Percent() int64 {
	if c.PriceJumpPercent == 0 {
		return DefaultJumpPercent
	}
	return c.PriceJumpPercent
}

// Judge says under which rules an offer falls, given what was paid before. A payee who is new to a host that has paid
// others is both new and changed.
func (c Caution) Judge(host, payee string, amount money.USDC, k Known) []Finding {
	var out []Finding
	add := func(r Rule, does Reaction, most money.USDC, format string, args ...any) {
		if does == "" {
			does = Note
		}
		f := Finding{Rule: r, Reaction: does, Text: fmt.Sprintf(format, args...)}
		if most > 0 || r == RuleApproveAbove {
			f.Requested, f.Max = amount, most
		}
		out = append(out, f)
	}
	if !k.Payee {
		add(RuleNewPayee, c.NewPayee, 0, "%s has not been paid to %s before", host, payee)
		if k.Host {
			add(RuleChangedPayee, c.ChangedPayee, 0, "%s has been paid to others than %s", host, payee)
		}
	}
	if k.Price != nil && amount > c.MostOf(*k.Price) {
		add(RulePriceJump, c.PriceJump, c.MostOf(*k.Price), "The price is %s, and usually %s", amount.Decimal(), k.Price.Decimal())
	}
	if c.ApproveAbove != nil && amount > *c.ApproveAbove {
		add(RuleApproveAbove, Approve, *c.ApproveAbove, "Amounts above %s need a person's yes", c.ApproveAbove.Decimal())
	}
	return out
}

// Strongest is what must be done about findings together: one refusal refuses; and by which rules.
func Strongest(found []Finding) (does Reaction, by []Finding) {
	does = Note
	for _, r := range []Reaction{Approve, Refuse} {
		for _, f := range found {
			if f.Reaction != r {
				continue
			}
			if does != r {
				does, by = r, nil
			}
			by = append(by, f)
		}
	}
	return does, by
}

// Names lists the rules of findings, and Texts what they say.
func Names(found []Finding) string {
	return joined(found, ",", func(f Finding) string { return string(f.Rule) })
}

// Texts is what findings say, in one line.
func Texts(found []Finding) string {
	return joined(found, "; ", func(f Finding) string { return f.Text })
}

func joined(found []Finding, by string, text func(Finding) string) string {
	parts := make([]string, len(found))
	for i, f := range found {
		parts[i] = text(f)
	}
	return strings.Join(parts, by)
}
