package x402

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/pay"
)

// V1 is x402 version 1: the body of the 402 asks, X-PAYMENT proves, X-PAYMENT-RESPONSE is the receipt.
type V1 struct {
	// Spenders are the facilitators that may be given an allowance by scheme upto. Nobody, unless the operator says so.
	Spenders []common.Address
}

var _ pay.Protocol = V1{}

// challengeV1 is the body of a 402 (specs/x402-specification-v1.md, 5.1).
type challengeV1 struct {
	X402Version int               `json:"x402Version"`
	Error       string            `json:"error"`
	Accepts     []json.RawMessage `json:"accepts"`
}

type requirementV1 struct {
	terms
	MaxAmountRequired string `json:"maxAmountRequired"`
	Resource          string `json:"resource"`
}

// proofV1 is X-PAYMENT before base64 (specs/x402-specification-v1.md, 5.2).
type proofV1 struct {
	X402Version int    `json:"x402Version"`
	Scheme      string `json:"scheme"`
	Network     string `json:"network"`
	Payload     any    `json:"payload"`
}

// Name is "x402-v1".
func (V1) Name() string { return "x402-v1" }

// Offers reads the body of a 402.
func (v V1) Offers(req *pay.Request, resp *pay.Response) ([]pay.Offer, error) {
	if resp == nil || resp.Status != http.StatusPaymentRequired || !isJSONObject(resp.Body) {
		return nil, nil
	}
	if len(resp.Body) > pay.MaxBody {
		return nil, errors.New("402 body is too long")
	}
	if versionOf(resp.Body) != 1 {
		return nil, nil
	}
	var c challengeV1
	if err := pay.ReadJSON(resp.Body, &c); err != nil {
		return nil, fmt.Errorf("402 body: %w", err)
	}
	if len(c.Accepts) > pay.MaxOffers {
		return nil, errTooMany
	}
	offers := make([]pay.Offer, 0, len(c.Accepts))
	for _, raw := range c.Accepts {
		offers = append(offers, v.read(req, raw))
	}
	return offers, nil
}

func (v V1) read(req *pay.Request, raw json.RawMessage) pay.Offer {
	var r requirementV1
	if err := json.Unmarshal(raw, &r); err != nil {
		return unreadable(v.Name(), r.Scheme, raw, err)
	}
	o := r.terms.read(v.Name(), r.MaxAmountRequired, r.Resource, raw, v.Spenders)
	checkHost(&o, req.URL)
	return o
}

// validAfterSlack is what the official v1 client subtracts, because the clocks of nodes differ (x402 #99, #208).
const validAfterSlack = 600 * time.Second

// Instruct asks for an EIP-3009 signature over exactly maxAmountRequired, though v1 sellers accept more.
func (v V1) Instruct(o pay.Offer, payer common.Address, now time.Time, nonce [32]byte) (pay.Instruction, error) {
	if o.Kind == pay.SignPermit {
		return instruct2612(o, payer, now, v.Spenders)
	}
	return instruct(o, payer, now, now.Add(-validAfterSlack).Unix(), nonce)
}

// Attach sets X-PAYMENT.
func (v V1) Attach(req *pay.Request, o pay.Offer, p pay.Proof) error {
	var payload any
	var err error
	if o.Kind == pay.SignPermit {
		payload, err = write2612(o, p, v.Spenders)
	} else {
		payload, err = writePayload(o, p)
	}
	if err != nil {
		return err
	}
	var r requirementV1
	if uerr := json.Unmarshal(o.Raw, &r); uerr != nil {
		return errProof
	}
	b, err := json.Marshal(proofV1{X402Version: 1, Scheme: r.Scheme, Network: r.Network, Payload: payload})
	if err != nil {
		return err
	}
	setProof(req, headerPayment, b)
	return nil
}

// Receipt reads X-PAYMENT-RESPONSE; when the answer is a 402 again, its error is the reason.
func (V1) Receipt(o pay.Offer, resp *pay.Response) (pay.Receipt, error) {
	r, err := readReceipt(o, resp.Header.Get(headerPaymentResponse))
	if r.Reason == "" && resp.Status == http.StatusPaymentRequired && len(resp.Body) <= pay.MaxBody {
		var c challengeV1
		if json.Unmarshal(resp.Body, &c) == nil {
			r.Reason = pay.Text(c.Error)
		}
	}
	return r, err
}

func setProof(req *pay.Request, header string, b []byte) {
	if req.Header == nil {
		req.Header = http.Header{}
	}
	pay.StripPaymentHeaders(req.Header)
	req.Header.Set(header, writeBase64(b))
}
