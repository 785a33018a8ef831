package x402

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Ask is the seller's side of one priced resource, in either version.
type Ask struct {
	Version     int // 1 or 2
	Network     evm.Network
	Amount      money.USDC
	PayTo       common.Address
	Resource    string // absolute URL of what is sold
	Description string
	MimeType    string
	ValidFor    time.Duration // how long a proof may live, whole seconds
}

// Errors of Ask.Proof and Ask.Verify; their texts go to the buyer.
var (
	ErrNoProof = errors.New("payment required")
	errInvalid = errors.New("invalid payment")
)

// minLeft is how long an authorization must still be usable for a settlement to get into a block in time, as the
// official facilitators demand.
const minLeft = 6 * time.Second

// extraWire is the token's EIP-712 domain, which the scheme puts into every requirement.
type extraWire struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// requirementV1Wire is one accepts element of version 1 (specs/x402-specification-v1.md, 5.1.2).
type requirementV1Wire struct {
	Scheme            string    `json:"scheme"`
	Network           string    `json:"network"`
	MaxAmountRequired string    `json:"maxAmountRequired"`
	Resource          string    `json:"resource"`
	Description       string    `json:"description"`
	MimeType          string    `json:"mimeType"`
	PayTo             string    `json:"payTo"`
	MaxTimeoutSeconds int64     `json:"maxTimeoutSeconds"`
	Asset             string    `json:"asset"`
	Extra             extraWire `json:"extra"`
}

// requirementV2Wire is one accepts element of version 2 (specs/x402-specification-v2.md, 5.1.2).
type requirementV2Wire struct {
	Scheme            string    `json:"scheme"`
	Network           string    `json:"network"`
	Amount            string    `json:"amount"`
	Asset             string    `json:"asset"`
	PayTo             string    `json:"payTo"`
	MaxTimeoutSeconds int64     `json:"maxTimeoutSeconds"`
	Extra             extraWire `json:"extra"`
}

type resourceV2 struct {
	URL         string `json:"url"`
	Description string `json:"description"`
	MimeType    string `json:"mimeType"`
}

func (a Ask) v1() requirementV1Wire {
	return requirementV1Wire{
		Scheme: schemeExact, Network: a.Network.Name, MaxAmountRequired: a.Amount.String(), Resource: a.Resource,
		Description: a.Description, MimeType: a.MimeType, PayTo: a.PayTo.Hex(), MaxTimeoutSeconds: int64(a.ValidFor / time.Second),
		Asset: a.Network.USDC.Hex(), Extra: extraWire{a.Network.DomainName, a.Network.DomainVersion},
	}
}

func (a Ask) v2() requirementV2Wire {
	return requirementV2Wire{
		Scheme: schemeExact, Network: a.Network.CAIP2(), Amount: a.Amount.String(), Asset: a.Network.USDC.Hex(), PayTo: a.PayTo.Hex(),
		MaxTimeoutSeconds: int64(a.ValidFor / time.Second), Extra: extraWire{a.Network.DomainName, a.Network.DomainVersion},
	}
}

// Challenge writes a 402 that asks for the amount, with a reason for people.
func (a Ask) Challenge(w http.ResponseWriter, reason string) error {
	body := []byte("{}")
	var err error
	if a.Version == 1 {
		body, err = json.Marshal(struct {
			X402Version int                 `json:"x402Version"`
			Error       string              `json:"error"`
			Accepts     []requirementV1Wire `json:"accepts"`
		}{1, reason, []requirementV1Wire{a.v1()}})
	} else {
		var b []byte
		b, err = json.Marshal(struct {
			X402Version int                 `json:"x402Version"`
			Error       string              `json:"error"`
			Resource    resourceV2          `json:"resource"`
			Accepts     []requirementV2Wire `json:"accepts"`
		}{2, reason, resourceV2{a.Resource, a.Description, a.MimeType}, []requirementV2Wire{a.v2()}})
		w.Header().Set(headerRequired, writeBase64(b))
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusPaymentRequired)
	_, err = w.Write(body)
	return err
}

// Proof reads the buyer's header. ErrNoProof: there is none.
func (a Ask) Proof(h http.Header) (pay.Proof, error) {
	header := headerSignature
	if a.Version == 1 {
		header = headerPayment
	}
	text := h.Get(header)
	if text == "" {
		return pay.Proof{}, ErrNoProof
	}
	b, err := pay.DecodeBase64(text)
	if err != nil {
		return pay.Proof{}, fmt.Errorf("%w: %s: %w", errInvalid, header, err)
	}
	var w struct {
		X402Version int             `json:"x402Version"`
		Scheme      string          `json:"scheme"`
		Network     string          `json:"network"`
		Payload     exactPayload    `json:"payload"`
		Accepted    json.RawMessage `json:"accepted"`
	}
	if json.Unmarshal(b, &w) != nil || w.X402Version != a.Version {
		return pay.Proof{}, fmt.Errorf("%w: %s is not a payment of version %d", errInvalid, header, a.Version)
	}
	if a.Version == 1 && (w.Scheme != schemeExact || w.Network != a.Network.Name) {
		return pay.Proof{}, fmt.Errorf("%w: scheme or network differs from what was asked", errInvalid)
	}
	if a.Version == 2 && !equalJSON(w.Accepted, a.v2()) {
		return pay.Proof{}, fmt.Errorf("%w: accepted differs from what was asked", errInvalid)
	}
	p, err := w.Payload.proof()
	if err != nil {
		return pay.Proof{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return p, nil
}

// Verify checks everything about a proof that needs no chain: who signed, what, for whom, and for how long. A
// proof must carry exactly the amount asked. now is the time of the chain that settles.
func (a Ask) Verify(p pay.Proof, now time.Time) error {
	auth := p.Authorization
	signer, err := evm.Recover(auth.Digest(a.Network.Domain()), p.Signature)
	switch {
	case err != nil || signer != auth.From:
		return fmt.Errorf("%w: the signature is not the payer's", errInvalid)
	case auth.To != a.PayTo:
		return fmt.Errorf("%w: paid to somebody else", errInvalid)
	case auth.Value != a.Amount:
		return fmt.Errorf("%w: amount is %s, asked was %s", errInvalid, auth.Value, a.Amount)
	case auth.ValidAfter >= now.Unix():
		return fmt.Errorf("%w: not valid yet", errInvalid)
	case auth.ValidBefore < now.Add(minLeft).Unix():
		return fmt.Errorf("%w: expired or about to", errInvalid)
	}
	return nil
}

// Receipt sets the response header that says how the settlement went: why is empty when it succeeded.
func (a Ask) Receipt(h http.Header, payer common.Address, tx common.Hash, why string) error {
	r := receipt{Success: why == "", ErrorReason: why, Network: a.Network.CAIP2(), Payer: payer.Hex()}
	header := headerResponse
	if a.Version == 1 {
		header, r.Network = headerPaymentResponse, a.Network.Name
	}
	if tx != (common.Hash{}) {
		r.Transaction = tx.Hex()
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	h.Set(header, writeBase64(b))
	return nil
}

// equalJSON compares as sellers do: the values, not the bytes.
func equalJSON(raw json.RawMessage, want any) bool {
	b, err := json.Marshal(want)
	if err != nil {
		return false
	}
	var x, y any
	return json.Unmarshal(raw, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
