package pay

import (
	"encoding/base64"
	"strings"
)

// DecodeBase64 reads a header as sellers write it: standard or url alphabet, padded or not. MaxHeader bounds it.
func DecodeBase64(s string) ([]byte, error) {
	if len(s) > MaxHeader {
		return nil, Refusal(Malformed, "header is longer than %d bytes", MaxHeader)
	}
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, Refusal(Malformed, "not base64")
	}
	return b, nil
}
