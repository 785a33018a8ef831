package mpp_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"bursar/pay"
	"bursar/pay/mpp"
	"bursar/pay/x402"
)

// A seller may ask in many ways at once. The cheapest way that the wallet may take is first, over all protocols; at the
// same price the order of the protocols decides, and a transfer comes last.
func TestSeveralProtocols(t *testing.T) {
	protocols := []pay.Protocol{mpp.Plain{}, mpp.Charge{}, x402.V2{}, x402.V1{}}
	offer := func(price, name, extra string) string {
		return fmt.Sprintf(`{"scheme":"exact",%q:%q,"asset":%q,"payTo":%q,"maxTimeoutSeconds":60,"extra":{%s}`, name, price, sepolia.USDC.Hex(), seller.Hex(), extra)
	}
	for _, c := range []struct {
		charge, second, first, transfer string   // prices; empty: not asked so
		want                            []string // protocols of the offers, best first
	}{
		{"100", "100", "100", "100", []string{"mpp", "x402-v2", "x402-v1", "mpp-indiegent"}},
		{"300", "200", "100", "400", []string{"x402-v1", "x402-v2", "mpp", "mpp-indiegent"}},
		{"300", "200", "100", "50", []string{"mpp-indiegent", "x402-v1", "x402-v2", "mpp"}},
		{"300", "0x1", "-1", "", []string{"mpp"}},
		{"", "200", "", "200", []string{"x402-v2", "mpp-indiegent"}},
	} {
		resp := asked()
		if c.charge != "" {
			resp.Header.Add("WWW-Authenticate", challenge(map[string]string{"request": encode(terms(func(r, _ map[string]any) { r["amount"] = c.charge }))}))
		}
		if c.transfer != "" {
			resp.Header.Add("WWW-Authenticate", `Payment type="exact", chain="base-sepolia", currency="USDC", amount="`+c.transfer+`", address="`+seller.Hex()+`"`)
		}
		if c.second != "" {
			text := `{"x402Version":2,"accepts":[` + offer(c.second, "amount", "") + `,"network":"eip155:84532"}]}`
			resp.Header.Set("PAYMENT-REQUIRED", base64.StdEncoding.EncodeToString([]byte(text)))
		}
		if c.first != "" {
			resp.Body = []byte(`{"x402Version":1,"accepts":[` + offer(c.first, "maxAmountRequired", "") + `,"network":"base-sepolia"}]}`)
		}
		q, err := pay.Offers(protocols, everything, request(), resp)
		must(t, err)
		var got []string
		for _, o := range q.Offers {
			got = append(got, o.Protocol)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) || q.Protocol.Name() != c.want[0] {
			t.Errorf("%+v: %s, first %s", c, got, q.Protocol.Name())
		}

		// The proof is that of the chosen protocol alone.
		in, err := q.Protocol.Instruct(q.Offers[0], payer, now, [32]byte{1})
		must(t, err)
		req := request()
		must(t, q.Protocol.Attach(req, q.Offers[0], pay.Proof{Authorization: in.Authorization, Signature: make([]byte, 65), TxHash: [32]byte{1}}))
		if len(req.Header) != 1 {
			t.Errorf("%+v: proofs %v", c, req.Header)
		}
	}

	// What one protocol cannot read does not keep another from being paid, and is told.
	resp := asked(observed)
	resp.Header.Set("PAYMENT-REQUIRED", "***")
	q, err := pay.Offers(protocols, everything, request(), resp)
	if err != nil || len(q.Offers) != 1 || len(q.Broken) != 1 {
		t.Errorf("%+v, %v", q, err)
	}
}
