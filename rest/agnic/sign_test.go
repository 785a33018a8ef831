package agnic_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

// TestSignPayment: the published example's shape in and out. Its offer names the token otherwise than its contract does: the
// true name is signed, and the caller is warned.
func TestSignPayment(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	n := l.Net.Client.Network()
	ask := func() *reply {
		offer := `{"scheme":"exact","network":"` + n.Name + `","maxAmountRequired":"250000","maxTimeoutSeconds":60,"resource":"https://api.example.com/data","asset":"` +
			n.USDC.Hex() + `","payTo":"` + l.seller.PayTo.Hex() + `","extra":{"name":"Another Coin","version":"2"}}`
		return l.send("POST", "/api/sign-payment", `{"paymentRequirements":{"accepts":[`+offer+`]},"requestData":{"url":"https://api.example.com/data","method":"get"}}`,
			"X-Agnic-Token", p.token, "Idempotency-Key", "one")
	}
	a := ask()
	if a.status != http.StatusOK || a.json["success"] != true || a.json["headerName"] != "X-Payment" || a.json["amountPaid"] != json.Number("0.25") || a.json["warning"] == nil {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Error("a proof may be cached")
	}
	text, err := base64.StdEncoding.DecodeString(a.json["paymentHeader"].(string))
	l.no(err)
	var proof struct {
		Payload struct{ Authorization struct{ Value, To string } }
	}
	l.no(json.Unmarshal(text, &proof))
	if proof.Payload.Authorization.Value != "250000" || proof.Payload.Authorization.To != l.seller.PayTo.Hex() {
		t.Errorf("%s", text)
	}
	if b := ask(); string(b.body) != string(a.body) {
		t.Errorf("the same request: %s\nand %s", a.body, b.body)
	}
	l.refused(l.send("POST", "/api/sign-payment", `{}`, "X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", "")
}
