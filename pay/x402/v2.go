package x402

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/pay"
)

// V2 is x402 version 2: the header PAYMENT-REQUIRED asks, PAYMENT-SIGNATURE proves, PAYMENT-RESPONSE is the
// receipt.
type V2 struct {
	// Identifiers says that every proof comes with an identifier of its payment. Without it sellers that require one are
	// refused.
	Identifiers bool
	// Spenders are the facilitators that may be given an allowance by scheme upto. Nobody, unless the operator says so.
	Spenders []common.Address
}

const nameV2 = "x402-v2"

var _ pay.Protocol = V2{}

// challengeV2 is PAYMENT-REQUIRED after base64 (specs/x402-specification-v2.md, 5.1). What a proof echoes stays
// as it came, because sellers compare deeply.
type challengeV2 struct {
	X402Version int               `json:"x402Version"`
	Error       string            `json:"error"`
	Accepts     []json.RawMessage `json:"accepts"`
	echoV2
}

// echoV2 is what every proof repeats besides the chosen offer; it travels in Offer.Extra.
type echoV2 struct {
	Resource   json.RawMessage `json:"resource,omitempty"`
	Extensions json.RawMessage `json:"extensions,omitempty"`
}

type requirementV2 struct {
	terms
	Amount string `json:"amount"`
}

// Name is "x402-v2".
func (V2) Name() string { return nameV2 }

// Offers reads the header of a 402, or its body when there is no header: sellers exist that answer so
// (x402 #2320).
func (v V2) Offers(req *pay.Request, resp *pay.Response) ([]pay.Offer, error) {
	if resp == nil || resp.Status != http.StatusPaymentRequired {
		return nil, nil
	}
	text, err := challengeText(resp)
	if err != nil || text == nil {
		return nil, err
	}
	return v.readChallenge(req, text)
}

// challengeText is the JSON of a 402's challenge, or nil when it has none of version 2.
func challengeText(resp *pay.Response) ([]byte, error) {
	if h := resp.Header.Get(headerRequired); h != "" {
		text, err := pay.DecodeBase64(h)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", headerRequired, err)
		}
		if versionOf(text) != 2 {
			return nil, fmt.Errorf("%s is not of version 2", headerRequired)
		}
		return text, nil
	}
	if len(resp.Body) > pay.MaxBody {
		return nil, errors.New("402 body is too long")
	}
	if versionOf(resp.Body) != 2 {
		return nil, nil
	}
	return resp.Body, nil
}

func (v V2) readChallenge(req *pay.Request, text []byte) ([]pay.Offer, error) {
	var c challengeV2
	if err := pay.ReadJSON(text, &c); err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	if len(c.Accepts) > pay.MaxOffers {
		return nil, errTooMany
	}
	extra := object(field{"resource", c.Resource}, field{"extensions", c.Extensions})
	var resource struct {
		URL string `json:"url"`
	}
	_ = json.Unmarshal(c.Resource, &resource) // optional, and only for display and the host check
	offers := make([]pay.Offer, 0, len(c.Accepts))
	for _, raw := range c.Accepts {
		o := v.read(raw, resource.URL)
		checkHost(&o, req.URL)
		o.Refuse(v.checkIdentifier(c.Extensions))
		o.Extra = extra
		offers = append(offers, o)
	}
	return offers, nil
}

func (v V2) read(raw json.RawMessage, resource string) pay.Offer {
	var r requirementV2
	if err := json.Unmarshal(raw, &r); err != nil {
		return unreadable(v.Name(), r.Scheme, raw, err)
	}
	return r.terms.read(v.Name(), r.Amount, resource, raw, v.Spenders)
}

// Instruct asks for an EIP-3009 or a Permit2 signature with validAfter 0, as the official v2 client does.
func (v V2) Instruct(o pay.Offer, payer common.Address, now time.Time, nonce [32]byte) (pay.Instruction, error) {
	switch o.Kind {
	case pay.SignPermit2:
		return instructPermit2(o, payer, now, nonce)
	case pay.SignPermit:
		return instruct2612(o, payer, now, v.Spenders)
	case pay.None, pay.SignAuthorization, pay.Transfer:
	}
	return instruct(o, payer, now, 0, nonce)
}

// Attach sets PAYMENT-SIGNATURE. accepted, resource and extensions are the seller's own bytes, the latter with what is ours
// to add.
func (v V2) Attach(req *pay.Request, o pay.Offer, p pay.Proof) error {
	payload, err := v.payload(o, p)
	if err != nil {
		return err
	}
	var echo echoV2
	if uerr := json.Unmarshal(o.Extra, &echo); uerr != nil {
		return errProof
	}
	name, err := identify(echo.Extensions, p.Identifier)
	if err != nil {
		return err
	}
	if echo.Extensions, err = extend(echo.Extensions, name...); err != nil {
		return err
	}
	proof, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	setProof(req, headerSignature, object(
		field{"x402Version", []byte("2")}, field{"resource", echo.Resource}, field{"accepted", o.Raw},
		field{"payload", proof}, field{"extensions", echo.Extensions},
	))
	return nil
}

// payload is the field of that name.
func (v V2) payload(o pay.Offer, p pay.Proof) (payload any, err error) {
	switch o.Kind {
	case pay.SignPermit2:
		return writePermit2(o, p)
	case pay.SignPermit:
		return write2612(o, p, v.Spenders)
	case pay.None, pay.SignAuthorization, pay.Transfer:
	}
	return writePayload(o, p)
}

// Receipt reads PAYMENT-RESPONSE; when the answer is a 402 again, the error of its challenge is the reason.
func (V2) Receipt(o pay.Offer, resp *pay.Response) (pay.Receipt, error) {
	r, err := readReceipt(o, resp.Header.Get(headerResponse))
	if r.Reason == "" && resp.Status == http.StatusPaymentRequired {
		var c challengeV2
		if b, berr := pay.DecodeBase64(resp.Header.Get(headerRequired)); berr == nil && json.Unmarshal(b, &c) == nil {
			r.Reason = pay.Text(c.Error)
		}
	}
	return r, err
}

// field is one member of an object that is built from raw values.
type field struct {
	key   string
	value []byte
}

// object builds a JSON object without touching the values' bytes; empty values are left out. encoding/json would
// compact them and escape <, > and &.
func object(fields ...field) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, f := range fields {
		if len(f.value) == 0 {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(f.key) // a string always can be
		b.Write(key)
		b.WriteByte(':')
		b.Write(f.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
