// Package money holds the one money type of the program. It imports the standard library only, so every
// other package may use it.
package money

import (
	"fmt"
	"math/big"
)

// USDC is an amount in atomic units: one USDC is 1,000,000 of them. It is never a float, and it may be
// negative only as a difference.
type USDC int64

// Decimals is the number of digits behind the point of one USDC.
const Decimals = 6

// One is one USDC in atomic units.
const One USDC = 1_000_000

// Max bounds every amount that enters the program (10^9 USDC). Sums of a few thousand bounded amounts
// cannot overflow int64, so an overflow is a programmer's error and panics.
const Max USDC = 1_000_000_000 * One

// Add returns a+b. It panics on overflow. (ent's generated setters call it with exactly this signature.)
func (a USDC) Add(b USDC) USDC {
	c := a + b
	if (c > a) != (b > 0) {
		panic(fmt.Sprintf("money: %d + %d overflows", int64(a), int64(b)))
	}
	return c
}

// Sub returns a-b. It panics on overflow.
func (a USDC) Sub(b USDC) USDC {
	c := a - b
	if (c < a) != (b > 0) {
		panic(fmt.Sprintf("money: %d - %d overflows", int64(a), int64(b)))
	}
	return c
}

// Cmp returns -1, 0 or +1 as a is less than, equal to or greater than b.
func (a USDC) Cmp(b USDC) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Min returns the smaller of a and b.
func (a USDC) Min(b USDC) USDC {
	if b < a {
		return b
	}
	return a
}

// Big returns the amount in atomic units as a fresh big.Int, the form in which contracts take it.
func (a USDC) Big() *big.Int { return big.NewInt(int64(a)) }

// FromBig converts atomic units from the chain. It fails outside 0..Max.
func FromBig(v *big.Int) (USDC, error) {
	if v == nil || v.Sign() < 0 || !v.IsInt64() || USDC(v.Int64()) > Max {
		return 0, ErrOutOfRange
	}
	return USDC(v.Int64()), nil
}
