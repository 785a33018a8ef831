package x402

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/pay"
)

// Extension sign-in-with-x (specs/extensions/sign-in-with-x.md): a wallet that has paid signs in (EIP-4361) and is served
// without paying again.
const (
	signInWithX  = "sign-in-with-x"
	headerSignIn = "SIGN-IN-WITH-X"
)

// Bounds of a login, against messages that were made for another time.
const (
	signInAge   = 5 * time.Minute // at most so long ago, as the official seller demands
	signInAhead = time.Minute     // clocks differ
)

// maxSignIn is how long a message may be, in bytes: a service must take it in a header.
const maxSignIn = 4 << 10

var _ pay.LoginProtocol = V2{}

// signInInfo is what the seller declares and the message says.
type signInInfo struct {
	Domain         string   `json:"domain"`
	URI            string   `json:"uri"`
	Statement      string   `json:"statement,omitempty"`
	Version        string   `json:"version"`
	Nonce          string   `json:"nonce"`
	IssuedAt       string   `json:"issuedAt"`
	ExpirationTime string   `json:"expirationTime,omitempty"`
	NotBefore      string   `json:"notBefore,omitempty"`
	RequestID      string   `json:"requestId,omitempty"`
	Resources      []string `json:"resources,omitempty"`
}

// wireSignIn is SIGN-IN-WITH-X before base64.
type wireSignIn struct {
	signInInfo
	Address   string `json:"address"`
	ChainID   string `json:"chainId"`
	Type      string `json:"type"`
	Signature string `json:"signature"`
}

type signInOffer struct {
	Info   signInInfo `json:"info"`
	Chains []struct {
		ChainID string `json:"chainId"`
		Type    string `json:"type"`
	} `json:"supportedChains"`
}

const personal = "eip191"

// Login reads the one of a challenge of version 2, whether anything in that can be paid or not.
func (V2) Login(req *pay.Request, resp *pay.Response, w pay.Wallet, now time.Time) (*pay.Login, error) {
	if resp.Status != http.StatusPaymentRequired {
		return nil, nil
	}
	text, err := challengeText(resp)
	if err != nil || text == nil {
		return nil, nil //nolint:nilerr // what is no challenge offers no login
	}
	var c challengeV2
	var all map[string]json.RawMessage
	if pay.ReadJSON(text, &c) != nil || json.Unmarshal(c.Extensions, &all) != nil || all[signInWithX] == nil {
		return nil, nil
	}
	var offer signInOffer
	if err := json.Unmarshal(all[signInWithX], &offer); err != nil {
		return nil, pay.Refusal(pay.Malformed, "sign-in-with-x cannot be read")
	}
	for _, chain := range offer.Chains {
		if chain.ChainID == w.Network.CAIP2() && chain.Type == personal {
			return offer.Info.login(req.URL, w, now)
		}
	}
	return nil, nil
}

func (i signInInfo) login(called string, w pay.Wallet, now time.Time) (*pay.Login, error) {
	if err := i.check(called, now); err != nil {
		return nil, err
	}
	l := &pay.Login{Domain: i.Domain, Nonce: i.Nonce, Message: i.message(w)}
	if len(l.Message) > maxSignIn {
		return nil, pay.Refusal(pay.Malformed, "a login of %d bytes", len(l.Message))
	}
	var err error
	l.Extra, err = json.Marshal(wireSignIn{signInInfo: i, Address: w.Address.Hex(), ChainID: w.Network.CAIP2(), Type: personal})
	return l, err
}

// check refuses a login of another origin or time, and texts that could pretend to be other lines of the message.
func (i signInInfo) check(called string, now time.Time) error {
	u, err := url.Parse(called)
	if err != nil {
		return pay.Refusal(pay.BadOrigin, "request has no readable URL")
	}
	if !strings.EqualFold(i.Domain, u.Host) {
		return pay.Refusal(pay.BadOrigin, "a login for %q is asked by %s", pay.Text(i.Domain), u.Host)
	}
	for _, text := range append([]string{i.URI}, i.Resources...) { // a right to something elsewhere could be a resource's text
		if r, err := url.Parse(text); err != nil || r.Scheme != u.Scheme || !strings.EqualFold(r.Host, u.Host) || r.User != nil {
			return pay.Refusal(pay.BadOrigin, "a login for %q is asked by %s", pay.Text(text), u.Host)
		}
	}
	for _, text := range append([]string{i.Domain, i.URI, i.Statement, i.Nonce, i.IssuedAt, i.ExpirationTime, i.NotBefore, i.RequestID}, i.Resources...) {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return pay.Refusal(pay.Malformed, "a login with characters outside of ASCII")
		}
	}
	if i.Version != "1" || len(i.Nonce) < 8 || !isAlphanumeric(i.Nonce) {
		return pay.Refusal(pay.Malformed, "a login of version %q with nonce %q", pay.Text(i.Version), pay.Text(i.Nonce))
	}
	return i.checkTimes(now)
}

func (i signInInfo) checkTimes(now time.Time) error {
	issued, err := time.Parse(time.RFC3339, i.IssuedAt)
	if err != nil || issued.Before(now.Add(-signInAge)) || issued.After(now.Add(signInAhead)) {
		return pay.Refusal(pay.BadWindow, "a login issued at %q", pay.Text(i.IssuedAt))
	}
	if i.ExpirationTime != "" {
		if end, err := time.Parse(time.RFC3339, i.ExpirationTime); err != nil || !end.After(now) {
			return pay.Refusal(pay.BadWindow, "a login that ends at %q", pay.Text(i.ExpirationTime))
		}
	}
	if i.NotBefore != "" {
		if _, err := time.Parse(time.RFC3339, i.NotBefore); err != nil {
			return pay.Refusal(pay.BadWindow, "a login that begins at %q", pay.Text(i.NotBefore))
		}
	}
	return nil
}

func isAlphanumeric(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') })
}

// message is the text of EIP-4361. An absent statement leaves its empty line.
func (i signInInfo) message(w pay.Wallet) string {
	lines := []string{i.Domain + " wants you to sign in with your Ethereum account:", w.Address.Hex(), ""}
	if i.Statement != "" {
		lines = append(lines, i.Statement)
	}
	lines = append(lines, "", "URI: "+i.URI, "Version: "+i.Version, "Chain ID: "+strconv.FormatUint(w.Network.ChainID, 10), "Nonce: "+i.Nonce, "Issued At: "+i.IssuedAt)
	for _, optional := range []struct{ name, value string }{
		{"Expiration Time: ", i.ExpirationTime}, {"Not Before: ", i.NotBefore}, {"Request ID: ", i.RequestID},
	} {
		if optional.value != "" {
			lines = append(lines, optional.name+optional.value)
		}
	}
	if len(i.Resources) > 0 {
		lines = append(lines, "Resources:")
		for _, r := range i.Resources {
			lines = append(lines, "- "+r)
		}
	}
	return strings.Join(lines, "\n")
}

// AttachLogin sets SIGN-IN-WITH-X.
func (V2) AttachLogin(req *pay.Request, l pay.Login, signature []byte) error {
	var w wireSignIn
	if len(signature) != evm.SignatureLength || json.Unmarshal(l.Extra, &w) != nil {
		return errProof
	}
	w.Signature = hexutil.Encode(signature)
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set(headerSignIn, writeBase64(b))
	return nil
}
