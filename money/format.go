package money

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// The spellings of an amount on the wire; docs/wire.md says which endpoint uses which.

// String is the atomic text, "25000000".
func (a USDC) String() string { return strconv.FormatInt(int64(a), 10) }

// Decimal is the decimal text with six places, "50.000000".
func (a USDC) Decimal() string {
	sign, v := "", uint64(a)
	if a < 0 {
		sign, v = "-", -uint64(a)
	}
	return fmt.Sprintf("%s%d.%06d", sign, v/uint64(One), v%uint64(One))
}

// Dollars is the JSON number of dollars with at least two places and no useless zeros: 5.00, 0.25, 0.000001.
func (a USDC) Dollars() json.Number {
	s := a.Decimal()
	for len(s) > 0 && s[len(s)-1] == '0' && s[len(s)-3] != '.' {
		s = s[:len(s)-1]
	}
	return json.Number(s)
}

const displayUnit = One / 10_000 // four places

// CostUSD is a cost for display with four places, rounded up so that it never looks cheaper: "$0.0100".
func (a USDC) CostUSD() string {
	up := a
	if r := a % displayUnit; r > 0 {
		up = a.Sub(r).Add(displayUnit)
	}
	return "$" + up.Decimal()[:len(up.Decimal())-2]
}

// RemainingUSD is what remains, for display with four places, rounded down: "$4.9900".
func (a USDC) RemainingUSD() string {
	down := a - a%displayUnit
	return "$" + down.Decimal()[:len(down.Decimal())-2]
}

// ExactUSD is an amount for display with four places, or with all six where four would round it: "$0.0100", "$0.000010".
func (a USDC) ExactUSD() string {
	if a%displayUnit != 0 {
		return "$" + a.Decimal()
	}
	return a.CostUSD()
}

// MarshalGQL writes the GraphQL scalar USDC: atomic units as text, since JavaScript numbers end at 2^53.
func (a USDC) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(a.String())) }

// UnmarshalGQL reads the GraphQL scalar USDC from atomic text, or from an integer literal.
func (a *USDC) UnmarshalGQL(v any) error {
	text := ""
	switch x := v.(type) {
	case string:
		text = x
	case json.Number:
		text = x.String()
	case int64:
		text = strconv.FormatInt(x, 10)
	case int:
		text = strconv.Itoa(x)
	default:
		return ErrSyntax
	}
	got, err := ParseAtomic(text)
	if err != nil {
		return err
	}
	*a = got
	return nil
}
