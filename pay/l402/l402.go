// Package l402 recognises L402 (also LSAT), which asks for a payment over the Lightning network. A wallet on an EVM chain
// cannot make one, so every offer is refused; the refusal says what is asked.
package l402

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/pay"
)

// Protocol is L402.
type Protocol struct{}

var _ pay.Protocol = Protocol{}

// Asked is what a Lightning invoice asks, as its human-readable part says (BOLT 11). It is an offer's Extra, in JSON.
type Asked struct {
	Network  string `json:"network"`           // "bitcoin", or the name of a test network
	MilliSat int64  `json:"msat"`              // thousandths of a satoshi; 0: the payer chooses
	Problem  string `json:"problem,omitempty"` // why the invoice could not be read; the rest is empty then
}

var errNever = errors.New("l402: a Lightning payment cannot be made")

// Name is "l402".
func (Protocol) Name() string { return "l402" }

// Offers reads the L402 and LSAT challenges of a 402, each as an offer that is refused.
func (p Protocol) Offers(_ *pay.Request, resp *pay.Response) ([]pay.Offer, error) {
	if resp == nil || resp.Status != http.StatusPaymentRequired {
		return nil, nil
	}
	challenges, err := pay.Challenges(resp.Header)
	if err != nil {
		return nil, err
	}
	var offers []pay.Offer
	for _, c := range challenges {
		if !c.Is("L402") && !c.Is("LSAT") {
			continue
		}
		if c.Err != nil {
			return nil, c.Err
		}
		a := ReadInvoice(c.Params["invoice"])
		o := pay.Offer{Protocol: p.Name(), Scheme: "lightning"}
		if o.Extra, err = json.Marshal(a); err != nil {
			return nil, err
		}
		o.Refuse(pay.Refusal(pay.Unsupported, "a Lightning payment of %s cannot be made by a wallet on an EVM chain", a))
		offers = append(offers, o)
	}
	return offers, nil
}

// String is the amount in words.
func (a Asked) String() string {
	switch {
	case a.Problem != "":
		return "an unknown amount (" + a.Problem + ")"
	case a.MilliSat == 0:
		return "an amount of the payer's choice on " + a.Network
	case a.MilliSat%1000 == 0:
		return fmt.Sprintf("%d satoshi on %s", a.MilliSat/1000, a.Network)
	}
	return fmt.Sprintf("%d millisatoshi on %s", a.MilliSat, a.Network)
}

// networks by the prefix of their invoices, longest first: "bcrt" begins with "bc".
var networks = []struct{ prefix, name string }{
	{"lnbcrt", "bitcoin-regtest"}, {"lntbs", "bitcoin-signet"}, {"lnbc", "bitcoin"}, {"lntb", "bitcoin-testnet"},
}

// ReadInvoice reads the human-readable part of an invoice: network, amount, multiplier, up to the last "1". The rest, with
// its checksum, is not looked at, since nothing is paid by it.
func ReadInvoice(invoice string) Asked {
	head := strings.ToLower(invoice[:min(len(invoice), pay.MaxHeader)])
	end := strings.LastIndexByte(head, '1')
	if end < 0 {
		return Asked{Problem: "no invoice"}
	}
	head = head[:end]
	for _, n := range networks {
		if amount, ok := strings.CutPrefix(head, n.prefix); ok {
			msat, err := readAmount(amount)
			if err != nil {
				return Asked{Problem: err.Error()}
			}
			return Asked{Network: n.name, MilliSat: msat}
		}
	}
	return Asked{Problem: "an invoice of an unknown network"}
}

// readAmount turns a number of bitcoin with a multiplier into millisatoshi.
func readAmount(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	unit, digits := int64(100_000_000_000), s // a bitcoin
	switch s[len(s)-1] {
	case 'm':
		unit, digits = 100_000_000, s[:len(s)-1]
	case 'u':
		unit, digits = 100_000, s[:len(s)-1]
	case 'n':
		unit, digits = 100, s[:len(s)-1]
	case 'p': // a tenth of a millisatoshi: the last digit must be 0
		if digits = strings.TrimSuffix(s[:len(s)-1], "0"); len(digits) != len(s)-2 {
			return 0, errors.New("a fraction of a millisatoshi")
		}
		unit = 1
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || digits[0] == '0' || int64(n) > math.MaxInt64/unit {
		return 0, errors.New("an amount that cannot be read")
	}
	return int64(n) * unit, nil
}

// Instruct refuses.
func (Protocol) Instruct(o pay.Offer, _ common.Address, _ time.Time, _ [32]byte) (pay.Instruction, error) {
	return pay.Instruction{}, pay.Refusal(pay.Unsupported, "%s", o.Refused)
}

// Attach refuses.
func (Protocol) Attach(*pay.Request, pay.Offer, pay.Proof) error { return errNever }

// Receipt finds none.
func (Protocol) Receipt(pay.Offer, *pay.Response) (pay.Receipt, error) { return pay.Receipt{}, nil }
