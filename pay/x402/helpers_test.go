package x402_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"testing"

	"bursar/pay"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func asUnpayable(err error, target **pay.UnpayableError) bool { return errors.As(err, target) }

func encode64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func decodeHeader(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	must(t, err)
	return b
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	must(t, json.Unmarshal(a, &x))
	must(t, json.Unmarshal(b, &y))
	return reflect.DeepEqual(x, y)
}

func editOffer(t *testing.T, challenge []byte, change func(map[string]any)) []byte {
	t.Helper()
	var c map[string]any
	must(t, json.Unmarshal(challenge, &c))
	offer, ok := c["accepts"].([]any)[0].(map[string]any)
	if !ok {
		t.Fatal("no offer in the challenge")
	}
	change(offer)
	b, err := json.Marshal(c)
	must(t, err)
	return b
}

func offers(t *testing.T, resp *pay.Response) pay.Quote {
	t.Helper()
	q, err := pay.Offers(both, wallet, request(), resp)
	must(t, err)
	return q
}

// attached is the proof header, decoded, for a payment with nonce 7 and an empty signature.
func attached(t *testing.T, p pay.Protocol, o pay.Offer) string {
	t.Helper()
	in, err := p.Instruct(o, payer, now, [32]byte{31: 7})
	must(t, err)
	req := request()
	must(t, p.Attach(req, o, pay.Proof{Authorization: in.Authorization, Signature: make([]byte, 65)}))
	return string(decodeHeader(t, req.Header.Get("PAYMENT-SIGNATURE")))
}

type recorder struct {
	status int
	header http.Header
	body   []byte
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { r.body = append(r.body, b...); return len(b), nil }
