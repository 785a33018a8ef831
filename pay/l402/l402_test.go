package l402_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/pay"
	"bursar/pay/l402"
)

// Amounts of the examples in BOLT 11, and what is none.
func TestReadInvoice(t *testing.T) {
	for invoice, want := range map[string]l402.Asked{
		"lnbc1pvjluezpp5qqqsyq":     {Network: "bitcoin"},
		"lnbc2500u1pvjluezpp5qqqsy": {Network: "bitcoin", MilliSat: 250_000_000},
		"LNBC2500U1PVJLUEZPP5QQQSY": {Network: "bitcoin", MilliSat: 250_000_000},
		"lnbc20m1pvjluezpp5qqqsyqc": {Network: "bitcoin", MilliSat: 2_000_000_000},
		"lntb20m1pvjluezhp58yjmdan": {Network: "bitcoin-testnet", MilliSat: 2_000_000_000},
		"lntbs10n1pvjluez":          {Network: "bitcoin-signet", MilliSat: 1000},
		"lnbcrt500n1pvjluez":        {Network: "bitcoin-regtest", MilliSat: 50_000},
		"lnbc9678785340p1pwmna7lpp": {Network: "bitcoin", MilliSat: 967_878_534},
		"lnbc21pvjluez":             {Network: "bitcoin", MilliSat: 200_000_000_000},
		"lnbc2500001p1pvjluez":      {Problem: "a fraction of a millisatoshi"},
		"lnbcp1pvjluez":             {Problem: "a fraction of a millisatoshi"},
		"lnbcm1pvjluez":             {Problem: "an amount that cannot be read"},
		"lnbc0m1pvjluez":            {Problem: "an amount that cannot be read"},
		"lnbc-5m1pvjluez":           {Problem: "an amount that cannot be read"},
		"lnbc2.5m1pvjluez":          {Problem: "an amount that cannot be read"},
		"lnbc99999999999999991pvjl": {Problem: "an amount that cannot be read"},
		"lnltc10m1pvjluez":          {Problem: "an invoice of an unknown network"},
		"hello":                     {Problem: "no invoice"},
		"":                          {Problem: "no invoice"},
	} {
		if got := l402.ReadInvoice(invoice); got != want {
			t.Errorf("%q: %+v", invoice, got)
		}
	}
}

// Both names of the scheme are refused, with what they ask, also between other schemes; the answer is never a failure.
func TestRecognised(t *testing.T) {
	for _, line := range []string{
		`L402 macaroon="AGIAJEemVQUTEyNCR0exk7ek90Cg==", invoice="lnbc1500n1pw5kjhmpp5fu6"`,
		`LSAT macaroon="AGIA", invoice="lnbc1500n1pw5kjhmpp5fu6"`,
		`Basic realm="a, b", l402 token="AGIA", invoice="lnbc1500n1pw5kjhmpp5fu6", Bearer`,
	} {
		resp := &pay.Response{Status: http.StatusPaymentRequired, Header: http.Header{"Www-Authenticate": {line}}}
		_, err := pay.Offers([]pay.Protocol{l402.Protocol{}}, pay.Wallet{}, &pay.Request{}, resp)
		var none *pay.UnpayableError
		if !errors.As(err, &none) || len(none.Refused) != 1 || !strings.Contains(err.Error(), "a Lightning payment of 150 satoshi on bitcoin") {
			t.Fatalf("%s: %v", line, err)
		}
		o := none.Refused[0]
		var asked l402.Asked
		if err := json.Unmarshal(o.Extra, &asked); err != nil || o.Cause != pay.Unsupported || asked.MilliSat != 150_000 {
			t.Errorf("%s: %+v", line, o)
		}
		if _, err := (l402.Protocol{}).Instruct(o, common.Address{}, time.Time{}, [32]byte{}); err == nil {
			t.Error("an instruction")
		}
		if (l402.Protocol{}).Attach(&pay.Request{}, o, pay.Proof{TxHash: common.HexToHash("0x1")}) == nil {
			t.Error("a proof")
		}
	}
}

// FuzzReadInvoice holds that no invoice panics or asks a negative amount.
func FuzzReadInvoice(f *testing.F) {
	f.Add("lnbc2500u1pvjluezpp5qqqsy")
	f.Add("lnbc99999999999999999999p1")
	f.Fuzz(func(t *testing.T, s string) {
		if a := l402.ReadInvoice(s); a.MilliSat < 0 || (a.Problem != "") == (a.Network != "") {
			t.Fatalf("%q: %+v", s, a)
		}
	})
}
