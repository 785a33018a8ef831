package core_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/core/coretest"
	"bursar/pay/paytest"
)

// club is a paid service that lets in who has paid and signs in. Its fields may be set while no call is under way.
type club struct {
	*coretest.Seller
	URL    string
	change func(info, challenge map[string]any)                // of what it asks
	greet  func(http.ResponseWriter, *http.Request, bool) bool // answers a login, by whether its wallet has paid; false: it asks

	t      *testing.T
	w      *coretest.World
	mu     sync.Mutex
	nonces []string
	logins []clubLogin
}

// clubLogin is a login that was sent, with its request.
type clubLogin struct {
	Domain, Address, Nonce, Signature string

	header http.Header
	body   string
}

func newClub(t *testing.T, w *coretest.World) *club {
	c := &club{Seller: w.Seller(cent), t: t, w: w, greet: letIn, change: func(map[string]any, map[string]any) {}}
	c.URL = w.Serve(c)
	return c
}

func (c *club) host() string { return strings.TrimPrefix(c.URL, "http://") }
func (c *club) link() string { return c.URL + "/v2/" + string(paytest.Serve) }

// heard are the logins so far. A caller may have its answer before the service is done with the call.
func (c *club) heard() []clubLogin {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.logins)
}

// newest is the nonce that was asked last.
func (c *club) newest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nonces[len(c.nonces)-1]
}

func letIn(w http.ResponseWriter, _ *http.Request, paid bool) bool {
	if paid {
		_, _ = io.WriteString(w, "member")
	}
	return paid
}

// ServeHTTP answers a login, takes a proof, or asks.
func (c *club) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text := r.Header.Get("SIGN-IN-WITH-X"); text != "" && r.Header.Get("PAYMENT-SIGNATURE") == "" {
		l := clubLogin{header: r.Header.Clone()}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || json.Unmarshal(b, &l) != nil {
			c.t.Errorf("a login %q", text)
		}
		body, _ := io.ReadAll(r.Body)
		l.body = string(body)
		c.logins = append(c.logins, l)
		paid := false
		for _, s := range c.Seen() {
			paid = paid || s.Proof.Authorization.From.Hex() == l.Address
		}
		if c.greet(w, r, paid) {
			return
		}
	}
	answer := httptest.NewRecorder()
	c.Seller.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	if asks := answer.Header().Get("PAYMENT-REQUIRED"); asks != "" {
		w.Header().Set("PAYMENT-REQUIRED", c.offer(r, asks))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// offer adds a login to a challenge.
func (c *club) offer(r *http.Request, asks string) string {
	var challenge map[string]any
	unpack(c.t, asks, &challenge)
	nonce := fmt.Sprintf("nonce%03d", len(c.nonces))
	c.nonces = append(c.nonces, nonce)
	info := map[string]any{
		"domain": r.Host, "uri": "http://" + r.Host + r.URL.Path, "version": "1", "nonce": nonce,
		"issuedAt": c.w.Clock.Now().UTC().Format(time.RFC3339), "statement": "Members only.",
	}
	c.change(info, challenge)
	challenge["extensions"] = map[string]any{"sign-in-with-x": map[string]any{
		"info": info, "supportedChains": []any{map[string]any{"chainId": c.w.Net.Network().CAIP2(), "type": "eip191"}},
	}}
	text, err := json.Marshal(challenge)
	if err != nil {
		c.t.Error(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}

// echoed is the nonce of the challenge that the newest proof was for, and the login that came with it.
func (c *club) echoed(t *testing.T) (nonce, login string) {
	t.Helper()
	seen := c.Seen()
	header := seen[len(seen)-1].Header
	var paid struct {
		Extensions map[string]struct{ Info struct{ Nonce string } }
	}
	unpack(t, header.Get("PAYMENT-SIGNATURE"), &paid)
	return paid.Extensions["sign-in-with-x"].Info.Nonce, header.Get("SIGN-IN-WITH-X")
}
