package core_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

// A service may ask for money in any way. Whatever it asks, at most one proof leaves, over no more than was asked, for the
// network's own token, to the payee that was asked for, for ten minutes at most.

// demand is a 402 that an asker is about to send.
type demand struct {
	version int
	amount  string         // what the field is called
	all     map[string]any // the challenge
	offer   map[string]any // its only offer
	payer   string         // who is asked
	header  http.Header
	body    []byte // of version 1, when set
	status  int
	w       http.ResponseWriter
	r       *http.Request
	done    bool // the answer has been written
}

func (c *demand) set(name string, v any) { c.offer[name] = v }

func (c *demand) accepts() []any {
	offers, _ := c.all["accepts"].([]any)
	return offers
}

// another is a copy of the offer, changed.
func (c *demand) another(name string, v any) map[string]any {
	o := maps.Clone(c.offer)
	o[name] = v
	return o
}

// offers puts so many empty offers in place of the one.
func (c *demand) offers(n int) {
	all := make([]any, n)
	for i := range all {
		all[i] = map[string]any{}
	}
	c.all["accepts"] = all
}

// devName is what version 1 calls the tests' network.
const devName = "bursar-dev"

// otherPayee is an address of nobody here.
const otherPayee = "0x00000000000000000000000000000000000e711e"

type asker struct {
	name   string
	ask    func(*demand)
	only   int       // of this version alone; 0: of both
	signed bool      // one proof; else none
	told   string    // in why nothing can be paid
	code   core.Code // or the error that the caller gets
	status int       // or the answer, unpaid; 402 with told
}

