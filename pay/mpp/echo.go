package mpp

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/pay"
)

// echo is the challenge as a credential repeats it, every value as it came.
type echo struct {
	ID          string `json:"id"`
	Realm       string `json:"realm"`
	Method      string `json:"method"`
	Intent      string `json:"intent"`
	Request     string `json:"request"`
	Expires     string `json:"expires,omitempty"`
	Digest      string `json:"digest,omitempty"`
	Description string `json:"description,omitempty"`
	Opaque      string `json:"opaque,omitempty"`
}

// taken is what Offer.Extra holds: the challenge, and how we answer it.
type taken struct {
	Challenge   echo        `json:"challenge"`
	Credential  string      `json:"credential"`            // the credential type
	RequestHash common.Hash `json:"requestHash,omitempty"` // of the request's JSON, for method usdc
}

// Methods that can be paid.
const (
	methodEVM    = "evm"
	methodUSDC   = "usdc"
	intentCharge = "charge"
)

func readEcho(p map[string]string) echo {
	e := echo{
		ID: p["id"], Realm: p["realm"], Method: p["method"], Intent: p["intent"], Request: p["request"],
		Expires: p["expires"], Digest: p["digest"], Description: p["description"], Opaque: p["opaque"],
	}
	if !utf8.ValidString(e.Description) {
		e.Description = "" // for display only, and no part of what the seller checks
	}
	return e
}

// check refuses a challenge of which we could not make a credential that the seller takes.
func (e echo) check(params map[string]string, req *pay.Request) error {
	for _, required := range []struct{ name, value string }{
		{"id", e.ID}, {"realm", e.Realm}, {"method", e.Method}, {"intent", e.Intent}, {"request", e.Request},
	} {
		if required.value == "" {
			return pay.Refusal(pay.Malformed, "challenge has no %s", required.name)
		}
	}
	for _, bytesEqual := range []struct{ name, value string }{
		{"id", e.ID}, {"realm", e.Realm}, {"expires", e.Expires}, {"digest", e.Digest}, {"opaque", e.Opaque},
	} { // hashed by both sides, who must agree on the bytes
		if !isVisible(bytesEqual.value) {
			return pay.Refusal(pay.Malformed, "%s has characters outside of ASCII", bytesEqual.name)
		}
	}
	switch {
	case e.Method != methodEVM && e.Method != methodUSDC:
		return pay.Refusal(pay.Unsupported, "payment method %q is not supported", pay.Text(e.Method))
	case e.Intent != intentCharge:
		return pay.Refusal(pay.Unsupported, "intent %q of method %s is not supported", pay.Text(e.Intent), e.Method)
	}
	if h := params["header"]; h != "" && !strings.EqualFold(h, "Authorization") {
		return pay.Refusal(pay.Unsupported, "a credential in the header %q is not supported", pay.Text(h))
	}
	if err := checkFree(req.Header); err != nil {
		return err
	}
	return checkDigest(e.Digest, req.Body)
}

// checkFree refuses to pay a request that carries a login; a proof of the agent's own has been removed by then. There is one Authorization, and the credential would take its
// place, so that the service would be paid by somebody it does not know.
func checkFree(h http.Header) error {
	for name, values := range h {
		for _, v := range values {
			if strings.EqualFold(name, "Authorization") && !strings.EqualFold(firstWord(v), scheme) {
				return pay.Refusal(pay.Unsupported, "the request has an Authorization of its own, which the credential would replace")
			}
		}
	}
	return nil
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return word
}

// isVisible holds for printable ASCII, in which bytes and characters are the same.
func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// request decodes the parameter of that name.
func (e echo) request() ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(e.Request)
	if err != nil {
		return nil, pay.Refusal(pay.Malformed, "request is not base64url without padding")
	}
	return b, nil
}

// nonce binds an authorization to the challenge. Method usdc binds more of it, so that its authorizations differ from
// those of method evm (draft-usdc-charge-00, "Credential Schema").
func (t taken) nonce() common.Hash {
	e := t.Challenge
	if e.Method == methodEVM {
		return crypto.Keccak256Hash([]byte(e.ID + e.Realm))
	}
	return crypto.Keccak256Hash(canonical("id", e.ID, "intent", e.Intent, "method", e.Method, "realm", e.Realm, "requestHash", t.RequestHash.Hex()))
}

// canonical is the canonical JSON (RFC 8785) of an object of texts in visible ASCII, whose keys come in order.
func canonical(pairs ...string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	members := make([]string, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		members = append(members, `"`+pairs[i]+`":"`+escape.Replace(pairs[i+1])+`"`)
	}
	return []byte("{" + strings.Join(members, ",") + "}")
}
