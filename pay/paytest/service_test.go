package paytest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

// Each behaviour does what its name says, in both versions.
func TestBehaviours(t *testing.T) {
	sepolia, _ := evm.NetworkByID(evm.BaseSepoliaID)
	s := paytest.New(t, paytest.Options{Network: sepolia, PayTo: common.HexToAddress("0x02"), Clock: time.Now, RedirectTo: "http://127.0.0.1:1/"})
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := pay.Wallet{Network: sepolia, Address: crypto.PubkeyToAddress(key.PublicKey)}
	for b, want := range map[paytest.Behaviour]struct {
		status int // 0: nothing payable, -1: no answer
		known  bool
	}{
		paytest.Serve: {200, true}, paytest.LieReceipt: {200, true}, paytest.NoReceipt: {200, false}, paytest.AskAgain: {402, false},
		paytest.Raise: {402, false}, paytest.FailAfter: {500, false}, paytest.NotFound: {404, false}, paytest.Redirect: {307, false},
		paytest.Hang: {-1, false}, paytest.Reset: {-1, false}, paytest.PayToken: {}, paytest.PayZero: {}, paytest.OtherHost: {}, paytest.ShortWindow: {},
	} {
		for version, p := range map[int]pay.Protocol{1: x402.V1{}, 2: x402.V2{}} {
			req := &pay.Request{Method: http.MethodPost, URL: s.Link(version, b, 123), Header: http.Header{}, Body: []byte("hello")}
			asked, before := s.Asked(), len(s.Seen())
			q, err := pay.Offers([]pay.Protocol{p}, w, req, do(t, req))
			if want.status == 0 {
				var none *pay.UnpayableError
				if !errors.As(err, &none) {
					t.Errorf("%s v%d: %v", b, version, err)
				}
				continue
			}
			if err != nil || q.Offers[0].Amount != 123 || s.Asked() != asked+1 {
				t.Fatalf("%s v%d: %+v, %v", b, version, q, err)
			}
			in, err := p.Instruct(q.Offers[0], w.Address, time.Now(), crypto.Keccak256Hash([]byte(b), []byte{byte(version)}))
			if err != nil {
				t.Fatal(err)
			}
			sig, err := evm.Sign(key, in.Authorization.Digest(in.Domain))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Attach(req, q.Offers[0], pay.Proof{Authorization: in.Authorization, Signature: sig}); err != nil {
				t.Fatal(err)
			}
			resp := do(t, req)
			seen := s.Seen()
			if len(seen) != before+1 || seen[before].Proof.Authorization != in.Authorization || string(seen[before].Body) != "hello" {
				t.Errorf("%s v%d: saw %+v", b, version, seen[before:])
			}
			if resp == nil {
				if want.status != -1 {
					t.Errorf("%s v%d: no answer", b, version)
				}
				continue
			}
			r, err := p.Receipt(q.Offers[0], resp)
			if resp.Status != want.status || r.Known != want.known || err != nil {
				t.Errorf("%s v%d: status %d, receipt %+v, %v", b, version, resp.Status, r, err)
			}
		}
	}
}

func do(t *testing.T, r *pay.Request) *pay.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.Header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &pay.Response{Status: resp.StatusCode, Header: resp.Header, Body: body}
}
