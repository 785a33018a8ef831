package x402_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

var (
	sepolia, _ = evm.NetworkByID(evm.BaseSepoliaID)
	base, _    = evm.NetworkByID(evm.BaseID)
	payer      = common.HexToAddress("0x857b06519E91e3A54538791bDbb0E22373e36b66")
	wallet     = pay.Wallet{Network: sepolia, Address: payer}
	now        = time.Unix(1_740_672_089, 0)
	both       = []pay.Protocol{x402.V2{}, x402.V1{}}
)

const called = "https://api.example.com/premium-data?city=x"

type vectors struct {
	V1Challenge json.RawMessage `json:"v1_challenge"`
	V1Proof     json.RawMessage `json:"v1_proof"`
	V2Challenge json.RawMessage `json:"v2_challenge"`
	V2Proof     json.RawMessage `json:"v2_proof"`
	Receipt     json.RawMessage `json:"receipt"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func request() *pay.Request {
	return &pay.Request{Method: http.MethodGet, URL: called, Header: http.Header{}}
}

func inBody(b []byte) *pay.Response {
	return &pay.Response{Status: http.StatusPaymentRequired, Header: http.Header{}, Body: b}
}

func inHeader(b []byte) *pay.Response {
	r := inBody([]byte("{}"))
	r.Header.Set("PAYMENT-REQUIRED", base64.StdEncoding.EncodeToString(b))
	return r
}

func TestConforms(t *testing.T) {
	v := readVectors(t)
	paytest.Conforms(t, x402.V1{}, paytest.Sample{Network: sepolia, Request: *request(), Response: inBody(v.V1Challenge)})
	paytest.Conforms(t, x402.V2{}, paytest.Sample{Network: sepolia, Request: *request(), Response: inHeader(v.V2Challenge)})
	paytest.Conforms(t, x402.V2{}, paytest.Sample{Network: sepolia, Request: *request(), Response: inBody(v.V2Challenge)})
}

// The published example: the same challenge and wallet give the same header.
func TestVectors(t *testing.T) {
	v := readVectors(t)
	for _, c := range []struct {
		p                pay.Protocol
		resp             *pay.Response
		header           string
		want             json.RawMessage
		start, validTill int64
	}{
		{x402.V1{}, inBody(v.V1Challenge), "X-PAYMENT", v.V1Proof, now.Unix() - 600, now.Unix() + 60},
		{x402.V2{}, inHeader(v.V2Challenge), "PAYMENT-SIGNATURE", v.V2Proof, 0, now.Unix() + 60},
	} {
		q, err := pay.Offers([]pay.Protocol{c.p}, wallet, request(), c.resp)
		if err != nil {
			t.Fatal(err)
		}
		o := q.Offers[0]
		if o.Amount != 10_000 || o.Network != sepolia || o.Asset != sepolia.USDC || o.ValidFor != time.Minute || o.Scheme != "exact" {
			t.Errorf("offer %+v", o)
		}
		nonce := common.HexToHash("0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480")
		in, err := c.p.Instruct(o, payer, now, nonce)
		if err != nil {
			t.Fatal(err)
		}
		a := in.Authorization
		if a.ValidAfter != c.start || a.ValidBefore != c.validTill {
			t.Errorf("%s: window %d..%d", c.p.Name(), a.ValidAfter, a.ValidBefore)
		}
		a.ValidAfter, a.ValidBefore = 1740672089, 1740672154 // as in the example
		sig := hexutil.MustDecode("0x2d6a7588d6acca505cbf0d9a4a227e0c52c6c34008c8e8986a1283259764173608a2ce6496642e377d6da8dbbf5836e9bd15092f9ecab05ded3d6293af148b571c")
		who, err := evm.Recover(a.Digest(in.Domain), sig)
		if err != nil || who != payer {
			t.Errorf("%s: the example's signature is by %s (%v)", c.p.Name(), who, err)
		}
		req := request()
		if err := c.p.Attach(req, o, pay.Proof{Authorization: a, Signature: sig}); err != nil {
			t.Fatal(err)
		}
		got := decodeHeader(t, req.Header.Get(c.header))
		if !sameJSON(t, got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.header, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	v := readVectors(t)
	edit := func(change func(offer map[string]any)) (v1, v2 []byte) {
		return editOffer(t, v.V1Challenge, change), editOffer(t, v.V2Challenge, change)
	}
	amount := func(a any) func(map[string]any) {
		return func(o map[string]any) {
			if _, ok := o["amount"]; ok {
				o["amount"] = a
			} else {
				o["maxAmountRequired"] = a
			}
		}
	}
	set := func(key string, value any) func(map[string]any) {
		return func(o map[string]any) { o[key] = value }
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"amount as number":        {amount(10000), "number"},
		"amount with point":       {amount("0.01"), "amount"},
		"amount in hex":           {amount("0x2710"), "amount"},
		"amount with sign":        {amount("+10000"), "amount"},
		"amount negative":         {amount("-10000"), "amount"},
		"amount with exponent":    {amount("1e4"), "amount"},
		"amount with space":       {amount(" 10000"), "amount"},
		"amount empty":            {amount(""), "amount"},
		"amount missing":          {amount(nil), "amount"},
		"amount zero":             {amount("0"), "amount"},
		"amount above max":        {amount("1000000000000001"), "amount"},
		"amount of uint256":       {amount(strings.Repeat("9", 78)), "digits"},
		"scheme upto":             {set("scheme", "upto"), "scheme"},
		"scheme unknown":          {set("scheme", ""), "scheme"},
		"permit2":                 {set("extra", map[string]any{"assetTransferMethod": "permit2"}), "permit2"},
		"network unknown":         {set("network", "eip155:1"), "eip155:1"},
		"network wildcard":        {set("network", "eip155:*"), "network"},
		"network of another":      {set("network", "eip155:8453"), "offer is on base, the wallet on base-sepolia"},
		"network solana":          {set("network", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"), "solana"},
		"asset of mainnet":        {set("asset", base.USDC.Hex()), "not USDC"},
		"asset no address":        {set("asset", "USDC"), "asset"},
		"payTo zero":              {set("payTo", "0x0000000000000000000000000000000000000000"), "zero"},
		"payTo token":             {set("payTo", sepolia.USDC.Hex()), "token"},
		"payTo payer":             {set("payTo", strings.ToLower(payer.Hex())), "payer"},
		"payTo without 0x":        {set("payTo", "209693Bc6afc0C5328bA36FaF03C514EF312287C"), "payTo"},
		"payTo name":              {set("payTo", "vitalik.eth"), "payTo"},
		"window short":            {set("maxTimeoutSeconds", 10), "too short"},
		"window missing":          {set("maxTimeoutSeconds", nil), "too short"},
		"window negative":         {set("maxTimeoutSeconds", -1), "too short"},
		"window text":             {set("maxTimeoutSeconds", "60"), "unreadable"},
		"extra of the wrong kind": {set("extra", "USDC"), "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			v1, v2 := edit(c.change)
			for _, resp := range []*pay.Response{inBody(v1), inHeader(v2), inBody(v2)} {
				_, err := pay.Offers(both, wallet, request(), resp)
				var none *pay.UnpayableError
				if !asUnpayable(err, &none) || len(none.Refused) != 1 || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want a refusal with %q", err, c.want)
				}
			}
		})
	}
}

func TestOddButHonest(t *testing.T) {
	v := readVectors(t)
	q := offers(t, inHeader(editOffer(t, v.V2Challenge, func(o map[string]any) {
		o["extra"] = map[string]any{"name": "USD Coin", "version": "2"}
		o["maxTimeoutSeconds"] = 315360000 // ten years
	})))
	in, err := q.Protocol.Instruct(q.Offers[0], payer, now, [32]byte{})
	if err != nil || in.Domain.Name != "USDC" || len(q.Offers[0].Notes) != 1 {
		t.Errorf("domain %+v, notes %q, %v", in.Domain, q.Offers[0].Notes, err)
	}
	if got := in.Authorization.ValidBefore - now.Unix(); got != 600 {
		t.Errorf("valid for %d s", got)
	}

	// x402-express behind a TLS proxy: http, another port, no query.
	q = offers(t, inBody(editOffer(t, v.V1Challenge, func(o map[string]any) { o["resource"] = "http://api.example.com:3000/premium-data" })))
	if len(q.Offers[0].Notes) != 1 {
		t.Errorf("notes %q", q.Offers[0].Notes)
	}
	_, err = pay.Offers(both, wallet, request(), inBody(editOffer(t, v.V1Challenge, func(o map[string]any) { o["resource"] = "https://evil.example/premium-data" })))
	if err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("resource of another host: %v", err)
	}

	// url-safe and unpadded base64
	r := inBody(nil)
	r.Header.Set("PAYMENT-REQUIRED", base64.RawURLEncoding.EncodeToString(v.V2Challenge))
	offers(t, r)
}

func TestCheapestAndPreference(t *testing.T) {
	v := readVectors(t)
	var c struct {
		Accepts []map[string]any `json:"accepts"`
	}
	must(t, json.Unmarshal(v.V2Challenge, &c))
	offer := func(amount, network string) map[string]any {
		o := map[string]any{}
		for k, x := range c.Accepts[0] {
			o[k] = x
		}
		o["amount"], o["network"] = amount, network
		return o
	}
	many := func(list ...map[string]any) []byte {
		b, err := json.Marshal(map[string]any{"x402Version": 2, "accepts": list})
		must(t, err)
		return b
	}
	q := offers(t, inHeader(many(offer("300", "eip155:84532"), offer("100", "eip155:8453"), offer("200", "eip155:84532"))))
	if len(q.Offers) != 2 || q.Offers[0].Amount != 200 || len(q.Refused) != 1 {
		t.Errorf("quote %+v", q)
	}

	// A header that cannot be paid and a body that can: the body alone is used.
	r := inHeader(many(offer("100", "eip155:1")))
	r.Body = v.V1Challenge
	if q = offers(t, r); q.Protocol.Name() != "x402-v1" {
		t.Errorf("protocol %s", q.Protocol.Name())
	}
	// Both can: version 2 wins.
	r = inHeader(v.V2Challenge)
	r.Body = v.V1Challenge
	if q = offers(t, r); q.Protocol.Name() != "x402-v2" {
		t.Errorf("protocol %s", q.Protocol.Name())
	}
	// A header is present: a v2 body is not looked at.
	r = inHeader(many())
	r.Body = v.V2Challenge
	if _, err := pay.Offers(both, wallet, request(), r); err != pay.ErrNotAsked { //nolint:errorlint // identity is the point
		t.Errorf("empty header, full body: %v", err)
	}

	list := make([]map[string]any, pay.MaxOffers+1)
	for i := range list {
		list[i] = offer("1", "eip155:84532")
	}
	for name, resp := range map[string]*pay.Response{
		"too many":         inBody(many(list...)),
		"long header":      inHeader([]byte(`{"x402Version":2,"accepts":["` + strings.Repeat("x", pay.MaxHeader) + `"]}`)),
		"long body":        inBody([]byte(`{"x402Version":1,"accepts":["` + strings.Repeat("x", pay.MaxBody) + `"]}`)),
		"not base64":       {Status: 402, Header: http.Header{"Payment-Required": {"{}"}}},
		"accepts a string": inBody([]byte(`{"x402Version":1,"accepts":"all"}`)),
	} {
		_, err := pay.Offers(both, wallet, request(), resp)
		var none *pay.UnpayableError
		if !asUnpayable(err, &none) || len(none.Broken) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, body := range []string{"", "<html>", "[]", "{}", `{"x402Version":3,"accepts":[]}`, `{"x402Version":"one"}`} {
		if _, err := pay.Offers(both, wallet, request(), inBody([]byte(body))); err != pay.ErrNotAsked { //nolint:errorlint // identity is the point
			t.Errorf("body %q: %v", body, err)
		}
	}
}
