package mpp_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/pay"
	"bursar/pay/mpp"
	"bursar/pay/paytest"
)

var (
	sepolia, _ = evm.NetworkByID(evm.BaseSepoliaID)
	payer      = common.HexToAddress("0x857b06519E91e3A54538791bDbb0E22373e36b66")
	seller     = common.HexToAddress("0x00000000000000000000000000000000005E11e4")
	now        = paytest.Time
	both       = []pay.Protocol{mpp.Charge{}, mpp.Plain{}}
	everything = pay.Wallet{Network: sepolia, Address: payer, Also: []pay.InstructionKind{pay.Transfer}}
)

// observed is a challenge that mppx 0.11.0 sent, with another time in it.
const (
	observedRequest = "eyJhbW91bnQiOiIxMDAwMCIsImN1cnJlbmN5IjoiMHgwMzZDYkQ1Mzg0MmM1NDI2NjM0ZTc5Mjk1NDFlQzIzMThmM2RDRjdlIiwibWV0aG9kRGV0YWlscyI6eyJjaGFpbklkIjo4NDUzMiwiY3JlZGVudGlhbFR5cGVzIjpbImF1dGhvcml6YXRpb24iXSwiZGVjaW1hbHMiOjZ9LCJyZWNpcGllbnQiOiIweDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA1RTExZTQifQ"
	observed        = `Payment id="8Fnj9gx-DOBn9avUPAqrcwIn-WOM3CUHKXMp3K0zAYE", realm="127.0.0.1", method="evm", intent="charge", request="` + observedRequest +
		`", description="The weather, in Porto; \"sunny\"", expires="2025-10-09T08:58:20.576Z"` // 5 min after paytest.Time
	plain = `Payment type="exact", chain="base-sepolia", currency="USDC", amount="10000", address="0x00000000000000000000000000000000005E11e4", maxAge=300`
)

func request() *pay.Request {
	return &pay.Request{Method: http.MethodGet, URL: "http://127.0.0.1/weather", Header: http.Header{}}
}

func asked(lines ...string) *pay.Response {
	return &pay.Response{Status: http.StatusPaymentRequired, Header: http.Header{"Www-Authenticate": lines}}
}

// challenge is a Payment challenge with the parameters of observed, changed; an empty value leaves a parameter out.
func challenge(change map[string]string) string {
	params := map[string]string{
		"id": "id1", "realm": "127.0.0.1", "method": "evm", "intent": "charge", "request": encode(terms(nil)), "expires": "2025-10-09T08:58:20Z",
	}
	for k, v := range change {
		params[k] = v
	}
	parts := []string{}
	for _, k := range []string{"id", "realm", "method", "intent", "request", "expires", "digest", "description", "opaque", "header"} {
		if params[k] != "" {
			parts = append(parts, fmt.Sprintf("%s=%q", k, params[k]))
		}
	}
	return "Payment " + strings.Join(parts, ", ")
}

