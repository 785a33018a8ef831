package pay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Quote is what a service asks and this wallet can pay.
type Quote struct {
	Protocol Protocol
	Offers   []Offer // cheapest first, never empty
	Refused  []Offer // the others of this protocol, each with its reason
}

// ErrNotAsked says that the response asks for no payment in any protocol we speak: it goes to the agent as it is.
var ErrNotAsked = errors.New("pay: no payment asked in a protocol we speak")

// UnpayableError says that a payment is asked, but nothing in it can be paid, and why.
type UnpayableError struct {
	Refused []Offer // each with its reason
	Broken  []error // challenges that could not be read
}

// Error lists every reason in one line.
func (e *UnpayableError) Error() string {
	reasons := make([]string, 0, len(e.Refused)+len(e.Broken))
	for _, o := range e.Refused {
		reasons = append(reasons, fmt.Sprintf("%s %s: %s", o.Protocol, o.Scheme, o.Refused))
	}
	for _, err := range e.Broken {
		reasons = append(reasons, err.Error())
	}
	return "pay: nothing payable is offered: " + strings.Join(reasons, "; ")
}

// Offers asks the protocols in order of preference and answers with the first that has an offer which wallet can
// pay. The challenges of two protocols are never mixed. It returns ErrNotAsked when no protocol finds a
// challenge, and *UnpayableError when there is one but nothing in it can be paid.
func Offers(protocols []Protocol, w Wallet, req *Request, resp *Response) (Quote, error) {
	var none UnpayableError
	for _, p := range protocols {
		offers, err := p.Offers(req, resp)
		if err != nil {
			none.Broken = append(none.Broken, fmt.Errorf("%s: %w", p.Name(), err))
			continue
		}
		q := Quote{Protocol: p}
		for _, o := range offers {
			if err := Check(o, w); err != nil {
				o.Refused = refusal(err)
				q.Refused = append(q.Refused, o)
				continue
			}
			q.Offers = append(q.Offers, o)
		}
		if len(q.Offers) > 0 {
			slices.SortStableFunc(q.Offers, func(a, b Offer) int { return a.Amount.Cmp(b.Amount) })
			return q, nil
		}
		none.Refused = append(none.Refused, q.Refused...)
	}
	if len(none.Refused) == 0 && len(none.Broken) == 0 {
		return Quote{}, ErrNotAsked
	}
	return Quote{}, &none
}

// ByName finds the protocol that read an offer.
func ByName(protocols []Protocol, name string) (Protocol, bool) {
	for _, p := range protocols {
		if p.Name() == name {
			return p, true
		}
	}
	return nil, false
}

func refusal(err error) string {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Reason
	}
	return err.Error()
}
