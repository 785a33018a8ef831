package x402_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/e2e"
	"bursar/evm"
	"bursar/pay"
	"bursar/pay/x402"
)

// login is a challenge with a login for the host called, changed.
func login(t *testing.T, change func(info map[string]any), chains string) *pay.Response {
	t.Helper()
	info := map[string]any{
		"domain": "api.example.com", "uri": "https://api.example.com/premium-data", "version": "1", "nonce": "a1b2c3d4e5",
		"issuedAt": now.UTC().Format(time.RFC3339), "resources": []string{"https://api.example.com/premium-data"},
	}
	if change != nil {
		change(info)
	}
	b, err := json.Marshal(info)
	must(t, err)
	extensions := fmt.Sprintf(`{"sign-in-with-x":{"info":%s,"supportedChains":%s}}`, b, chains)
	return inHeader(permit2Challenge("exact", "", extensions))
}

var v2 pay.LoginProtocol = x402.V2{}

const sepoliaLogin = `[{"chainId":"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp","type":"ed25519"},{"chainId":"eip155:84532","type":"eip191"}]`

func TestSignIn(t *testing.T) {
	key, err := crypto.GenerateKey()
	must(t, err)
	w := pay.Wallet{Network: sepolia, Address: crypto.PubkeyToAddress(key.PublicKey)}
	s, err := v2.Login(request(), login(t, func(i map[string]any) { i["statement"] = "Sign in."; i["requestId"] = "r1" }, sepoliaLogin), w, now)
	must(t, err)
	want := "api.example.com wants you to sign in with your Ethereum account:\n" + w.Address.Hex() + "\n\nSign in.\n\n" +
		"URI: https://api.example.com/premium-data\nVersion: 1\nChain ID: 84532\nNonce: a1b2c3d4e5\nIssued At: 2025-02-27T16:01:29Z\n" +
		"Request ID: r1\nResources:\n- https://api.example.com/premium-data"
	if s.Message != want {
		t.Errorf("message %q\nwant %q", s.Message, want)
	}
	sig, err := evm.Sign(key, evm.PersonalDigest(s.Message))
	must(t, err)
	req := request()
	req.Header.Set("PAYMENT-SIGNATURE", "stays")
	must(t, v2.AttachLogin(req, *s, sig))
	var sent map[string]any
	must(t, json.Unmarshal(decodeHeader(t, req.Header.Get("SIGN-IN-WITH-X")), &sent))
	if sent["address"] != w.Address.Hex() || sent["chainId"] != "eip155:84532" || sent["type"] != "eip191" || sent["signature"] != hexutil.Encode(sig) ||
		sent["domain"] != "api.example.com" || sent["statement"] != "Sign in." || req.Header.Get("PAYMENT-SIGNATURE") != "stays" {
		t.Errorf("sent %v", sent)
	}
	if v2.AttachLogin(req, *s, sig[:64]) == nil {
		t.Error("short signature")
	}
	s, err = v2.Login(request(), login(t, nil, sepoliaLogin), w, now)
	must(t, err)
	if !strings.Contains(s.Message, w.Address.Hex()+"\n\n\nURI: ") {
		t.Errorf("without statement %q", s.Message)
	}
}

// A login that would be one elsewhere, or that says more than it seems, is not signed.
func TestSignInRefused(t *testing.T) {
	set := func(key string, value any) func(map[string]any) {
		return func(i map[string]any) { i[key] = value }
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		cause  pay.Cause
	}{
		"another domain":      {set("domain", "bank.example"), pay.BadOrigin},
		"domain with a port":  {set("domain", "api.example.com:8443"), pay.BadOrigin},
		"no domain":           {set("domain", ""), pay.BadOrigin},
		"parent domain":       {set("domain", "example.com"), pay.BadOrigin},
		"uri elsewhere":       {set("uri", "https://bank.example/login"), pay.BadOrigin},
		"uri with user":       {set("uri", "https://api.example.com@bank.example/"), pay.BadOrigin},
		"uri of http":         {set("uri", "http://api.example.com/"), pay.BadOrigin},
		"line in statement":   {set("statement", "hello\n\nURI: https://bank.example"), pay.Malformed},
		"resources elsewhere": {set("resources", []string{"https://bank.example/"}), pay.BadOrigin},
		"line in resources":   {set("resources", []string{"https://api.example.com/a\nNonce: x"}), pay.BadOrigin},
		"a right as resource": {set("resources", []string{"urn:recap:eyJhdHQiOnt9fQ"}), pay.BadOrigin},
		"line in uri":         {set("uri", "https://api.example.com/\nNonce: x"), pay.BadOrigin},
		"long":                {set("statement", strings.Repeat("x", 4<<10)), pay.Malformed},
		"line in request id":  {set("requestId", "x\ny"), pay.Malformed},
		"version 2":           {set("version", "2"), pay.Malformed},
		"short nonce":         {set("nonce", "a1b2"), pay.Malformed},
		"nonce with sign":     {set("nonce", "a1b2c3d4-e5"), pay.Malformed},
		"old":                 {set("issuedAt", now.Add(-6*time.Minute).Format(time.RFC3339)), pay.BadWindow},
		"of tomorrow":         {set("issuedAt", now.Add(24*time.Hour).Format(time.RFC3339)), pay.BadWindow},
		"no time":             {set("issuedAt", "yesterday"), pay.BadWindow},
		"over":                {set("expirationTime", now.Format(time.RFC3339)), pay.BadWindow},
		"begins at no time":   {set("notBefore", "soon"), pay.BadWindow},
		"resources of a kind": {set("resources", "all"), pay.Malformed},
	} {
		var refused *pay.RefusedError
		if s, err := v2.Login(request(), login(t, c.change, sepoliaLogin), wallet, now); !errors.As(err, &refused) || refused.Cause != c.cause {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if l, err := v2.Login(request(), inHeader(permit2Challenge("exact", "", "{}")), wallet, now); l != nil || err != nil {
		t.Errorf("none is offered: %+v, %v", l, err)
	}
	for _, chains := range []string{`[]`, `[{"chainId":"eip155:8453","type":"eip191"}]`, `[{"chainId":"eip155:84532","type":"eip1271"}]`} {
		if s, err := v2.Login(request(), login(t, nil, chains), wallet, now); s != nil || err != nil {
			t.Errorf("%s: %+v, %v", chains, s, err)
		}
	}
}

// The message is the one that the official seller builds from what we send.
func TestSignInOfficial(t *testing.T) {
	var input bytes.Buffer
	var want []string
	for _, change := range []func(map[string]any){
		nil,
		func(i map[string]any) { i["statement"] = "Sign in to go on." },
		func(i map[string]any) { delete(i, "resources") },
		func(i map[string]any) {
			i["statement"], i["requestId"] = "All of it.", "r-1"
			i["expirationTime"], i["notBefore"] = now.Add(time.Hour).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)
			i["resources"] = []string{"https://api.example.com/a", "https://api.example.com/b?c=d"}
		},
	} {
		s, err := v2.Login(request(), login(t, change, sepoliaLogin), wallet, now)
		must(t, err)
		req := request()
		must(t, v2.AttachLogin(req, *s, make([]byte, 65)))
		input.WriteString(`{"kind":"login","message":` + string(decodeHeader(t, req.Header.Get("SIGN-IN-WITH-X"))) + "}\n")
		want = append(want, evm.PersonalDigest(s.Message).Hex())
	}
	cmd := e2e.Node(t, "hashes.mjs")
	cmd.Stdin = &input
	out, err := cmd.Output()
	must(t, err)
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("messages hash to %q, the official ones to %q", want, got)
	}
}
