// Package paytest tests payment protocols and their users: Conforms holds a protocol to the contract of
// pay.Protocol, and Service is a paid service without a chain that behaves well or badly on request.
package paytest

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/pay"
)

// Sample is one request and a response to it that asks for payment on the network.
type Sample struct {
	Network  evm.Network
	Request  pay.Request
	Response *pay.Response // nil for a protocol that knows its price before the first send
}

// Time is the moment at which Conforms pays, for samples that end: protocols have no clock of their own.
var Time = time.Unix(1_760_000_000, 0)

// Conforms checks that p keeps the promises of pay.Protocol on a sample that it can pay.
func Conforms(t *testing.T, p pay.Protocol, s Sample) {
	t.Helper()
	if p.Name() == "" {
		t.Error("a protocol has a name")
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := pay.Wallet{
		Network: s.Network, Address: crypto.PubkeyToAddress(key.PublicKey), Also: []pay.InstructionKind{pay.SignPermit2, pay.SignPermit, pay.Transfer},
	}

	others := []*pay.Response{{Status: http.StatusOK, Header: http.Header{}, Body: []byte("hello")}}
	if s.Response != nil {
		others = append(others, nil, &pay.Response{Status: http.StatusPaymentRequired, Header: http.Header{}, Body: []byte(`{"unrelated":true}`)})
	}
	for _, r := range others {
		if offers, err := p.Offers(copyRequest(s.Request), r); s.Response != nil && (err != nil || len(offers) != 0) {
			t.Errorf("%s: reads %+v as a challenge: %v, %v", p.Name(), r, offers, err)
		}
	}

	req := copyRequest(s.Request)
	q, err := pay.Offers([]pay.Protocol{p}, w, req, s.Response)
	if err != nil {
		t.Fatalf("%s: nothing payable in the sample: %v", p.Name(), err)
	}
	if !reflect.DeepEqual(*req, s.Request) {
		t.Errorf("%s: Offers changed the request", p.Name())
	}
	for _, o := range q.Offers {
		if o.Protocol != p.Name() {
			t.Errorf("offer names protocol %q, want %q", o.Protocol, p.Name())
		}
		proof, err := Sign(key, checkInstruct(t, p, o, w))
		if err != nil {
			t.Fatal(err)
		}
		checkAttach(t, p, o, proof, s.Request)
		checkReceipt(t, p, o)
	}
}

func checkInstruct(t *testing.T, p pay.Protocol, o pay.Offer, w pay.Wallet) pay.Instruction {
	t.Helper()
	nonce := crypto.Keccak256Hash([]byte("conforms"))
	in, err := p.Instruct(o, w.Address, Time, nonce)
	if err != nil {
		t.Fatalf("%s: Instruct: %v", p.Name(), err)
	}
	if in.Kind != o.Kind {
		t.Errorf("%s: instruction of kind %d for an offer of kind %d", p.Name(), in.Kind, o.Kind)
	}
	again, err := p.Instruct(o, w.Address, Time, nonce)
	if err != nil || !reflect.DeepEqual(in, again) {
		t.Errorf("%s: Instruct is not a pure function", p.Name())
	}
	for name, spoil := range map[string]func(*pay.Offer){
		"zero payTo":     func(o *pay.Offer) { o.PayTo = common.Address{} },
		"token as payTo": func(o *pay.Offer) { o.PayTo = w.Network.USDC },
		"payer as payTo": func(o *pay.Offer) { o.PayTo = w.Address },
		"no amount":      func(o *pay.Offer) { o.Amount = 0 },
		"negative":       func(o *pay.Offer) { o.Amount = -1 },
		"other asset":    func(o *pay.Offer) { o.Asset = common.HexToAddress("0x01") },
		"refused":        func(o *pay.Offer) { o.Refused = "no" },
		"short window":   func(o *pay.Offer) { o.ValidFor = pay.MinWindow },
	} {
		bad := o
		spoil(&bad)
		if _, err := p.Instruct(bad, w.Address, Time, nonce); in.Kind != pay.None && err == nil {
			t.Errorf("%s: Instruct takes an offer with %s", p.Name(), name)
		}
	}
	if o.Expires != 0 {
		for name, now := range map[string]time.Time{"at its end": time.Unix(o.Expires, 0), "almost at its end": time.Unix(o.Expires, 0).Add(-pay.MinWindow)} {
			if _, err := p.Instruct(o, w.Address, now, nonce); err == nil {
				t.Errorf("%s: Instruct takes an offer %s", p.Name(), name)
			}
		}
	}
	switch in.Kind {
	case pay.SignAuthorization:
		a, d := in.Authorization, in.Domain
		if a.From != w.Address || a.To != o.PayTo || a.Value != o.Amount {
			t.Errorf("%s: instruction %+v differs from offer %+v", p.Name(), a, o)
		}
		if d.Separator() != w.Network.Domain().Separator() {
			t.Errorf("%s: domain %+v is not the registry's", p.Name(), d)
		}
		checkDeadline(t, p, a.ValidBefore)
		if a.ValidAfter >= Time.Unix() {
			t.Errorf("%s: valid after %d at %d", p.Name(), a.ValidAfter, Time.Unix())
		}
	case pay.SignPermit2:
		x := in.Permit2
		if x.Owner != w.Address || x.To != o.PayTo || x.Amount != o.Amount || x.Token != w.Network.USDC || x.UpTo() != o.UpTo {
			t.Errorf("%s: instruction %+v differs from offer %+v", p.Name(), x, o)
		}
		checkDeadline(t, p, x.Deadline)
	case pay.SignPermit:
		if in.Permit == nil {
			t.Fatalf("%s: no permit in %+v", p.Name(), in)
		}
		if x := *in.Permit; x.Owner != w.Address || x.Value != o.Amount || x.Nonce != 0 {
			t.Errorf("%s: permit %+v differs from offer %+v", p.Name(), x, o)
		}
		checkDeadline(t, p, in.Permit.Deadline)
	case pay.Transfer:
		if in.To != o.PayTo || in.Amount != o.Amount {
			t.Errorf("%s: instruction %+v differs from offer %+v", p.Name(), in, o)
		}
	case pay.None:
	}
	return in
}

func checkDeadline(t *testing.T, p pay.Protocol, deadline int64) {
	t.Helper()
	if left := time.Unix(deadline, 0).Sub(Time); left <= pay.MinWindow || left > pay.MaxWindow {
		t.Errorf("%s: a signature lives for %s", p.Name(), left)
	}
}

func checkAttach(t *testing.T, p pay.Protocol, o pay.Offer, proof pay.Proof, sample pay.Request) {
	t.Helper()
	req := copyRequest(sample)
	req.Header.Set("Accept", "application/json")
	planted := []string{"X-Payment", "Payment-Signature", "X-Payment-Tx", "Payment-Authorization", "Sign-In-With-X"}
	for _, h := range planted {
		req.Header.Set(h, "planted by the agent")
	}
	if err := p.Attach(req, o, proof); err != nil {
		t.Fatalf("%s: Attach: %v", p.Name(), err)
	}
	for _, h := range planted {
		if req.Header.Get(h) == "planted by the agent" {
			t.Errorf("%s: Attach leaves the agent's own %s", p.Name(), h)
		}
	}
	if req.Method != sample.Method || req.URL != sample.URL || string(req.Body) != string(sample.Body) || req.Header.Get("Accept") == "" {
		t.Errorf("%s: Attach changes more than payment headers", p.Name())
	}
	spoils := map[string]func(*pay.Proof){"nothing in it": func(p *pay.Proof) { *p = pay.Proof{} }}
	if proof.Authorization != (evm.Authorization{}) {
		spoils["other amount"] = func(p *pay.Proof) { p.Authorization.Value++ }
		spoils["other receiver"] = func(p *pay.Proof) { p.Authorization.To[0]++ }
		spoils["short signature"] = func(p *pay.Proof) { p.Signature = p.Signature[:64] }
	}
	if proof.Permit2 != (evm.Permit2Transfer{}) {
		spoils["other amount"] = func(p *pay.Proof) { p.Permit2.Amount++ }
		spoils["other receiver"] = func(p *pay.Proof) { p.Permit2.To[0]++ }
		spoils["other token"] = func(p *pay.Proof) { p.Permit2.Token[0]++ }
		spoils["other facilitator"] = func(p *pay.Proof) { p.Permit2.Facilitator[0]++ }
		spoils["short signature"] = func(p *pay.Proof) { p.Signature = p.Signature[:64] }
	}
	if proof.Permit != nil {
		spoils["larger permit"] = func(p *pay.Proof) { m := *p.Permit; m.Value++; p.Permit = &m }
		spoils["other spender"] = func(p *pay.Proof) { m := *p.Permit; m.Spender[0]++; p.Permit = &m }
	}
	if o.Kind == pay.None {
		spoils = nil
	}
	refused := o
	refused.Refused = "no"
	if p.Attach(copyRequest(sample), refused, proof) == nil {
		t.Errorf("%s: Attach takes a refused offer", p.Name())
	}
	for name, spoil := range spoils {
		bad := proof
		spoil(&bad)
		if p.Attach(copyRequest(sample), o, bad) == nil {
			t.Errorf("%s: Attach takes a proof with %s", p.Name(), name)
		}
	}
}

func checkReceipt(t *testing.T, p pay.Protocol, o pay.Offer) {
	t.Helper()
	r, err := p.Receipt(o, &pay.Response{Status: http.StatusOK, Header: http.Header{}, Body: []byte("hello")})
	if err != nil || r.Amount > o.Amount || r.TxHash != (common.Hash{}) {
		t.Errorf("%s: receipt %+v, %v of an answer without one", p.Name(), r, err)
	}
}

func copyRequest(r pay.Request) *pay.Request {
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Body = append([]byte(nil), r.Body...)
	return &r
}
