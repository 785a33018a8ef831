package mpp

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"bursar/pay"
)

// checkDigest holds a challenge's digest (RFC 9530) to the body that we send: a challenge for another request must not be
// paid by this one. mppx writes the value without its colons.
func checkDigest(digest string, body []byte) error {
	if digest == "" {
		return nil
	}
	known := false
	for member := range strings.SplitSeq(digest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		var sum []byte
		switch strings.ToLower(name) {
		case "sha-256":
			h := sha256.Sum256(body)
			sum = h[:]
		case "sha-512":
			h := sha512.Sum512(body)
			sum = h[:]
		default:
			continue
		}
		known = true
		if len(value) > 1 && value[0] == ':' && value[len(value)-1] == ':' {
			value = value[1 : len(value)-1]
		}
		got, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
		if err != nil {
			return pay.Refusal(pay.Malformed, "digest %q cannot be read", pay.Text(member))
		}
		if subtle.ConstantTimeCompare(got, sum) != 1 {
			return pay.Refusal(pay.BadOrigin, "the challenge is for another body than the one sent")
		}
	}
	if !known {
		return pay.Refusal(pay.Unsupported, "digest %q is of no kind that we can check", pay.Text(digest))
	}
	return nil
}
