package x402_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

var (
	trusted    = []common.Address{facilitatorOf}
	trusting   = []pay.Protocol{x402.V2{Spenders: trusted}, x402.V1{Spenders: trusted}}
	allowances = pay.Wallet{Network: sepolia, Address: payer, Also: []pay.InstructionKind{pay.SignPermit}}
)

// uptoV1 is the published example of version 1 as an offer of scheme upto by an allowance.
func uptoV1(t *testing.T, extra map[string]any) *pay.Response {
	return inBody(editOffer(t, readVectors(t).V1Challenge, func(o map[string]any) { o["scheme"], o["extra"] = "upto", extra }))
}

func TestUptoByAllowanceConforms(t *testing.T) {
	extra := map[string]any{"name": "USDC", "version": "2", "facilitator": facilitatorOf.Hex()}
	paytest.Conforms(t, trusting[1], paytest.Sample{Network: sepolia, Request: *request(), Response: uptoV1(t, extra)})
	for _, extra := range []string{`,"spender":"` + facilitatorOf.Hex() + `"`, uptoExtra + `,"assetTransferMethod":"eip2612"`} {
		paytest.Conforms(t, trusting[0], paytest.Sample{Network: sepolia, Request: *request(), Response: inHeader(permit2Challenge("upto", extra, "{}"))})
	}
}

// An allowance goes to nobody who is not trusted, whoever else is, and from no wallet that may not give one.
func TestUptoByAllowanceOff(t *testing.T) {
	own := map[string]any{"facilitator": facilitatorOf.Hex()}
	for name, c := range map[string]struct {
		protocols []pay.Protocol
		wallet    pay.Wallet
		extra     map[string]any
		want      string
	}{
		"nobody is trusted": {both, allowances, own, "not on the list"},
		"another is":        {trusting, allowances, map[string]any{"spender": "0x0000000000000000000000000000000000000bad"}, "not on the list"},
		"no spender":        {trusting, allowances, nil, "no spender"},
		"zero":              {trusting, allowances, map[string]any{"spender": "0x0000000000000000000000000000000000000000"}, "no spender"},
		"two spenders":      {trusting, allowances, map[string]any{"facilitator": facilitatorOf.Hex(), "spender": seller2612}, "two spenders"},
		"a name":            {trusting, allowances, map[string]any{"spender": "facilitator.eth"}, "not an address"},
		"wallet without":    {trusting, wallet, own, "not set up to pay by an allowance"},
	} {
		if _, err := pay.Offers(c.protocols, c.wallet, request(), uptoV1(t, c.extra)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// The list may have changed since the offer was read.
	q, err := pay.Offers(trusting, allowances, request(), uptoV1(t, own))
	must(t, err)
	if _, err := (x402.V1{}).Instruct(q.Offers[0], payer, now, [32]byte{}); err == nil {
		t.Error("an instruction for a spender that is trusted no more")
	}
}

const seller2612 = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"

func TestUptoByAllowanceProof(t *testing.T) {
	q, err := pay.Offers(trusting, allowances, request(), uptoV1(t, map[string]any{"facilitator": strings.ToLower(facilitatorOf.Hex())}))
	must(t, err)
	o := q.Offers[0]
	in, err := q.Protocol.Instruct(o, payer, now, [32]byte{1})
	must(t, err)
	in.Permit.Nonce = 41
	if want := (evm.Permit{Owner: payer, Spender: facilitatorOf, Value: 10_000, Nonce: 41, Deadline: now.Unix() + 60}); *in.Permit != want || !o.UpTo {
		t.Errorf("permit %+v, want %+v", *in.Permit, want)
	}
	key, err := crypto.GenerateKey()
	must(t, err)
	proof, err := paytest.Sign(key, in)
	must(t, err)
	req := request()
	must(t, q.Protocol.Attach(req, o, proof))
	var sent struct {
		Scheme  string
		Payload struct{ Authorization map[string]string }
	}
	must(t, json.Unmarshal(decodeHeader(t, req.Header.Get("X-PAYMENT")), &sent))
	a := sent.Payload.Authorization
	if sent.Scheme != "upto" || a["from"] != payer.Hex() || a["to"] != facilitatorOf.Hex() || a["value"] != "10000" || a["nonce"] != "41" || a["validBefore"] != "1740672149" || len(a) != 5 {
		t.Errorf("sent %+v", sent)
	}
}
