// Package x402 speaks the payment protocol x402 over HTTP: scheme "exact" by EIP-3009 in versions 1 and 2, schemes "exact"
// and "upto" by Permit2 in version 2. V1 and V2 are the payer's side; Ask is the seller's side of exact by EIP-3009, for
// the demo and for tests.
//
// Wire formats: github.com/x402-foundation/x402, specs/x402-specification-v1.md and -v2.md,
// specs/transports-v1/http.md and -v2/http.md, specs/schemes/exact/scheme_exact_evm.md; checked against the npm
// packages x402 1.2.0 and @x402/core 2.27.0 by official_test.go.
package x402

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"bursar/pay"
)

// Headers of the two versions. Version 1 asks in the body.
const (
	headerPayment         = "X-PAYMENT"
	headerPaymentResponse = "X-PAYMENT-RESPONSE"

	headerRequired  = "PAYMENT-REQUIRED"
	headerSignature = "PAYMENT-SIGNATURE"
	headerResponse  = "PAYMENT-RESPONSE"
)

// Schemes.
const (
	schemeExact = "exact"
	schemeUpto  = "upto"
)

var errTooMany = errors.New("more offers than a challenge may have")

func writeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// isJSONObject tells a challenge from an ordinary body without reading it.
func isJSONObject(b []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) }

// versionOf reads x402Version of a body; 0 when the body is something else.
func versionOf(body []byte) int {
	var v struct {
		X402Version json.Number `json:"x402Version"`
	}
	if !isJSONObject(body) || json.Unmarshal(body, &v) != nil {
		return 0
	}
	n, err := v.X402Version.Int64()
	if err != nil {
		return 0
	}
	return int(n)
}

// checkHost refuses a resource of another host than the one called, and notes a difference that honest sellers
// behind a proxy have. x402-express 1.2.0 builds the resource from req.protocol, host and path: http behind TLS,
// an inner port, no query.
func checkHost(o *pay.Offer, called string) {
	r, err := url.Parse(o.Resource)
	if err != nil || r.Host == "" || (r.Scheme != "http" && r.Scheme != "https") {
		return // a path or a name: says nothing about the origin
	}
	u, err := url.Parse(called)
	if err != nil {
		o.Refuse(pay.Refusal(pay.BadOrigin, "request has no readable URL"))
		return
	}
	if !strings.EqualFold(r.Hostname(), u.Hostname()) {
		o.Refuse(pay.Refusal(pay.BadOrigin, "resource is on another host: %s", pay.Text(r.Host)))
		return
	}
	if r.Scheme != u.Scheme || r.Port() != u.Port() || r.Path != u.Path {
		o.Notes = append(o.Notes, "resource differs from the URL called: "+pay.Text(o.Resource))
	}
}