// askers are what a challenge can be. Each is called from a wallet and from a session, in both versions.
var askers = []asker{
	{name: "asks fairly", ask: func(*demand) {}, signed: true},
	{name: "names a wrong token in the domain", ask: func(c *demand) { c.set("extra", map[string]any{"name": "Evil USD", "version": "9"}) }, signed: true},
	{name: "names no domain", ask: func(c *demand) { delete(c.offer, "extra") }, signed: true},
	{name: "pays the zero address", ask: func(c *demand) { c.set("payTo", common.Address{}.Hex()) }, told: "zero address"},
	{name: "pays the token itself", ask: func(c *demand) { c.set("payTo", c.offer["asset"]) }, told: "payTo is the token"},
	{name: "pays the payer", ask: func(c *demand) { c.set("payTo", c.payer) }, told: "payTo is the payer"},
	{name: "pays half an address", ask: func(c *demand) { c.set("payTo", "0x00000000000000000000000000000000") }, told: "is not an address"},
	{name: "pays nobody", ask: func(c *demand) { delete(c.offer, "payTo") }, told: "is not an address"},
	{name: "pays a name", ask: func(c *demand) { c.set("payTo", "vitalik.eth") }, told: "is not an address"},
	{name: "is on another network", ask: func(c *demand) { c.set("network", map[int]string{1: "base", 2: "eip155:8453"}[c.version]) }, told: "the wallet on"},
	{name: "is on a network of its own", ask: func(c *demand) { c.set("network", map[int]string{1: "evil", 2: "eip155:666"}[c.version]) }, told: "network"},
	{name: "is on every network", ask: func(c *demand) { c.set("network", map[int]string{1: "*", 2: "eip155:*"}[c.version]) }, told: "network"},
	{name: "wants another token", ask: func(c *demand) { c.set("asset", otherPayee) }, told: "is not USDC"},
	{name: "wants no token", ask: func(c *demand) { delete(c.offer, "asset") }, told: "is not an address"},
	{name: "amount is a number", ask: func(c *demand) { c.set(c.amount, 10000) }, told: "cannot unmarshal number"},
	{name: "amount is a float", ask: func(c *demand) { c.set(c.amount, "0.01") }, told: "amount"},
	{name: "amount is hexadecimal", ask: func(c *demand) { c.set(c.amount, "0x2710") }, told: "amount"},
	{name: "amount has an exponent", ask: func(c *demand) { c.set(c.amount, "1e4") }, told: "amount"},
	{name: "amount is negative", ask: func(c *demand) { c.set(c.amount, "-10000") }, told: "amount"},
	{name: "amount is zero", ask: func(c *demand) { c.set(c.amount, "0") }, told: "amount"},
	{name: "amount is empty", ask: func(c *demand) { c.set(c.amount, "") }, told: "amount"},
	{name: "amount has spaces", ask: func(c *demand) { c.set(c.amount, " 10000") }, told: "amount"},
	{name: "amount wraps at 64 bits", ask: func(c *demand) { c.set(c.amount, "18446744073709561616") }, told: "amount"},
	{name: "amount has 300 digits", ask: func(c *demand) { c.set(c.amount, strings.Repeat("9", 300)) }, told: "amount"},
	{name: "amount is in other digits", ask: func(c *demand) { c.set(c.amount, "١٠٠٠٠") }, told: "amount"},
	{name: "asks for more than the wallet has", ask: func(c *demand) { c.set(c.amount, "900000000") }, code: core.InsufficientBalance},
	{name: "asks for more than this server pays", ask: func(c *demand) { c.set(c.amount, "1000000001") }, code: core.SpendingLimit},
	{name: "window of ten years", ask: func(c *demand) { c.set("maxTimeoutSeconds", 315360000) }, signed: true},
	{name: "window beyond 64 bits", ask: func(c *demand) { c.set("maxTimeoutSeconds", json.Number("1e30")) }, told: "cannot unmarshal number"},
	{name: "window is over", ask: func(c *demand) { c.set("maxTimeoutSeconds", -60) }, told: "too short to settle"},
	{name: "window of a moment", ask: func(c *demand) { c.set("maxTimeoutSeconds", 5) }, told: "too short to settle"},
	{name: "no window", ask: func(c *demand) { delete(c.offer, "maxTimeoutSeconds") }, told: "too short to settle"},
	{name: "scheme nobody knows", ask: func(c *demand) { c.set("scheme", "everything") }, told: "scheme"},
	{name: "wants a maximum by allowance", ask: func(c *demand) { c.set("scheme", "upto") }, told: "scheme upto"},
	{name: "sells for another host", ask: func(c *demand) {
		c.set("resource", "https://bank.example/")
		c.all["resource"] = map[string]any{"url": "https://bank.example/"}
	}, told: "host"},
	{name: "5,000 offers", ask: func(c *demand) { c.offers(5000) }, only: 1, told: "more offers than"},
	{name: "5,000 offers in a header", ask: func(c *demand) { c.offers(5000) }, only: 2, told: "header is longer"},
	{name: "33 offers", ask: func(c *demand) { c.offers(33) }, told: "more offers than"},
	{name: "no offer", ask: func(c *demand) { c.all["accepts"] = []any{} }, status: 402},
	{name: "a dear offer before a cheap one", ask: func(c *demand) {
		c.all["accepts"] = []any{c.another(c.amount, "20000"), c.offer}
	}, signed: true},
	{name: "a cheap offer that cannot be taken", ask: func(c *demand) {
		cheap := c.another(c.amount, "1")
		cheap["payTo"] = common.Address{}.Hex()
		c.all["accepts"] = []any{cheap, c.offer}
	}, signed: true},
	{name: "an amount twice in one offer", ask: func(c *demand) {
		b, _ := json.Marshal(c.all)
		c.body = bytes.Replace(b, []byte(`"scheme"`), []byte(`"`+c.amount+`":"1","scheme"`), 1)
	}, told: "comes twice"},
	{name: "two challenges in one header", ask: func(c *demand) {
		b, _ := json.Marshal(c.all)
		c.body = append(append([]byte{}, b...), b...)
	}, only: 2, told: "not of version 2"},
	{name: "two challenges in one body", ask: func(c *demand) {
		b, _ := json.Marshal(c.all)
		c.body = append(append([]byte{}, b...), b...)
	}, only: 1, status: 402},
	{name: "nested without end", ask: func(c *demand) {
		c.set("extra", json.RawMessage(strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 100)))
	}, told: "nested deeper"},
	{name: "version of tomorrow", ask: func(c *demand) { c.all["x402Version"] = 3 }, only: 1, status: 402},
	{name: "header of a wrong version", ask: func(c *demand) { c.all["x402Version"] = 1 }, only: 2, told: "not of version 2"},
	{name: "header that is no base64", ask: func(c *demand) { c.header.Set("Payment-Required", "%%%") }, only: 2, told: "not base64"},
	{name: "header of 20 KiB", ask: func(c *demand) { c.set("description", strings.Repeat("x", 20<<10)) }, only: 2, told: "header is longer"},
	{name: "header without end", ask: func(c *demand) { c.header.Set("X-Long", strings.Repeat("x", 1<<20)) }, code: core.ServiceFailed},
	{name: "two headers that disagree", ask: func(c *demand) {
		b, _ := json.Marshal(map[string]any{"x402Version": 2, "accepts": []any{c.another("payTo", otherPayee)}})
		c.header["Payment-Required"] = []string{encoded(c.all), base64.StdEncoding.EncodeToString(b)}
	}, only: 2, signed: true},
	{name: "header and body that disagree", ask: func(c *demand) {
		dear := maps.Clone(c.offer)
		dear["network"], dear["payTo"], dear["maxAmountRequired"] = devName, otherPayee, "30000"
		c.body, _ = json.Marshal(map[string]any{"x402Version": 1, "accepts": []any{dear}})
	}, only: 2, signed: true},
	{name: "a page for people", ask: func(c *demand) {
		c.header.Set("Content-Type", "text/html")
		c.body = []byte("<html>pay here</html>")
	}, only: 1, status: 402},
	{name: "a large page for people beside the header", ask: func(c *demand) {
		c.header.Set("Content-Type", "text/html")
		c.body = bytes.Repeat([]byte("<p>pay</p>"), 1<<15)
	}, only: 2, signed: true},
	{name: "text that only looks like JSON", ask: func(c *demand) { c.body = []byte(`{"x402Version":1,"accepts":[`) }, only: 1, status: 402},
	{name: "a packed challenge", ask: func(c *demand) {
		b, _ := json.Marshal(c.all)
		c.pack(b)
	}, only: 1, signed: true},
	{name: "a challenge that unpacks without end", ask: func(c *demand) {
		c.pack(append([]byte(`{"x402Version":1,"accepts":[],"error":"`), make([]byte, 64<<20)...))
	}, only: 1, told: "body is too long"},
	{name: "body without end", ask: func(c *demand) {
		c.w.WriteHeader(http.StatusPaymentRequired)
		_, _ = io.WriteString(c.w, `{"x402Version":1,"error":"`)
		for c.done = true; ; {
			if _, err := c.w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}, only: 1, code: core.ServiceFailed},
	{name: "a byte now and then", ask: func(c *demand) {
		c.w.WriteHeader(http.StatusPaymentRequired)
		for c.done = true; c.r.Context().Err() == nil; {
			_, _ = io.WriteString(c.w, "{")
			_ = http.NewResponseController(c.w).Flush()
			select {
			case <-c.r.Context().Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}, code: core.Timeout},
	{name: "a challenge that breaks off", ask: func(c *demand) {
		c.w.Header().Set("Content-Length", "1000")
		c.w.WriteHeader(http.StatusPaymentRequired)
		_, _ = io.WriteString(c.w, "{")
		_ = http.NewResponseController(c.w).Flush()
		panic(http.ErrAbortHandler)
	}, code: core.ServiceFailed},
	{name: "asks with status 200", ask: func(c *demand) { c.status = http.StatusOK }, status: 200},
	{name: "asks with status 401", ask: func(c *demand) { c.status = http.StatusUnauthorized }, status: 401},
	{name: "asks with status 403", ask: func(c *demand) { c.status = http.StatusForbidden }, status: 403},
	{name: "asks from elsewhere by a redirect", ask: func(c *demand) {
		c.header.Set("Location", "http://localhost"+c.r.Host[strings.LastIndex(c.r.Host, ":"):]+"/fair")
		c.status = http.StatusTemporaryRedirect
	}, status: 307},
	{name: "asks on with each request", ask: func(c *demand) {
		if c.r.Header.Get("X-Payment")+c.r.Header.Get("Payment-Signature") != "" {
			c.set(c.amount, "20000")
		}
	}, signed: true},
}

func encoded(v any) string {
	b, _ := json.Marshal(v)
	return base64.StdEncoding.EncodeToString(b)
}

// pack makes a body that comes by gzip.
func (c *demand) pack(b []byte) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	c.header.Set("Content-Encoding", "gzip")
	c.body = out.Bytes()
}

// booth is one asker in one version; who brings a proof that is valid for what it asks fairly is served.
type booth struct {
	asker
	url    string
	fair   x402.Ask
	payer  string
	mu     sync.Mutex
	proofs []pay.Proof
	wrong  []string
}

func newBooth(w *coretest.World, a asker, version int, payTo common.Address, payer string) *booth {
	b := &booth{asker: a, payer: payer}
	server := httptest.NewServer(b)
	w.T.Cleanup(server.Close)
	b.url = server.URL + "/"
	b.fair = x402.Ask{
		Version: version, Network: w.Net.Network(), Amount: cent, PayTo: payTo, Resource: b.url, Description: "test",
		ValidFor: 9 * time.Minute, // each proof is settled, one block after the other
	}
	return b
}

func (b *booth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := b.demand(w, r)
	if proof := r.Header.Get("X-Payment") + r.Header.Get("Payment-Signature"); proof != "" {
		b.take(proof)
		if b.name != "asks on with each request" {
			_, _ = io.WriteString(w, "served")
			return
		}
	}
	if r.URL.Path != "/fair" {
		b.ask(c)
	}
	if !c.done {
		c.write()
	}
}

// demand is what the booth would ask fairly.
func (b *booth) demand(w http.ResponseWriter, r *http.Request) *demand {
	fair := httptest.NewRecorder()
	_ = b.fair.Challenge(fair, "")
	text := fair.Body.Bytes()
	c := &demand{version: b.fair.Version, amount: "maxAmountRequired", payer: b.payer, header: http.Header{}, status: http.StatusPaymentRequired, w: w, r: r}
	if c.version == 2 {
		c.amount = "amount"
		text, _ = base64.StdEncoding.DecodeString(fair.Header().Get("Payment-Required"))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	_ = d.Decode(&c.all)
	c.offer, _ = c.accepts()[0].(map[string]any)
	return c
}

func (c *demand) write() {
	body := []byte("{}")
	switch {
	case c.version == 2 && c.header.Get("Payment-Required") == "":
		text := c.body
		if text == nil || c.header.Get("Content-Type") != "" || bytes.Contains(text, []byte(`"x402Version":1`)) {
			c.header.Set("Payment-Required", encoded(c.all))
		} else {
			c.header.Set("Payment-Required", base64.StdEncoding.EncodeToString(text))
		}
		fallthrough
	case c.version == 2 && c.body != nil:
		body = c.body
	case c.version == 1 && c.body != nil:
		body = c.body
	case c.version == 1:
		body, _ = json.Marshal(c.all)
	}
	maps.Copy(c.w.Header(), c.header)
	c.w.WriteHeader(c.status)
	_, _ = c.w.Write(body)
}

// take keeps a proof, and notes what it must not be.
func (b *booth) take(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	raw, _ := base64.StdEncoding.DecodeString(text)
	var p struct {
		Payload struct {
			Signature     string `json:"signature"`
			Authorization struct{ From, To, Value, ValidAfter, ValidBefore, Nonce string }
		}
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		b.wrong = append(b.wrong, err.Error())
		return
	}
	auth := p.Payload.Authorization
	value, _ := money.ParseAtomic(auth.Value)
	var from, until int64
	_, _ = fmt.Sscan(auth.ValidAfter, &from)
	_, _ = fmt.Sscan(auth.ValidBefore, &until)
	proof := pay.Proof{Signature: common.FromHex(p.Payload.Signature), Authorization: evm.Authorization{
		From: common.HexToAddress(auth.From), To: common.HexToAddress(auth.To), Value: value, ValidAfter: from, ValidBefore: until,
		Nonce: common.HexToHash(auth.Nonce),
	}}
	b.proofs = append(b.proofs, proof)
	if proof.Authorization.To != b.fair.PayTo || value != cent {
		b.wrong = append(b.wrong, fmt.Sprintf("signed %+v", auth))
	}
	if signer, err := evm.Recover(proof.Authorization.Digest(b.fair.Network.Domain()), proof.Signature); err != nil || signer != proof.Authorization.From {
		b.wrong = append(b.wrong, "not signed under the token's true domain")
	}
}

func TestAskers(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		payTo := address("0x5e11e2")
		var wg sync.WaitGroup
		var mu sync.Mutex
		var wallet, session []pay.Proof
		for _, a := range askers {
			for _, version := range []int{1, 2} {
				for _, id := range []string{"", b.session.ID.String()} {
					if a.only != 0 && a.only != version {
						continue
					}
					payer := b.agent.Address
					if id != "" {
						payer = w.Platform.Hex()
					}
					booth := newBooth(w, a, version, payTo, payer)
					wg.Go(func() {
						booth.call(t, b, id)
						mu.Lock()
						defer mu.Unlock()
						if id == "" {
							wallet = append(wallet, booth.proofs...)
						} else {
							session = append(session, booth.proofs...)
						}
					})
				}
			}
		}
		wg.Wait()
		_, settle := w.Facilitator()
		for _, proof := range append(wallet, session...) {
			if left := time.Unix(proof.Authorization.ValidBefore, 0).Sub(w.Clock.Now()); left > pay.MaxWindow {
				t.Errorf("a proof lives for %s", left)
			}
			if _, err := settle(w.Ctx, proof); err != nil {
				t.Errorf("what was signed does not settle: %v", err)
			}
		}
		w.Jobs()
		w.Jobs()
		b.spent(t, money.USDC(len(wallet))*cent, money.USDC(len(session))*cent)
		if got := w.Net.Balance(payTo); got != money.USDC(len(wallet)+len(session))*cent {
			t.Errorf("the sellers have %s", got)
		}
	})
}