func terms(change func(request, details map[string]any)) string {
	details := map[string]any{"chainId": 84532, "credentialTypes": []string{"authorization"}, "decimals": 6}
	r := map[string]any{"amount": "10000", "currency": sepolia.USDC.Hex(), "recipient": seller.Hex(), "methodDetails": details}
	if change != nil {
		change(r, details)
	}
	b, _ := json.Marshal(r)
	return string(b)
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// usdc nests the details of a request under the profile's name.
func usdc(r, details map[string]any) {
	r["methodDetails"] = map[string]any{"type": "evm", "evm": details}
}

func TestConforms(t *testing.T) {
	sample := func(p pay.Protocol, line string) {
		paytest.Conforms(t, p, paytest.Sample{Network: sepolia, Request: *request(), Response: asked(line)})
	}
	sample(mpp.Charge{}, observed)
	sample(mpp.Charge{}, challenge(map[string]string{"method": "usdc", "request": encode(terms(usdc))}))
	sample(mpp.Charge{}, challenge(map[string]string{"request": encode(terms(func(_, d map[string]any) { d["credentialTypes"] = []string{"transaction", "hash"} }))}))
	sample(mpp.Plain{}, plain)
}

// The nonce, the window and the echo of an observed challenge.
func TestAuthorization(t *testing.T) {
	q, err := pay.Offers(both, everything, request(), asked(observed))
	must(t, err)
	o := q.Offers[0]
	if o.Protocol != "mpp" || o.Scheme != "evm/charge" || o.Amount != 10_000 || o.PayTo != seller || o.Kind != pay.SignAuthorization {
		t.Errorf("offer %+v", o)
	}
	in, err := q.Protocol.Instruct(o, payer, now, [32]byte{1})
	must(t, err)
	a := in.Authorization
	if want := crypto.Keccak256Hash([]byte("8Fnj9gx-DOBn9avUPAqrcwIn-WOM3CUHKXMp3K0zAYE127.0.0.1")); a.Nonce != want {
		t.Errorf("nonce %s, want %s", a.Nonce, want)
	}
	if a.ValidAfter != 0 || a.ValidBefore != now.Unix()+300 {
		t.Errorf("window %d..%d", a.ValidAfter, a.ValidBefore)
	}
	req := request()
	must(t, q.Protocol.Attach(req, o, pay.Proof{Authorization: a, Signature: make([]byte, 65)}))
	text, found := strings.CutPrefix(req.Header.Get("Authorization"), "Payment ")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if !found || err != nil {
		t.Fatalf("%q: %v", req.Header.Get("Authorization"), err)
	}
	var c struct {
		Challenge map[string]string
		Source    string
		Payload   map[string]string
	}
	must(t, json.Unmarshal(b, &c))
	if c.Source != "did:pkh:eip155:84532:"+payer.Hex() || c.Payload["type"] != "authorization" || c.Payload["validAfter"] != "0" || c.Payload["value"] != "10000" {
		t.Errorf("credential %s", b)
	}
	a.Nonce[0]++ // of another challenge
	if q.Protocol.Attach(request(), o, pay.Proof{Authorization: a, Signature: make([]byte, 65)}) == nil {
		t.Error("attached under another nonce")
	}
	if e := c.Challenge; len(e) != 7 || e["request"] != observedRequest || e["expires"] != "2025-10-09T08:58:20.576Z" || e["description"] != `The weather, in Porto; "sunny"` {
		t.Errorf("echo %q", c.Challenge)
	}
}

// The window is the earlier of the challenge's end and our own limit.
func TestWindow(t *testing.T) {
	for expires, want := range map[string]int64{
		"2035-10-09T08:53:20Z": 600, "2025-10-09T08:53:31Z": 11, "2025-10-09T10:55:20+02:00": 120, "": 300,
		"2025-10-09T08:53:30Z": 0, "2025-10-09T08:53:20Z": 0, "2015-10-09T08:53:20Z": 0,
	} {
		q, err := pay.Offers(both, everything, request(), asked(challenge(map[string]string{"expires": expires})))
		must(t, err)
		in, err := q.Protocol.Instruct(q.Offers[0], payer, now, [32]byte{})
		var refused *pay.RefusedError
		switch {
		case want == 0 && (!errors.As(err, &refused) || refused.Cause != pay.BadWindow):
			t.Errorf("%q: %+v, %v", expires, in, err)
		case want != 0 && (err != nil || in.Authorization.ValidBefore != now.Unix()+want):
			t.Errorf("%q: valid for %d s, %v", expires, in.Authorization.ValidBefore-now.Unix(), err)
		}
	}
}

// Method usdc binds an authorization to the request as well; the preimage is written out here.
func TestUSDCNonce(t *testing.T) {
	text := terms(usdc)
	q, err := pay.Offers(both, everything, request(), asked(challenge(map[string]string{"method": "usdc", "id": `a"b\c`, "request": encode(text)})))
	must(t, err)
	in, err := q.Protocol.Instruct(q.Offers[0], payer, now, [32]byte{})
	must(t, err)
	want := crypto.Keccak256Hash([]byte(`{"id":"a\"b\\c","intent":"charge","method":"usdc","realm":"127.0.0.1","requestHash":"` + crypto.Keccak256Hash([]byte(text)).Hex() + `"}`))
	if in.Authorization.Nonce != want {
		t.Errorf("nonce %s, want %s", in.Authorization.Nonce, want)
	}
}

func TestHashCredential(t *testing.T) {
	line := challenge(map[string]string{"request": encode(terms(func(_, d map[string]any) { d["credentialTypes"] = []string{"permit2", "hash"} }))})
	if _, err := pay.Offers(both, pay.Wallet{Network: sepolia, Address: payer}, request(), asked(line)); err == nil {
		t.Error("a wallet that makes no transfers takes it")
	}
	q, err := pay.Offers(both, everything, request(), asked(line))
	must(t, err)
	in, err := q.Protocol.Instruct(q.Offers[0], payer, now, [32]byte{})
	if err != nil || in.Kind != pay.Transfer || in.To != seller || in.Amount != 10_000 {
		t.Fatalf("%+v, %v", in, err)
	}
	req := request()
	hash := crypto.Keccak256Hash([]byte("tx"))
	must(t, q.Protocol.Attach(req, q.Offers[0], pay.Proof{TxHash: hash}))
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(req.Header.Get("Authorization"), "Payment "))
	if err != nil || !strings.HasSuffix(string(b), `"payload":{"type":"hash","hash":"`+hash.Hex()+`"}}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestPlain(t *testing.T) {
	q, err := pay.Offers(both, everything, request(), asked(plain))
	must(t, err)
	if len(q.Offers) != 1 || q.Protocol.Name() != "mpp-indiegent" || q.Offers[0].Amount != 10_000 {
		t.Fatalf("quote %+v", q)
	}
	req := request()
	must(t, q.Protocol.Attach(req, q.Offers[0], pay.Proof{TxHash: common.HexToHash("0x12")}))
	want := `Payment credential="0x0000000000000000000000000000000000000000000000000000000000000012", chain="base-sepolia", currency="USDC"`
	if got := req.Header.Get("Authorization"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	resp := &pay.Response{Status: 200, Header: http.Header{"Payment-Receipt": {`status="success", txHash="0x0000000000000000000000000000000000000000000000000000000000000012"`}}}
	if r, err := q.Protocol.Receipt(q.Offers[0], resp); err != nil || !r.Success || r.Amount != 10_000 || r.TxHash != common.HexToHash("0x12") {
		t.Errorf("receipt %+v, %v", r, err)
	}
}

// A request with a login of its own keeps it: the credential would take its place.
func TestOwnAuthorization(t *testing.T) {
	req := request()
	req.Header["authorization"] = []string{"Bearer x"}
	for _, line := range []string{observed, plain} {
		if _, err := pay.Offers(both, everything, req, asked(line)); err == nil || !strings.Contains(err.Error(), "Authorization") {
			t.Errorf("%v", err)
		}
	}
}

func TestDigest(t *testing.T) {
	const hello = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
	for digest, want := range map[string]bool{
		"sha-256=:" + hello + ":": true, "sha-256=" + strings.TrimRight(hello, "="): true,
		"unixsum=:30637:, sha-256=:" + hello + ":": true, "SHA-256=:" + hello + ":": true,
		"sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:": true,
		"sha-256=:AAAA:": false, "sha-256=": false, "md5=:XUFAKrxLKna5cZ2REBfFkg==:": false, "sha-256=:" + hello + ":, sha-512=:AAAA:": false, "nonsense": false,
	} {
		req := request()
		req.Body = []byte("hello")
		_, err := pay.Offers(both, everything, req, asked(challenge(map[string]string{"digest": digest})))
		if (err == nil) != want {
			t.Errorf("%s: %v", digest, err)
		}
	}
	req := request()
	req.Body = []byte("hello")
	q, err := pay.Offers(both, everything, req, asked(challenge(map[string]string{"digest": "sha-256=:" + hello + ":"})))
	must(t, err)
	in, err := q.Protocol.Instruct(q.Offers[0], payer, now, [32]byte{})
	must(t, err)
	req.Body = []byte("other")
	if q.Protocol.Attach(req, q.Offers[0], pay.Proof{Authorization: in.Authorization, Signature: make([]byte, 65)}) == nil {
		t.Error("attached to another body")
	}
}

func TestReceipt(t *testing.T) {
	o := pay.Offer{Amount: 10_000}
	tx := crypto.Keccak256Hash([]byte("tx"))
	receipt := func(status int, text, body string) (pay.Receipt, error) {
		h := http.Header{}
		if text != "" {
			h.Set("Payment-Receipt", encode(text))
		}
		return mpp.Charge{}.Receipt(o, &pay.Response{Status: status, Header: h, Body: []byte(body)})
	}
	for _, c := range []struct {
		status     int
		text, body string
		want       pay.Receipt
	}{
		{200, `{"status":"success","method":"evm","reference":"` + tx.Hex() + `"}`, "", pay.Receipt{Known: true, Success: true, TxHash: tx, Amount: 10_000}},
		{200, `{"status":"success","reference":"pi_123"}`, "", pay.Receipt{Known: true, Success: true, Amount: 10_000}},
		{200, `{"status":"pending"}`, "", pay.Receipt{Known: true, Reason: "pending"}},
		{402, "", `{"type":"https://paymentauth.org/problems/payment-expired","title":"Expired","detail":"too\nlate"}`, pay.Receipt{Reason: "payment-expired: too late"}},
		{402, "", `{"type":"about:blank","detail":"x"}`, pay.Receipt{}},
		{200, "", `{"type":"https://paymentauth.org/problems/payment-expired"}`, pay.Receipt{}},
	} {
		if got, err := receipt(c.status, c.text, c.body); err != nil || got != c.want {
			t.Errorf("%+v: got %+v, %v", c, got, err)
		}
	}
	if _, err := receipt(200, "not json", ""); err == nil {
		t.Error("garbage reads")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
