package x402_test

import (
	"fmt"
	"strings"
	"testing"

	"bursar/pay"
	"bursar/pay/paytest"
)

// What version 2 alone can say wrongly; terms that both versions share are in TestRefusals.
func TestV2Refused(t *testing.T) {
	honest := string(permit2Challenge("exact", exactExtra, sponsored))
	with := func(from, to string) *pay.Response {
		if !strings.Contains(honest, from) {
			t.Fatalf("nothing to replace: %s", from)
		}
		return inHeader([]byte(strings.Replace(honest, from, to, 1)))
	}
	upto := func(extra string) *pay.Response { return inHeader(permit2Challenge("upto", extra, "{}")) }
	offer := honest[strings.Index(honest, `[{`)+1 : strings.Index(honest, `}],`)+1]
	for name, c := range map[string]struct {
		resp   *pay.Response
		cause  pay.Cause
		reason string
	}{
		"amount as number":      {with(`"10000"`, `10000`), pay.Malformed, "number"},
		"amount as float":       {with(`"10000"`, `0.01`), pay.Malformed, "number"},
		"amount in hex":         {with(`"10000"`, `"0x2710"`), pay.BadAmount, "amount"},
		"amount negative":       {with(`"10000"`, `"-1"`), pay.BadAmount, "negative"},
		"amount huge":           {with(`"10000"`, `"`+strings.Repeat("9", 78)+`"`), pay.BadAmount, "digits"},
		"amount twice":          {with(`"10000"`, `"1","amount":"10000"`), "", "comes twice"},
		"payee zero":            {with("0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "0x0000000000000000000000000000000000000000"), pay.BadPayee, "zero"},
		"payee token":           {with("0x209693Bc6afc0C5328bA36FaF03C514EF312287C", sepolia.USDC.Hex()), pay.BadPayee, "token"},
		"payee payer":           {with("0x209693Bc6afc0C5328bA36FaF03C514EF312287C", payer.Hex()), pay.BadPayee, "payer"},
		"other network":         {with("eip155:84532", "eip155:8453"), pay.BadNetwork, "the wallet on"},
		"unknown network":       {with("eip155:84532", "eip155:1"), pay.BadNetwork, "eip155:1"},
		"leading zero":          {with("eip155:84532", "eip155:084532"), pay.BadNetwork, "eip155:084532"},
		"other token":           {with(sepolia.USDC.Hex(), base.USDC.Hex()), pay.BadAsset, "not USDC"},
		"short window":          {with(":300", ":10"), pay.BadWindow, "too short"},
		"negative window":       {with(":300", ":-300"), pay.BadWindow, "too short"},
		"window beyond numbers": {with(":300", ":1e40"), pay.Malformed, "number"},
		"other host":            {with("https://api.example.com/", "https://evil.example/"), pay.BadOrigin, "another host"},
		"host with user":        {with("https://api.example.com/", "https://api.example.com@evil.example/"), pay.BadOrigin, "another host"},
		"unknown method":        {with("permit2", "erc7710"), pay.Unsupported, "erc7710"},
		"method in capitals":    {with(`"permit2"`, `"Permit2"`), pay.Unsupported, "Permit2"},
		"upto of nobody":        {upto(""), pay.Malformed, "facilitatorAddress"},
		"upto of zero":          {upto(`,"facilitatorAddress":"0x0000000000000000000000000000000000000000"`), pay.Malformed, "zero"},
		"upto of a name":        {upto(`,"facilitatorAddress":"facilitator.eth"`), pay.Malformed, "facilitatorAddress"},
		"upto of a number":      {upto(`,"facilitatorAddress":1`), pay.Malformed, "number"},
		"upto by eip3009":       {upto(`,"assetTransferMethod":"eip3009"`), pay.Unsupported, "eip3009"},
		"identifier required":   {inHeader(permit2Challenge("exact", exactExtra, `{"payment-identifier":{"info":{"required":true}}}`)), pay.Unsupported, "payment-identifier"},
		"offers null":           {with(offer, "null"), pay.BadAmount, "amount"},
		"offers numbers":        {with(offer, "1"), pay.Malformed, "unreadable"},
		"offers nested":         {with(offer, "["+offer+"]"), pay.Malformed, "unreadable"},
		"5000 offers":           {inBody([]byte(strings.Replace(honest, offer, strings.TrimSuffix(strings.Repeat("{},", 5000), ","), 1))), "", "more offers"},
		"5000 in a header":      {with(offer, strings.TrimSuffix(strings.Repeat("{},", 5000), ",")), "", "longer than"},
		"extensions twice":      {with(`"extensions":`, `"extensions":{},"extensions":`), "", "comes twice"},
		"version 3":             {with(`"x402Version":2`, `"x402Version":3`), "", "not of version 2"},
		"two challenges in one": {inHeader([]byte(honest + honest)), "", "not of version 2"},
		"cut off":               {inHeader([]byte(honest[:len(honest)/2])), "", "not of version 2"},
		"header of 16 KiB":      {with(`"accepts"`, `"x":"`+strings.Repeat("x", pay.MaxHeader)+`","accepts"`), "", "longer than"},
		"nested without end":    {inHeader([]byte(`{"x402Version":2,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}")), "", "nested deeper"},
		"deep objects":          {inHeader(fmt.Appendf(nil, `{"x402Version":2,"x":%s1%s}`, strings.Repeat(`{"a":`, 1000), strings.Repeat("}", 1000))), "", "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			paytest.Refused(t, both, wallet, request(), paytest.Refusal{Response: c.resp, Cause: c.cause, Reason: c.reason})
		})
	}
}

// FuzzV2 holds that whatever passes can be signed and attached, and that the seller's extensions survive.
func FuzzV2(f *testing.F) {
	f.Add([]byte(`{"scheme":"exact","network":"eip155:84532"}`), []byte(sponsored))
	f.Add([]byte(permit2Offer("upto", uptoExtra)), []byte(`{"payment-identifier":{"info":{"required":true}}}`))
	f.Add([]byte(permit2Offer("exact", exactExtra)), []byte(`{"eip2612GasSponsoring":{"info":{"version":"1"}},"sign-in-with-x":{"info":{}}}`))
	f.Fuzz(func(t *testing.T, offer, extensions []byte) {
		resp := inBody(fmt.Appendf(nil, `{"x402Version":2,"accepts":[%s],"extensions":%s}`, offer, extensions))
		q, err := pay.Offers(both, permit2Wallet, request(), resp)
		if err != nil {
			return
		}
		for _, o := range q.Offers {
			in, err := q.Protocol.Instruct(o, payer, now, [32]byte{1})
			if err != nil || o.Asset != sepolia.USDC || o.PayTo == payer || o.Amount <= 0 {
				t.Fatalf("offer %+v, %v", o, err)
			}
			proof := pay.Proof{Authorization: in.Authorization, Permit2: in.Permit2, Signature: make([]byte, 65)}
			req := request()
			if err := q.Protocol.Attach(req, o, proof); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			if _, err := pay.DecodeBase64(req.Header.Get("PAYMENT-SIGNATURE") + req.Header.Get("X-PAYMENT")); err != nil && len(offer)+len(extensions) < 1000 {
				t.Fatal(err)
			}
		}
	})
}

func permit2Offer(scheme, extra string) string {
	c := string(permit2Challenge(scheme, extra, "{}"))
	return c[strings.Index(c, `[{`)+1 : strings.Index(c, `}],`)+1]
}
