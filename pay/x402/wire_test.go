package x402_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

func TestReceipt(t *testing.T) {
	v := readVectors(t)
	o := pay.Offer{Amount: 10_000}
	tx := common.HexToHash("0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef")
	with := func(key string, value any) []byte {
		var m map[string]any
		must(t, json.Unmarshal(v.Receipt, &m))
		m[key] = value
		b, err := json.Marshal(m)
		must(t, err)
		return b
	}
	paid := pay.Receipt{Known: true, Success: true, TxHash: tx, Amount: 10_000}
	less := paid
	less.Amount = 1
	noHash := paid
	noHash.TxHash = common.Hash{}
	for name, c := range map[string]struct {
		body []byte
		want pay.Receipt
	}{
		"example":     {v.Receipt, paid},
		"less":        {with("amount", "1"), less},
		"more":        {with("amount", "99999"), paid},
		"bad amount":  {with("amount", "x"), paid},
		"bad hash":    {with("transaction", "0x12"), noHash},
		"failure":     {[]byte(`{"success":false,"errorReason":"insufficient_funds","transaction":""}`), pay.Receipt{Known: true, Reason: "insufficient_funds"}},
		"unprintable": {[]byte(`{"success":false,"errorReason":"a\nb","transaction":""}`), pay.Receipt{Known: true, Reason: "a b"}},
	} {
		for header, p := range map[string]pay.Protocol{"X-PAYMENT-RESPONSE": x402.V1{}, "PAYMENT-RESPONSE": x402.V2{}} {
			resp := &pay.Response{Status: 200, Header: http.Header{}}
			resp.Header.Set(header, base64.StdEncoding.EncodeToString(c.body))
			if got, err := p.Receipt(o, resp); err != nil || got != c.want {
				t.Errorf("%s %s: %+v, %v", p.Name(), name, got, err)
			}
		}
	}
	resp := &pay.Response{Status: 200, Header: http.Header{"Payment-Response": {"***"}}}
	if r, err := (x402.V2{}).Receipt(o, resp); err == nil || r.Known {
		t.Errorf("garbage: %+v, %v", r, err)
	}
	if r, err := (x402.V1{}).Receipt(o, inBody(v.V1Challenge)); err != nil || r.Known || r.Reason != "X-PAYMENT header is required" {
		t.Errorf("402 again: %+v, %v", r, err)
	}
	if r, err := (x402.V2{}).Receipt(o, inHeader(v.V2Challenge)); err != nil || r.Known || r.Reason != "PAYMENT-SIGNATURE header is required" {
		t.Errorf("402 again: %+v, %v", r, err)
	}
}

// What the seller wrote comes back byte for byte: unknown fields, order, spaces, escapes.
func TestEcho(t *testing.T) {
	accepted := `{ "zebra": 1.50e3, "scheme":"exact","network":"eip155:84532","amount":"0010","asset":"0x036cbd53842c5426634e7929541ec2318f3dcf7e", "payTo":"0x209693bc6afc0c5328ba36faf03c514ef312287c","maxTimeoutSeconds":60,"extra":{"html":"<a&b>","name":"USDC","version":"2"}}`
	resource := `{"url":"https://api.example.com/premium-data","note":"<&> \u00e9 é"}`
	extensions := `{"bazaar":{"info":{"b":1,"a":2}}}`
	q := offers(t, inHeader([]byte(`{"x402Version":2,"resource":`+resource+`,"accepts":[`+accepted+`],"extensions":`+extensions+`}`)))
	b, err := json.Marshal(q.Offers[0]) // offers can be stored between two steps
	must(t, err)
	var stored pay.Offer
	must(t, json.Unmarshal(b, &stored))
	got := attached(t, q.Protocol, q.Offers[0])
	for _, want := range []string{`"accepted":` + accepted + `,`, `"resource":` + resource + `,`, `"extensions":` + extensions + `}`, `"value":"10"`} {
		if !strings.Contains(got, want) {
			t.Errorf("lost %s\nin %s", want, got)
		}
	}
	if again := attached(t, q.Protocol, stored); !sameJSON(t, []byte(got), []byte(again)) {
		t.Errorf("stored offer attaches %s", again)
	}
}

