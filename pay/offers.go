package pay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Quote is what a service asks and this wallet can pay, in every protocol that it speaks.
type Quote struct {
	Protocol Protocol // of the first offer; ByName finds that of another
	Offers   []Offer  // cheapest first, never empty
	Refused  []Offer  // the others, each with its reason
	Broken   []error  // challenges that could not be read
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

// Offers asks every protocol and answers with all offers that the wallet can pay: the cheapest first, at the same price the
// kind of payment that binds less, then an exact price before a maximum, then the order of the protocols. Each offer
// belongs to one challenge of one protocol and is paid by that alone. Offers returns ErrNotAsked when no protocol finds a
// challenge, and *UnpayableError when there is one but nothing in it can be paid.
func Offers(protocols []Protocol, w Wallet, req *Request, resp *Response) (Quote, error) {
	var q Quote
	for _, p := range protocols {
		offers, err := p.Offers(req, resp)
		if err != nil {
			q.Broken = append(q.Broken, fmt.Errorf("%s: %w", p.Name(), err))
			continue
		}
		for _, o := range offers {
			o.Refuse(Check(o, w))
			if o.Refused != "" {
				q.Refused = append(q.Refused, o)
			} else {
				q.Offers = append(q.Offers, o)
			}
		}
	}
	switch {
	case len(q.Offers) == 0 && len(q.Refused) == 0 && len(q.Broken) == 0:
		return Quote{}, ErrNotAsked
	case len(q.Offers) == 0:
		return Quote{}, &UnpayableError{Refused: q.Refused, Broken: q.Broken}
	}
	slices.SortStableFunc(q.Offers, better)
	q.Protocol, _ = ByName(protocols, q.Offers[0].Protocol)
	return q, nil
}

// better orders offers as Offers says.
func better(a, b Offer) int {
	upTo := func(o Offer) int {
		if o.UpTo {
			return 1
		}
		return 0
	}
	return cmp.Or(a.Amount.Cmp(b.Amount), cmp.Compare(a.Kind, b.Kind), cmp.Compare(upTo(a), upTo(b)))
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
