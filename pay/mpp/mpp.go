// Package mpp speaks the HTTP authentication scheme "Payment" (the Machine Payments Protocol): Charge is the scheme of the
// IETF draft with the methods "evm" and "usdc" and the intent "charge"; Plain is IndieGent's older dialect, in which the
// hash of a transfer is the proof.
//
// Wire formats: github.com/tempoxyz/mpp-specs, specs/core/draft-httpauth-payment-00.md,
// specs/methods/evm/draft-evm-charge-00.md, specs/methods/usdc/draft-usdc-charge-00.md; checked against the npm package
// mppx 0.11.0 by official_test.go.
package mpp

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/pay"
)

const (
	scheme        = "Payment"
	headerReceipt = "Payment-Receipt"
)

// AcceptPayment is the value of the request header Accept-Payment: what Charge can pay. Sending it tells a stranger that
// the caller has money, so that is a matter of policy.
const AcceptPayment = "evm/charge, usdc/charge;q=0.9"

// Charge is the intent "charge" of the methods "evm" and "usdc".
type Charge struct{}

var _ pay.Protocol = Charge{}

// Name is "mpp".
func (Charge) Name() string { return "mpp" }

// Offers reads the Payment challenges of a 402 that have what the draft requires.
func (c Charge) Offers(req *pay.Request, resp *pay.Response) ([]pay.Offer, error) {
	if resp == nil || resp.Status != http.StatusPaymentRequired {
		return nil, nil
	}
	challenges, err := pay.Challenges(resp.Header)
	if err != nil {
		return nil, err
	}
	var offers []pay.Offer
	for _, ch := range challenges {
		if !ch.Is(scheme) || isPlain(ch) {
			continue
		}
		if ch.Err != nil {
			return nil, ch.Err
		}
		offers = append(offers, c.read(req, ch.Params))
	}
	return offers, nil
}

// defaultWindow is how long a proof lives when the challenge does not end; mppx signs for as long.
const defaultWindow = 5 * time.Minute

// read turns one challenge into an offer; what cannot be paid gets its reason.
func (c Charge) read(req *pay.Request, params map[string]string) pay.Offer {
	e := readEcho(params)
	o := pay.Offer{
		Protocol: c.Name(), Kind: pay.SignAuthorization, Scheme: pay.Text(e.Method + "/" + e.Intent), Resource: pay.Text(e.Description), ValidFor: defaultWindow,
	}
	o.Refuse(e.check(params, req))
	if o.Refused != "" {
		return o
	}
	if e.Expires != "" {
		end, err := time.Parse(time.RFC3339, e.Expires)
		if err != nil {
			o.Refuse(pay.Refusal(pay.Malformed, "expires %q is not a time", pay.Text(e.Expires)))
			return o
		}
		o.Expires, o.ValidFor = max(1, end.Unix()), pay.MaxWindow // Window takes the earlier of the two; 0 would be no end
	}
	t := taken{Challenge: e}
	text, err := e.request()
	if err != nil {
		o.Refuse(err)
		return o
	}
	if e.Method == methodUSDC {
		t.RequestHash = crypto.Keccak256Hash(text)
	}
	t.Credential = readTerms(&o, e.Method, text)
	if t.Credential == credentialHash {
		o.Kind = pay.Transfer
	}
	o.Extra, err = json.Marshal(t)
	o.Refuse(err)
	return o
}

// Instruct asks for an EIP-3009 signature under the nonce that the challenge dictates, or for a transfer. One challenge has
// one nonce, so that two signatures for it cannot both be settled.
func (Charge) Instruct(o pay.Offer, payer common.Address, now time.Time, _ [32]byte) (pay.Instruction, error) {
	if err := pay.CheckAgain(o, payer); err != nil {
		return pay.Instruction{}, err
	}
	validBefore, err := pay.Window(o, now)
	if err != nil {
		return pay.Instruction{}, err
	}
	t, err := stored(o)
	if err != nil {
		return pay.Instruction{}, err
	}
	if t.Credential == credentialHash {
		return pay.Instruction{Kind: pay.Transfer, To: o.PayTo, Amount: o.Amount}, nil
	}
	return pay.Instruction{
		Kind:   pay.SignAuthorization,
		Domain: o.Network.Domain(),
		Authorization: evm.Authorization{
			From: payer, To: o.PayTo, Value: o.Amount, Nonce: t.nonce(), ValidAfter: 0, ValidBefore: validBefore,
		},
	}, nil
}
