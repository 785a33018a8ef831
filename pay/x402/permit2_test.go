package x402_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

const sponsored = `{"eip2612GasSponsoring":{"info":{"description":"gasless <permit>","version":"1"},"schema":{"b":1,"a":2}},"bazaar":{"info":{}}}`

var facilitatorOf = common.HexToAddress("0x00000000000000000000000000000000000FAc11")

// permit2Challenge asks 10000 by Permit2; extra is merged into the requirement's extra.
func permit2Challenge(scheme, extra, extensions string) []byte {
	return fmt.Appendf(nil, `{"x402Version":2,"resource":{"url":"https://api.example.com/premium-data"},"accepts":[{"scheme":%q,"network":"eip155:84532","amount":"10000",
		"asset":%q,"payTo":"0x209693Bc6afc0C5328bA36FaF03C514EF312287C","maxTimeoutSeconds":300,"extra":{"name":"USDC","version":"2"%s}}],"extensions":%s}`,
		scheme, sepolia.USDC.Hex(), extra, extensions)
}

const (
	exactExtra = `,"assetTransferMethod":"permit2"`
	uptoExtra  = `,"facilitatorAddress":"0x00000000000000000000000000000000000FAc11"`
)

var permit2Wallet = pay.Wallet{Network: sepolia, Address: payer, Also: []pay.InstructionKind{pay.SignPermit2}}

func TestPermit2Conforms(t *testing.T) {
	for _, c := range []struct{ scheme, extra, extensions string }{
		{"exact", exactExtra, "{}"}, {"exact", exactExtra, sponsored}, {"upto", uptoExtra, "{}"}, {"upto", uptoExtra + exactExtra, sponsored},
	} {
		paytest.Conforms(t, x402.V2{}, paytest.Sample{Network: sepolia, Request: *request(), Response: inHeader(permit2Challenge(c.scheme, c.extra, c.extensions))})
	}
}

// A wallet signs permit2 only when somebody has said so, and version 1 never does.
func TestPermit2Off(t *testing.T) {
	for _, c := range []struct {
		scheme, extra, want string
		wallet              pay.Wallet
	}{
		{"exact", exactExtra, "not set up to pay by permit2", wallet},
		{"upto", uptoExtra, "not set up to pay by permit2", wallet},
		{"upto", "", "facilitatorAddress", permit2Wallet},
		{"upto", `,"facilitatorAddress":"0x0000000000000000000000000000000000000000"`, "zero address", permit2Wallet},
		{"upto", uptoExtra + `,"assetTransferMethod":"eip2612"`, "not on the list", permit2Wallet},
		{"deferred", exactExtra, "deferred", permit2Wallet},
	} {
		_, err := pay.Offers(both, c.wallet, request(), inHeader(permit2Challenge(c.scheme, c.extra, "{}")))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.scheme, err, c.want)
		}
	}
}

// What is signed and sent: exactly the amount, the compiled-in spender, and the seller's extensions as they came. A permit that
// the seller would hand in is not made.
func TestPermit2Proof(t *testing.T) {
	key, err := crypto.GenerateKey()
	must(t, err)
	w := permit2Wallet
	w.Address = crypto.PubkeyToAddress(key.PublicKey)
	for _, upto := range []bool{false, true} {
		challenge, spender, witness := permit2Challenge("exact", exactExtra, sponsored), evm.ExactProxy, ""
		if upto {
			challenge, spender = permit2Challenge("upto", uptoExtra, sponsored), evm.UptoProxy
			witness = `"facilitator":"` + facilitatorOf.Hex() + `",`
		}
		q, err := pay.Offers(both, w, request(), inHeader(challenge))
		must(t, err)
		o := q.Offers[0]
		in, err := q.Protocol.Instruct(o, w.Address, now, [32]byte{30: 1, 31: 2})
		must(t, err)
		proof, err := paytest.Sign(key, in)
		must(t, err)
		req := request()
		must(t, q.Protocol.Attach(req, o, proof))
		text := string(decodeHeader(t, req.Header.Get("PAYMENT-SIGNATURE")))
		for _, want := range []string{
			`"permit2Authorization":{"from":"` + w.Address.Hex() + `","permitted":{"token":"` + sepolia.USDC.Hex() + `","amount":"10000"},"spender":"` + spender.Hex() +
				`","nonce":"258","deadline":"1740672389","witness":{"to":"` + o.PayTo.Hex() + `",` + witness + `"validAfter":"0"}}`,
			`"extensions":` + sponsored + `}`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("lost %s\nin %s", want, text)
			}
		}
	}
}

// At the same price a plain authorization goes first, then exact, then a maximum.
func TestPermit2Preference(t *testing.T) {
	var c struct {
		X402Version int               `json:"x402Version"`
		Accepts     []json.RawMessage `json:"accepts"`
	}
	c.X402Version = 2
	for _, one := range [][]byte{permit2Challenge("upto", uptoExtra, "{}"), permit2Challenge("exact", exactExtra, "{}"), permit2Challenge("exact", "", "{}")} {
		var single struct{ Accepts []json.RawMessage }
		must(t, json.Unmarshal(one, &single))
		c.Accepts = append(c.Accepts, single.Accepts...)
	}
	b, err := json.Marshal(c)
	must(t, err)
	q, err := pay.Offers(both, permit2Wallet, request(), inHeader(b))
	must(t, err)
	if len(q.Offers) != 3 || q.Offers[0].Kind != pay.SignAuthorization || q.Offers[1].UpTo || !q.Offers[2].UpTo {
		t.Errorf("%+v", q.Offers)
	}
}

// A maximum may be charged in part, or not at all.
func TestUptoReceipt(t *testing.T) {
	for text, want := range map[string]pay.Receipt{
		`{"success":true,"transaction":"","amount":"0"}`:     {Known: true, Success: true},
		`{"success":true,"transaction":"","amount":"123"}`:   {Known: true, Success: true, Amount: 123},
		`{"success":true,"transaction":"","amount":"99999"}`: {Known: true, Success: true, Amount: 10_000},
	} {
		resp := inHeader(nil)
		resp.Header.Set("PAYMENT-RESPONSE", encode64(text))
		if got, err := (x402.V2{}).Receipt(pay.Offer{Amount: 10_000, UpTo: true}, resp); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