// A payment is named to sellers that ask for it, when the caller has a name; nothing of the seller's is changed.
func TestPaymentIdentifier(t *testing.T) {
	v := readVectors(t)
	with := func(extension string) *pay.Response {
		var c map[string]json.RawMessage
		must(t, json.Unmarshal(v.V2Challenge, &c))
		c["extensions"] = json.RawMessage(`{"payment-identifier":` + extension + `}`)
		b, err := json.Marshal(c)
		must(t, err)
		return inHeader(b)
	}
	required, optional := `{"info":{"required":true},"schema":{}}`, `{"info":{"required":false},"schema":{}}`
	name := pay.PaymentIdentifier([16]byte{1})
	sent := func(p x402.V2, extension, identifier string) (string, error) {
		q, err := pay.Offers([]pay.Protocol{p}, wallet, request(), with(extension))
		if err != nil {
			return "", err
		}
		in, err := p.Instruct(q.Offers[0], payer, now, [32]byte{31: 7})
		must(t, err)
		req := request()
		err = p.Attach(req, q.Offers[0], pay.Proof{Authorization: in.Authorization, Signature: make([]byte, 65), Identifier: identifier})
		text := string(decodeHeader(t, req.Header.Get("PAYMENT-SIGNATURE")))
		return text[max(0, strings.Index(text, `"extensions":`)):], err
	}
	for _, c := range []struct {
		p                           x402.V2
		extension, identifier, want string // want empty: refused
	}{
		{x402.V2{}, required, name, ""},
		{x402.V2{Identifiers: true}, required, "", ""},
		{x402.V2{Identifiers: true}, required, "short", ""},
		{x402.V2{Identifiers: true}, required, "spaces are not allowed", ""},
		{x402.V2{Identifiers: true}, required, strings.Repeat("x", 129), ""},
		{x402.V2{Identifiers: true}, `{"info":{"required":true,"id":"of_the_sellers_choice"}}`, name, ""},
		{x402.V2{Identifiers: true}, required, name, `{"info":{"required":true,"id":"` + name + `"},"schema":{}}`},
		{x402.V2{Identifiers: true}, optional, name, `{"info":{"required":false,"id":"` + name + `"},"schema":{}}`},
		{x402.V2{}, optional, "", optional},
		{x402.V2{}, `{"info":{"id":"of_the_sellers_choice"}}`, name, `{"info":{"id":"of_the_sellers_choice"}}`},
		{x402.V2{}, `{"info":{}}`, "", `{"info":{}}`},
		{x402.V2{}, `"odd"`, name, `"odd"`},
		{x402.V2{}, `null`, name, `null`},
	} {
		got, err := sent(c.p, c.extension, c.identifier)
		if (c.want == "") != (err != nil) || (err == nil && got != `"extensions":{"payment-identifier":`+c.want+`}}`) {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}

// The same for each try of one payment, another for another, and in the form that sellers demand.
func TestIdentifierOfPayment(t *testing.T) {
	a, b := pay.PaymentIdentifier([16]byte{1}), pay.PaymentIdentifier([16]byte{2})
	if a != pay.PaymentIdentifier([16]byte{1}) || a == b || len(a) != 64 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%q, %q", a, b)
	}
}

// Whatever a seller of ours asks and a payer of ours signs survives the wire unchanged.
func TestRoundTrip(t *testing.T) {
	address := rapid.Custom(func(t *rapid.T) common.Address {
		return common.BytesToAddress(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "address"))
	})
	rapid.Check(t, func(t *rapid.T) {
		ask := x402.Ask{
			Version: rapid.IntRange(1, 2).Draw(t, "version"), Network: rapid.SampledFrom(evm.Networks()).Draw(t, "network"),
			Amount: money.USDC(rapid.Int64Range(1, int64(money.Max)).Draw(t, "amount")), PayTo: address.Draw(t, "payTo"),
			Resource: "https://api.example.com/premium-data", Description: rapid.String().Draw(t, "description"),
			ValidFor: time.Duration(rapid.IntRange(11, 1_000).Draw(t, "seconds")) * time.Second,
		}
		from := address.Draw(t, "payer")
		rec := newRecorder()
		if err := ask.Challenge(rec, "pay"); err != nil {
			t.Fatal(err)
		}
		if ask.PayTo == (common.Address{}) || ask.PayTo == from {
			t.Skip("refused")
		}
		q, err := pay.Offers(both, pay.Wallet{Network: ask.Network, Address: from}, request(), &pay.Response{Status: rec.status, Header: rec.header, Body: rec.body})
		if err != nil {
			t.Fatal(err)
		}
		in, err := q.Protocol.Instruct(q.Offers[0], from, now, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		proof := pay.Proof{Authorization: in.Authorization, Signature: rapid.SliceOfN(rapid.Byte(), 65, 65).Draw(t, "signature")}
		req := request()
		if err := q.Protocol.Attach(req, q.Offers[0], proof); err != nil {
			t.Fatal(err)
		}
		got, err := ask.Proof(req.Header)
		if err != nil || !reflect.DeepEqual(got, proof) {
			t.Fatalf("got %+v (%v), want %+v", got, err, proof)
		}
	})
}

// FuzzOffers holds that no challenge panics, and that nothing passes that must not be signed.
func FuzzOffers(f *testing.F) {
	f.Add([]byte(`{"x402Version":1,"accepts":[{"scheme":"exact"}]}`))
	f.Add([]byte(`{"x402Version":2,"resource":null,"accepts":[null,1,{}],"extensions":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range []*pay.Response{inBody(b), inHeader(b)} {
			q, err := pay.Offers(both, wallet, request(), r)
			if err != nil {
				continue
			}
			for _, o := range q.Offers {
				if o.Asset != sepolia.USDC || o.PayTo == (common.Address{}) || o.Amount <= 0 {
					t.Fatalf("offer %+v", o)
				}
			}
		}
	})
}
