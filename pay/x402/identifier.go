package x402

import (
	"encoding/json"

	"bursar/pay"
)

// Extension payment-identifier (specs/extensions/payment_identifier.md): a name for the payment, by which a seller tells a
// repeated call from a new one. Who knows payload and name may be given the bought answer, so the name must not be
// computable from what the chain shows. An authorization's nonce is there; the id of a payment is not.
const paymentIdentifier = "payment-identifier"

// identifierInfo is what a seller declares.
type identifierInfo struct {
	Info *struct {
		Required bool            `json:"required"`
		ID       json.RawMessage `json:"id"`
	} `json:"info"`
}

// declared reads the extension; nil when there is none that could be answered.
func declared(extensions json.RawMessage) *identifierInfo {
	var all map[string]json.RawMessage
	var d identifierInfo
	if json.Unmarshal(extensions, &all) != nil || json.Unmarshal(all[paymentIdentifier], &d) != nil || d.Info == nil {
		return nil
	}
	return &d
}

// checkIdentifier refuses a seller that insists on a name when the caller gives none, or that has filled it in itself.
func (v V2) checkIdentifier(extensions json.RawMessage) error {
	d := declared(extensions)
	switch {
	case d == nil || !d.Info.Required:
		return nil
	case !v.Identifiers:
		return pay.Refusal(pay.Unsupported, "seller requires the extension payment-identifier, which is not supported")
	case d.Info.ID != nil:
		return pay.Refusal(pay.Malformed, "seller requires a payment-identifier and has filled it in")
	}
	return nil
}

// identify is the addition that names the payment, if the seller takes one.
func identify(extensions json.RawMessage, identifier string) ([]addition, error) {
	d := declared(extensions)
	switch {
	case d == nil || d.Info.ID != nil:
		return nil, nil
	case identifier == "" && d.Info.Required:
		return nil, errProof
	case identifier == "":
		return nil, nil
	case !isIdentifier(identifier):
		return nil, errProof
	}
	return []addition{{paymentIdentifier, map[string]string{"id": identifier}}}, nil
}

func isIdentifier(s string) bool {
	if len(s) < 16 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