// call asks once, and compares what was signed and told.
func (b *booth) call(t *testing.T, who buyer, session string) {
	name := fmt.Sprintf("%s, version %d, session %q", b.name, b.fair.Version, session)
	in := core.FetchInput{URL: b.url, SessionID: session}
	if b.code == core.Timeout {
		in.Timeout = patient
	}
	r, err := who.w.Core.Payments.Fetch(who.w.Ctx, who.p, in)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, wrong := range b.wrong {
		t.Errorf("%s: %s", name, wrong)
	}
	if want := map[bool]int{true: 1}[b.signed]; len(b.proofs) != want {
		t.Errorf("%s: %d proofs, want %d; %+v %v", name, len(b.proofs), want, r, err)
	}
	switch {
	case code(err) != b.code:
		t.Errorf("%s: %+v %v", name, r, err)
	case err != nil:
		if core.AsError(err).Payment != "" {
			t.Errorf("%s: a payment where nothing was signed: %v", name, err)
		}
	case b.signed:
		if !r.Paid || r.Cost != cent {
			t.Errorf("%s: %+v", name, r)
		}
	case b.status != 0:
		if r.Status != b.status || r.Paid || r.Unpayable != "" {
			t.Errorf("%s: %+v", name, r)
		}
	case r.Status != 402 || r.Paid || r.Unpayable == "" || !strings.Contains(r.Unpayable, b.told):
		t.Errorf("%s: status %d, %q", name, r.Status, r.Unpayable)
	}
}
