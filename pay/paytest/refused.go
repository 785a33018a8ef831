package paytest

import (
	"errors"
	"strings"
	"testing"

	"bursar/pay"
)

// Refusal is what a challenge must meet with: a cause, and words of the reason. An empty cause stands for a challenge that
// cannot be read as a whole.
type Refusal struct {
	Response *pay.Response
	Cause    pay.Cause
	Reason   string
}

// Refused holds that nothing in the challenge is paid, even by a wallet that may do everything, and why. The time is that
// of Conforms.
func Refused(t *testing.T, protocols []pay.Protocol, w pay.Wallet, req *pay.Request, want Refusal) {
	t.Helper()
	w.Also = []pay.InstructionKind{pay.SignPermit2, pay.SignPermit, pay.Transfer}
	q, err := pay.Offers(protocols, w, req, want.Response)
	if err == nil { // what depends on the time is refused by Instruct
		for _, o := range q.Offers {
			p, _ := pay.ByName(protocols, o.Protocol)
			in, err := p.Instruct(o, w.Address, Time, [32]byte{1})
			var refused *pay.RefusedError
			if !errors.As(err, &refused) || refused.Cause != want.Cause || !strings.Contains(refused.Reason, want.Reason) {
				t.Errorf("got %+v (%v), want a refusal for %s with %q", in, err, want.Cause, want.Reason)
			}
		}
		return
	}
	var none *pay.UnpayableError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), want.Reason) {
		t.Fatalf("got %v, want a refusal with %q", err, want.Reason)
	}
	if (want.Cause == "") != (len(none.Broken) > 0) {
		t.Errorf("broken %v, refused %+v, want cause %q", none.Broken, none.Refused, want.Cause)
	}
	for _, o := range none.Refused {
		if o.Cause != want.Cause {
			t.Errorf("cause %q (%s), want %q", o.Cause, o.Refused, want.Cause)
		}
	}
}
