package agentpay_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"bursar/pay"
	"bursar/pay/paytest"
)

func text(body string) *pay.Response {
	return &pay.Response{Status: http.StatusPaymentRequired, Header: http.Header{}, Body: []byte(body)}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		resp   *pay.Response
		cause  pay.Cause
		reason string
	}{
		"amount as number":         {asked(with(older, "amount", 1)), "", "number"},
		"amount as float":          {asked(with(older, "amount", 0.5)), "", "number"},
		"amount in hex":            {asked(with(older, "amount", "0x10")), pay.BadAmount, "amount"},
		"amount huge":              {asked(with(older, "amount", strings.Repeat("9", 20))), pay.BadAmount, "range"},
		"amount endless":           {asked(with(older, "amount", strings.Repeat("9", 100))), pay.BadAmount, "characters"},
		"amount negative":          {asked(with(older, "amount", "-0.50")), pay.BadAmount, "negative"},
		"amount with plus":         {asked(with(older, "amount", "+0.50")), pay.BadAmount, "amount"},
		"amount with exponent":     {asked(with(older, "amount", "5e-1")), pay.BadAmount, "amount"},
		"amount with comma":        {asked(with(older, "amount", "1,000")), pay.BadAmount, "amount"},
		"amount with dollar sign":  {asked(with(older, "amount", "$0.50")), pay.BadAmount, "amount"},
		"amount with space":        {asked(with(older, "amount", "0.50 ")), pay.BadAmount, "amount"},
		"amount of seven decimals": {asked(with(older, "amount", "0.5000000")), pay.BadAmount, "decimals"},
		"amount of two points":     {asked(with(older, "amount", "0.5.0")), pay.BadAmount, "amount"},
		"amount without whole":     {asked(with(older, "amount", ".5")), pay.BadAmount, "amount"},
		"amount without fraction":  {asked(with(older, "amount", "5.")), pay.BadAmount, "amount"},
		"amount zero":              {asked(with(older, "amount", "0.00")), pay.BadAmount, "range"},
		"amount missing":           {asked(with(older, "amount", nil)), pay.BadAmount, "amount"},
		"payee zero":               {asked(with(older, "recipient", "0x0000000000000000000000000000000000000000")), pay.BadPayee, "zero"},
		"payee token":              {asked(with(older, "recipient", sepolia.USDC.Hex())), pay.BadPayee, "token"},
		"payee payer":              {asked(with(older, "recipient", strings.ToLower(payer.Hex()))), pay.BadPayee, "payer"},
		"payee a name":             {asked(with(older, "recipient", "vitalik.eth")), pay.Malformed, "recipient"},
		"payee a list":             {asked(with(older, "recipient", []string{seller.Hex()})), "", "array"},
		"other network":            {asked(with(older, "chain", "base")), pay.BadNetwork, "the wallet on"},
		"unknown network":          {asked(with(older, "chain", "ethereum")), pay.BadNetwork, "ethereum"},
		"empty network":            {asked(with(older, "chain", "")), pay.BadNetwork, `network ""`},
		"other token":              {asked(with(older, "token", "ETH")), pay.BadAsset, "ETH"},
		"other currency":           {asked(with(newer, "currency", "EUR")), pay.BadAsset, "EUR"},
		"token and other currency": {asked(with(older, "currency", "EUR")), pay.BadAsset, "EUR"},
		"neither":                  {asked(with(newer, "currency", nil)), pay.BadAsset, "neither"},
		"duplicate keys":           {text(`{"error":"payment_required","recipient":"x","amount":"1","amount":"2"}`), "", "comes twice"},
	} {
		t.Run(name, func(t *testing.T) {
			paytest.Refused(t, []pay.Protocol{protocol}, wallet, request(), paytest.Refusal{Response: c.resp, Cause: c.cause, Reason: c.reason})
		})
	}
}

// What is no challenge of this protocol goes to the agent as it is, or to another protocol.
func TestNotAsked(t *testing.T) {
	late := asked(older)
	late.Status = http.StatusBadRequest
	for name, resp := range map[string]*pay.Response{
		"another error": asked(with(older, "error", "Payment Required")), "no recipient": asked(with(older, "recipient", nil)),
		"no JSON": text("payment_required"), "a list": text("[]"), "another status": late,
		"x402 as well": asked(with(older, "x402Version", 1)), "too long": asked(with(older, "memo", strings.Repeat("x", pay.MaxBody))),
	} {
		if q, err := offers(protocol, resp); !errors.Is(err, pay.ErrNotAsked) {
			t.Errorf("%s: %+v, %v", name, q, err)
		}
	}
}

// FuzzOffers holds that no body panics, and that nothing passes that must not be paid.
func FuzzOffers(f *testing.F) {
	f.Add(asked(older).Body)
	f.Add(asked(newer).Body)
	f.Add([]byte(`{"error":"payment_required","recipient":null,"amount":"1e9","token":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := offers(protocol, text(string(body)))
		if err != nil {
			return
		}
		for _, o := range q.Offers {
			in, err := protocol.Instruct(o, payer, paytest.Time, [32]byte{})
			if err != nil || in.Amount <= 0 || in.To == payer || in.To == sepolia.USDC || o.Network.ChainID != sepolia.ChainID {
				t.Fatalf("offer %+v, %v", o, err)
			}
		}
	})
}
