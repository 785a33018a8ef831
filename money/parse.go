package money

import (
	"encoding/json"
	"errors"
	"strings"
)

// Errors of the parsers. Callers turn them into "invalid request".
var (
	ErrSyntax     = errors.New("not a plain decimal amount")
	ErrPrecision  = errors.New("more than 6 decimals")
	ErrNegative   = errors.New("amount is negative")
	ErrOutOfRange = errors.New("amount is out of range")
)

// ParseAtomic reads atomic units: digits only, as in "25000000" (x402, IndieGent balances).
func ParseAtomic(s string) (USDC, error) {
	if strings.HasPrefix(s, "-") && allDigits(s[1:]) {
		return 0, ErrNegative
	}
	if !allDigits(s) {
		return 0, ErrSyntax
	}
	return digits(s)
}

// ParseDecimal reads dollars with at most six decimals: "5", "5.00", "0.000001". Signs, exponents, spaces
// and separators are refused; nothing passes through a float.
func ParseDecimal(s string) (USDC, error) {
	if strings.HasPrefix(s, "-") {
		if _, err := ParseDecimal(s[1:]); err == nil {
			return 0, ErrNegative
		}
		return 0, ErrSyntax
	}
	whole, frac, point := strings.Cut(s, ".")
	if !allDigits(whole) || (point && !allDigits(frac)) {
		return 0, ErrSyntax
	}
	if len(frac) > Decimals {
		if strings.Trim(frac[Decimals:], "0") != "" {
			return 0, ErrPrecision
		}
		frac = frac[:Decimals]
	}
	return digits(whole + frac + strings.Repeat("0", Decimals-len(frac)))
}

// FromJSONDollars reads a JSON number of dollars (5.00, 0.25) from its literal.
func FromJSONDollars(n json.Number) (USDC, error) { return ParseDecimal(n.String()) }

// FromJSONAtomic reads a JSON number of atomic units (50000000) from its literal.
func FromJSONAtomic(n json.Number) (USDC, error) { return ParseAtomic(n.String()) }

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func digits(s string) (USDC, error) {
	s = strings.TrimLeft(s, "0")
	if len(s) > 18 { // 10^18 - 1 fits int64; Max is far below
		return 0, ErrOutOfRange
	}
	var v USDC
	for i := range len(s) {
		v = v*10 + USDC(s[i]-'0')
	}
	if v > Max {
		return 0, ErrOutOfRange
	}
	return v, nil
}
