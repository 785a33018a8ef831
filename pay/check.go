package pay

import (
	"net/http"
	"slices"
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
	// MinTransferWindow is MinWindow for a transfer, which must be in a block before its hash can be shown.
	MinTransferWindow = 30 * time.Second
)

// Check makes the checks that stand before every signature; it knows nothing of limits and budgets, which are
// the policy's. It returns *RefusedError.
func Check(o Offer, w Wallet) error {
	if o.Refused != "" {
		return Refusal(o.Cause, "%s", o.Refused)
	}
	known, ok := evm.NetworkByID(o.Network.ChainID)
	switch {
	case !ok || known.USDC != o.Network.USDC || known.DomainName != o.Network.DomainName || known.DomainVersion != o.Network.DomainVersion:
		return Refusal(BadNetwork, "network is not in the registry")
	case o.Network.ChainID != w.Network.ChainID:
		return Refusal(BadNetwork, "offer is on %s, the wallet on %s", o.Network.Name, w.Network.Name)
	case o.Asset != known.USDC:
		return Refusal(BadAsset, "asset %s is not USDC of %s", o.Asset, known.Name)
	case o.Amount <= 0 || o.Amount > money.Max:
		return Refusal(BadAmount, "amount %s is out of range", o.Amount)
	case o.PayTo == common.Address{}:
		return Refusal(BadPayee, "payTo is the zero address")
	case o.PayTo == known.USDC:
		return Refusal(BadPayee, "payTo is the token itself")
	case o.PayTo == w.Address:
		return Refusal(BadPayee, "payTo is the payer")
	case o.ValidFor <= o.shortest():
		return Refusal(BadWindow, "a proof would be valid for %s, which is too short to settle", o.ValidFor)
	case !w.can(o.Kind):
		return Refusal(Unsupported, "the wallet is not set up to pay %s", o.Kind)
	}
	return nil
}

// CheckAgain is Check for a protocol that builds an instruction: which network and kind the wallet has is known to who
// chose the offer.
func CheckAgain(o Offer, payer common.Address) error {
	return Check(o, Wallet{Network: o.Network, Address: payer, Also: []InstructionKind{o.Kind}})
}

// can reports whether the wallet takes an offer of the kind. Authorizations are what every wallet can sign.
func (w Wallet) can(kind InstructionKind) bool {
	return kind == None || kind == SignAuthorization || slices.Contains(w.Also, kind)
}

// shortest is the window that is too short for the offer's kind.
func (o Offer) shortest() time.Duration {
	if o.Kind == Transfer {
		return MinTransferWindow
	}
	return MinWindow
}

// Window is how a proof made now may live: until the earlier of what the offer allows and MaxWindow, in unix seconds. It
// refuses an offer whose time is over or almost.
func Window(o Offer, now time.Time) (validBefore int64, err error) {
	end := now.Add(min(o.ValidFor, MaxWindow)).Unix()
	if o.Expires == 0 {
		return end, nil
	}
	if left := o.Expires - now.Unix(); left <= int64(o.shortest()/time.Second) {
		return 0, Refusal(BadWindow, "the offer ends in %d s, which is too short to settle", left)
	}
	return min(end, o.Expires), nil
}

// Seconds turns a seller's number of seconds into a duration, without overflow.
func Seconds(n int64) time.Duration {
	const most = int64(24 * time.Hour / time.Second) // far above MaxWindow
	return time.Duration(max(0, min(n, most))) * time.Second
}

// ParseAmount reads a seller's amount in atomic units: digits only, no sign, point, exponent or space.
func ParseAmount(s string) (money.USDC, error) {
	if len(s) > maxDigits {
		return 0, Refusal(BadAmount, "amount has more than %d digits", maxDigits)
	}
	a, err := money.ParseAtomic(s)
	if err != nil {
		return 0, Refusal(BadAmount, "amount %q: %v", Text(s), err)
	}
	return a, nil
}

// ParseAddress reads a 20-byte address with its 0x; field is what the protocol calls it.
func ParseAddress(field, s string) (common.Address, error) {
	if len(s) != 42 || !strings.HasPrefix(s, "0x") || !common.IsHexAddress(s) {
		return common.Address{}, Refusal(Malformed, "%s: %q is not an address", field, Text(s))
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
		case "x-payment", "payment-signature", "x-payment-tx", "payment-authorization", "sign-in-with-x":
			delete(h, key)
		case "authorization":
			kept := make([]string, 0, len(values))
			for _, v := range values {
				if !holdsPayment(v) {
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

// holdsPayment finds a credential of the scheme Payment, also behind another one: sellers look for it there (mppx).
func holdsPayment(authorization string) bool {
	for part := range strings.SplitSeq(authorization, ",") {
		scheme, _, _ := strings.Cut(strings.TrimSpace(part), " ")
		if strings.EqualFold(scheme, "Payment") {
			return true
		}
	}
	return false
}
