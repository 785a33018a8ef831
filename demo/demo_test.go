package demo_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/demo"
	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

var seller = common.HexToAddress("0x00000000000000000000000000000000005e11e4")

type shop struct {
	net    *chaintest.Net
	url    string
	key    *ecdsa.PrivateKey
	wallet pay.Wallet
}

func newShop(t *testing.T) shop {
	t.Helper()
	net := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID))
	relayer, key := newKey(t), newKey(t)
	settler := demo.NewSettler(net.Client, relayer)
	net.Ether(settler.Address(), big.NewInt(1e18))
	s := shop{net: net, key: key, wallet: pay.Wallet{Network: net.Network(), Address: crypto.PubkeyToAddress(key.PublicKey)}}
	net.Fund(s.wallet.Address, money.One)
	server := httptest.NewServer(demo.New(demo.Config{Network: net.Network(), PayTo: seller, Settle: settler.Settle, Clock: time.Now}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRoutes(t *testing.T) {
	s := newShop(t)
	for path, want := range map[string]string{"/": "/v2/premium", "/?metered": "POST /writer/complete", "/free": "free"} {
		if resp := s.send(t, request(s.url+path)); resp.Status != http.StatusOK || !strings.Contains(string(resp.Body), want) {
			t.Errorf("%s: %d %s", path, resp.Status, resp.Body)
		}
	}
	for path, want := range map[string]struct {
		protocol string
		price    money.USDC
		field    string
	}{
		"/v1/weather?city=Porto": {"x402-v1", 10_000, "celsius"},
		"/v2/weather":            {"x402-v2", 10_000, "celsius"},
		"/v2/premium":            {"x402-v2", 250_000, "days"},
		"/v1/joke":               {"x402-v1", 100, "joke"},
	} {
		had, earned := s.net.Balance(s.wallet.Address), s.net.Balance(seller)
		req, q := s.prepare(t, s.url+path, nil)
		if q.Protocol.Name() != want.protocol || q.Offers[0].Amount != want.price || len(q.Offers[0].Notes) != 0 {
			t.Errorf("%s: %s asks %s, notes %q", path, q.Protocol.Name(), q.Offers[0].Amount, q.Offers[0].Notes)
		}
		resp := s.send(t, req)
		var body map[string]any
		if resp.Status != http.StatusOK || json.Unmarshal(resp.Body, &body) != nil || body[want.field] == nil {
			t.Fatalf("%s: %d %s", path, resp.Status, resp.Body)
		}
		r, err := q.Protocol.Receipt(q.Offers[0], resp)
		if err != nil || !r.Success || !s.net.Mined(r.TxHash).OK {
			t.Errorf("%s: receipt %+v, %v", path, r, err)
		}
		if s.net.Balance(seller).Sub(earned) != want.price || had.Sub(s.net.Balance(s.wallet.Address)) != want.price {
			t.Errorf("%s: the chain moved by something else", path)
		}

		// a replay
		resp = s.send(t, req)
		if r, err := q.Protocol.Receipt(q.Offers[0], resp); resp.Status != http.StatusPaymentRequired || err != nil || r.Success || r.Reason != "invalid_transaction_state" {
			t.Errorf("%s again: %d %+v %v", path, resp.Status, r, err)
		}
		if s.net.Balance(seller).Sub(earned) != want.price {
			t.Errorf("%s: charged twice", path)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := newShop(t)
	for name, spoil := range map[string]func(*evm.Authorization){
		"too little":    func(a *evm.Authorization) { a.Value-- },
		"too much":      func(a *evm.Authorization) { a.Value++ },
		"to another":    func(a *evm.Authorization) { a.To = s.wallet.Address },
		"expired":       func(a *evm.Authorization) { a.ValidBefore = time.Now().Unix() - 1 },
		"about to":      func(a *evm.Authorization) { a.ValidBefore = time.Now().Unix() + 3 },
		"not yet":       func(a *evm.Authorization) { a.ValidAfter = time.Now().Unix() + 60 },
		"of another":    func(a *evm.Authorization) { a.From = seller },
		"never existed": nil,
	} {
		for _, path := range []string{"/v1/weather", "/v2/weather"} {
			req, _ := s.prepare(t, s.url+path, spoil)
			if spoil == nil { // signed by nobody: a byte of the header is changed
				for _, h := range []string{"X-Payment", "Payment-Signature"} {
					if v := req.Header.Get(h); v != "" {
						req.Header.Set(h, v[:len(v)/2]+"!"+v[len(v)/2:])
					}
				}
			}
			resp := s.send(t, req)
			if resp.Status != http.StatusPaymentRequired {
				t.Errorf("%s %s: %d %s", path, name, resp.Status, resp.Body)
			}
		}
	}
	// a proof of one price on another route
	cheap, _ := s.prepare(t, s.url+"/v2/weather", nil)
	cheap.URL = s.url + "/v2/premium"
	if resp := s.send(t, cheap); resp.Status != http.StatusPaymentRequired {
		t.Errorf("cheap proof on the dear route: %d", resp.Status)
	}
	// a wallet without money
	s.key = newKey(t)
	s.wallet.Address = crypto.PubkeyToAddress(s.key.PublicKey)
	poor, q := s.prepare(t, s.url+"/v1/joke", nil)
	resp := s.send(t, poor)
	if r, err := q.Protocol.Receipt(q.Offers[0], resp); resp.Status != http.StatusPaymentRequired || err != nil || r.Reason == "" {
		t.Errorf("poor: %d %+v %v", resp.Status, r, err)
	}
	if got := s.net.Balance(seller); got != 0 {
		t.Errorf("seller has %s", got)
	}
}

// Many at once: account nonces do not collide; one proof many times at once is served once.
func TestConcurrent(t *testing.T) {
	s := newShop(t)
	const n = 16
	requests := make([]*pay.Request, 0, 2*n)
	for range n {
		req, _ := s.prepare(t, s.url+"/v1/joke", nil)
		requests = append(requests, req)
	}
	same, _ := s.prepare(t, s.url+"/v2/weather", nil)
	requests = append(requests, slices.Repeat([]*pay.Request{same}, n)...)
	served := make([]bool, len(requests))
	var wg sync.WaitGroup
	for i, req := range requests {
		wg.Go(func() {
			resp, err := do(t.Context(), req)
			served[i] = err == nil && resp.Status == http.StatusOK
		})
	}
	wg.Wait()
	count := func(list []bool) (c int) {
		for _, ok := range list {
			if ok {
				c++
			}
		}
		return c
	}
	if jokes, weather := count(served[:n]), count(served[n:]); jokes != n || weather != 1 {
		t.Errorf("served %d of %d jokes and %d weather for one proof", jokes, n, weather)
	}
	if got := s.net.Balance(seller); got != n*100+10_000 {
		t.Errorf("seller has %s", got)
	}
}

// What the buyer is told when the settlement fails or its end is not known.
func TestReasons(t *testing.T) {
	s := newShop(t)
	tx := common.HexToHash("0x01")
	for want, c := range map[string]struct {
		hash common.Hash
		err  error
	}{
		"settlement_pending":        {tx, context.DeadlineExceeded},
		"unexpected_settle_error":   {common.Hash{}, context.DeadlineExceeded},
		"invalid_transaction_state": {tx, evm.ErrReverted},
	} {
		server := httptest.NewServer(demo.New(demo.Config{
			Network: s.net.Network(), PayTo: seller, Clock: time.Now,
			Settle: func(context.Context, evm.Authorization, []byte) (common.Hash, error) { return c.hash, c.err },
		}))
		for _, path := range []string{"/v1/joke", "/v2/weather"} {
			req, q := s.prepare(t, server.URL+path, nil)
			resp := s.send(t, req)
			r, err := q.Protocol.Receipt(q.Offers[0], resp)
			if resp.Status != http.StatusPaymentRequired || err != nil || r.Success || r.Reason != want || r.TxHash != c.hash {
				t.Errorf("%s: %d %+v %v, want %s", path, resp.Status, r, err, want)
			}
		}
		server.Close()
	}
}

// The official client pays the demo, in both versions.
func TestOfficialBuyer(t *testing.T) {
	s := newShop(t)
	for _, path := range []string{"/v1/weather", "/v2/weather"} {
		out, err := e2e.Node(t, "buyer.mjs", "URL="+s.url+path, "KEY="+hexutil.Encode(crypto.FromECDSA(s.key)), "N=2").Output()
		if err != nil {
			t.Errorf("%s: %s %v", path, out, err)
		}
	}
	if got := s.net.Balance(seller); got != 40_000 {
		t.Errorf("seller has %s", got)
	}
}

// prepare asks for the price and attaches a proof, spoiled before it is signed.
func (s shop) prepare(t *testing.T, url string, spoil func(*evm.Authorization)) (*pay.Request, pay.Quote) {
	t.Helper()
	req := request(url)
	q, err := pay.Offers([]pay.Protocol{x402.V2{}, x402.V1{}}, s.wallet, req, s.send(t, req))
	if err != nil {
		t.Fatal(err)
	}
	var nonce [32]byte
	_, _ = rand.Read(nonce[:])
	in, err := q.Protocol.Instruct(q.Offers[0], s.wallet.Address, time.Now(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	a, o := in.Authorization, q.Offers[0]
	if spoil != nil {
		spoil(&a)
		o.Amount, o.PayTo = a.Value, a.To // or Attach would refuse it
	}
	sig, err := evm.Sign(s.key, a.Digest(in.Domain))
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Protocol.Attach(req, o, pay.Proof{Authorization: a, Signature: sig}); err != nil {
		t.Fatal(err)
	}
	return req, q
}

func (s shop) send(t *testing.T, req *pay.Request) *pay.Response {
	t.Helper()
	resp, err := do(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func request(url string) *pay.Request {
	return &pay.Request{Method: http.MethodGet, URL: url, Header: http.Header{}}
}

func do(ctx context.Context, r *pay.Request) (*pay.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &pay.Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, err
}
