package mpp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/pay"
)

var errProof = errors.New("mpp: the proof does not fit the offer")

// credential is Authorization after base64url.
type credential struct {
	Challenge echo   `json:"challenge"`
	Source    string `json:"source,omitempty"`
	Payload   any    `json:"payload"`
}

// authorizationPayload proves by a signed authorization. All numbers are decimal text.
type authorizationPayload struct {
	Type        string `json:"type"`
	From        string `json:"from"`
	To          string `json:"to"`
	Value       string `json:"value"`
	ValidAfter  string `json:"validAfter"`
	ValidBefore string `json:"validBefore"`
	Nonce       string `json:"nonce"`
	Signature   string `json:"signature"`
}

// hashPayload proves by a transfer that the chain has.
type hashPayload struct {
	Type string `json:"type"`
	Hash string `json:"hash"`
}

func stored(o pay.Offer) (taken, error) {
	var t taken
	if o.Refused != "" || json.Unmarshal(o.Extra, &t) != nil || t.Credential == "" {
		return taken{}, errProof
	}
	return t, nil
}

// Attach sets Authorization. The request must still be the one that the challenge was made for.
func (Charge) Attach(req *pay.Request, o pay.Offer, p pay.Proof) error {
	t, err := stored(o)
	if err != nil {
		return err
	}
	if err := checkDigest(t.Challenge.Digest, req.Body); err != nil {
		return err
	}
	c := credential{Challenge: t.Challenge}
	switch t.Credential {
	case credentialAuthorization:
		a := p.Authorization
		if a.To != o.PayTo || a.Value != o.Amount || a.Nonce != t.nonce() || len(p.Signature) != evm.SignatureLength {
			return errProof
		}
		c.Source = fmt.Sprintf("did:pkh:eip155:%d:%s", o.Network.ChainID, a.From.Hex())
		c.Payload = authorizationPayload{
			Type: t.Credential, From: a.From.Hex(), To: a.To.Hex(), Value: a.Value.String(), Nonce: a.Nonce.Hex(),
			ValidAfter: strconv.FormatInt(a.ValidAfter, 10), ValidBefore: strconv.FormatInt(a.ValidBefore, 10),
			Signature: hexutil.Encode(p.Signature),
		}
	case credentialHash:
		if p.TxHash == (common.Hash{}) {
			return errProof
		}
		c.Payload = hashPayload{Type: t.Credential, Hash: p.TxHash.Hex()}
	default:
		return errProof
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	setAuthorization(req, base64.RawURLEncoding.EncodeToString(b))
	return nil
}

// setAuthorization puts a credential in place of every other proof.
func setAuthorization(req *pay.Request, value string) {
	if req.Header == nil {
		req.Header = http.Header{}
	}
	pay.StripPaymentHeaders(req.Header)
	req.Header.Set("Authorization", scheme+" "+value)
}
