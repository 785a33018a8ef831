package pay

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
)

// Limits of what a stranger may send us in a challenge.
const (
	MaxOffers     = 32       // offers in one challenge
	MaxHeader     = 16 << 10 // bytes of one challenge or receipt header
	MaxBody       = 64 << 10 // bytes of a body that is read as a challenge
	maxDigits     = 30       // digits of an amount
	maxSellerText = 200      // bytes kept of a seller's own words
)

// The window of a proof. A longer life helps only who stole it; a shorter one cannot be settled.
const (
	MaxWindow = 600 * time.Second
	MinWindow = 10 * time.Second // at or below it the offer is refused
)

// RefusedError says why an offer is not taken.
type RefusedError struct{ Reason string }

// Error is the reason.
func (e *RefusedError) Error() string { return "pay: offer refused: " + e.Reason }

func refuse(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

// Check makes the checks that stand before every signature; it knows nothing of limits and budgets, which are
// the policy's. It returns *RefusedError.
func Check(o Offer, w Wallet) error {
	if o.Refused != "" {
		return refuse("%s", o.Refused)
	}
	known, ok := evm.NetworkByID(o.Network.ChainID)
	switch {
	case !ok || known.USDC != o.Network.USDC || known.DomainName != o.Network.DomainName || known.DomainVersion != o.Network.DomainVersion:
		return refuse("network is not in the registry")
	case o.Network.ChainID != w.Network.ChainID:
		return refuse("offer is on %s, the wallet on %s", o.Network.Name, w.Network.Name)
	case o.Asset != known.USDC:
		return refuse("asset %s is not USDC of %s", o.Asset, known.Name)
	case o.Amount <= 0 || o.Amount > money.Max:
		return refuse("amount %s is out of range", o.Amount)
	case o.PayTo == common.Address{}:
		return refuse("payTo is the zero address")
	case o.PayTo == known.USDC:
		return refuse("payTo is the token itself")
	case o.PayTo == w.Address:
		return refuse("payTo is the payer")
	case o.ValidFor <= MinWindow:
		return refuse("a proof would be valid for %s, which is too short to settle", o.ValidFor)
	}
	return nil
}

// ValidBefore is when a proof made now ends, in unix seconds: what the seller asks, capped.
func ValidBefore(now time.Time, validFor time.Duration) int64 {
	return now.Add(min(validFor, MaxWindow)).Unix()
}

// Seconds turns a seller's number of seconds into a duration, without overflow.
func Seconds(n int64) time.Duration {
	const most = int64(24 * time.Hour / time.Second) // far above MaxWindow
	return time.Duration(max(0, min(n, most))) * time.Second
}

// ParseAmount reads a seller's amount in atomic units: digits only, no sign, point, exponent or space.
func ParseAmount(s string) (money.USDC, error) {
	if len(s) > maxDigits {
		return 0, refuse("amount has more than %d digits", maxDigits)
	}
	a, err := money.ParseAtomic(s)
	if err != nil {
		return 0, refuse("amount %q: %v", Text(s), err)
	}
	return a, nil
}

// ParseAddress reads a 20-byte address with its 0x.
func ParseAddress(s string) (common.Address, error) {
	if len(s) != 42 || !strings.HasPrefix(s, "0x") || !common.IsHexAddress(s) {
		return common.Address{}, refuse("%q is not an address", Text(s))
	}
	return common.HexToAddress(s), nil
}

// Text shortens a seller's words for a log or an error: one line, printable, at most 200 bytes.
func Text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s[:min(len(s), 4*maxSellerText)])
	for len(s) > maxSellerText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// StripPaymentHeaders removes every proof of payment: from what an agent sent, so that it cannot pay past its
// policy, and before a new proof is attached. An Authorization of another scheme stays.
func StripPaymentHeaders(h http.Header) {
	for key, values := range h {
		switch strings.ToLower(key) { // not http.CanonicalHeaderKey: a caller may have filled the map by hand
		case "x-payment", "payment-signature", "x-payment-tx":
			delete(h, key)
		case "authorization":
			kept := make([]string, 0, len(values))
			for _, v := range values {
				scheme, _, _ := strings.Cut(strings.TrimSpace(v), " ")
				if !strings.EqualFold(scheme, "Payment") {
					kept = append(kept, v)
				}
			}
			if len(kept) == 0 {
				delete(h, key)
			} else {
				h[key] = kept
			}
		}
	}
}
