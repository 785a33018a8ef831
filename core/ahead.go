package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/pay"
)

// Paying ahead: a service that has asked the same for a while is paid with the first request, by the offer that it last
// made. Every rule is asked as ever, and nothing is signed twice: a service that refuses such a proof ends the call, and the
// caller is told what it asks now.

const (
	aheadAfter = 3                // calls in a row that were asked the same, paid it, and were served with a receipt
	aheadFor   = 10 * time.Minute // since it was last asked; then it is asked again
	aheadDebt  = 50               // more such calls, after a service did not take what it had asked before
)

// routes remembers what services ask. What another process has learnt is learnt again, and a route that was forgotten is
// asked.
type routes struct{ recent[route, askedBefore] }

// route is what is asked for, and by whom: an offer may depend on either.
type route struct {
	org              uuid.UUID
	payer            common.Address
	method, endpoint string // without the query
	signsIn          bool   // the payer may sign in: what was learnt while it might not says nothing of logins
}

type askedBefore struct {
	offer pay.Offer
	times int // in a row; below zero it has to be seen that much more often
	last  time.Time
}

func (c *call) route() route {
	return route{c.agent.OrgID, c.payer, c.request.Method, c.target.endpoint(), c.signsIn()}
}

// lasting returns what has been asked often enough and not too long ago.
func (r *routes) lasting(of route, now time.Time) (askedBefore, bool) {
	a, _ := r.get(of)
	return a, a.times >= aheadAfter && now.Before(a.last.Add(aheadFor))
}

// served notes an offer that was asked, paid and kept.
func (r *routes) served(of route, o pay.Offer, now time.Time) {
	r.change(of, func(a askedBefore) askedBefore {
		if !same(a.offer, o) {
			a.times = min(a.times, 0)
		}
		return askedBefore{offer: o, times: a.times + 1, last: now}
	})
}

// doubt makes the service be asked until it has asked the same often enough again.
func (r *routes) doubt(of route, debt int) {
	r.change(of, func(a askedBefore) askedBefore { return askedBefore{times: min(a.times, -debt)} })
}

// same compares what a proof is made of, byte for byte.
func same(a, b pay.Offer) bool {
	return a.Protocol == b.Protocol && a.Amount == b.Amount && a.PayTo == b.PayTo && bytes.Equal(a.Raw, b.Raw) && bytes.Equal(a.Extra, b.Extra)
}

// ahead decides to pay with the first request, or returns nil: then the service is asked. What the rules say to an old offer
// is no verdict on the call, because the service may ask less today. A call under an idempotency key asks: its answer is
// final, and must not be that another try would do.
func (f *Payments) ahead(ctx context.Context, c *call) *decision {
	if !f.payAhead || c.in.DryRun || c.run != nil {
		return nil
	}
	a, ok := f.routes.lasting(c.route(), f.clock())
	if !ok {
		return nil
	}
	c.sawOffers([]pay.Offer{a.offer}, nil)
	c.ahead = fmt.Sprintf("paid with the first request: this was asked the last %d times, at %s", a.times, a.last.UTC().Format(time.RFC3339))
	d, err := f.decide(ctx, c, f.handedOut(), pay.Quote{Offers: []pay.Offer{a.offer}})
	if err != nil {
		c.ahead, c.why, c.weighed = "", TraceDetail{}, nil
		return nil
	}
	return d
}

// errAskFirst ends the judgement of an offer that is remembered and would need a person's yes: nobody is asked before the
// service is.
var errAskFirst = errors.New("core: the service is asked first")

// remember learns from the answer to a payment.
func (f *Payments) remember(c *call, o pay.Offer, kept bool, r pay.Receipt) {
	_, lasting := pay.ByName(f.handedOut(), o.Protocol)
	switch served := kept && r.Known && r.Success; {
	case !f.payAhead || !lasting:
	case served && c.ahead == "" && !(c.signsIn() && c.why.Login != nil): // where it may serve by a login, it is asked
		f.routes.served(c.route(), o, f.clock())
	case served && c.ahead != "":
	case c.ahead != "":
		f.routes.doubt(c.route(), aheadDebt)
	default:
		f.routes.doubt(c.route(), 0)
	}
}

// askedAnew is the end of a call that was paid ahead, and whose proof the service does not take.
func (f *Payments) askedAnew(c *call, t *ent.Transaction, resp *pay.Response) error {
	e := &Error{
		Code: Conflict, Payment: t.ID.String(), RetryAfter: time.Second,
		Message: fmt.Sprintf("The service no longer takes what it asked before. Nothing more was signed, and %s stays reserved until that proof ends at %s. The same call may be made again",
			t.Quoted.CostUSD(), time.Unix(t.ValidBeforeUnix, 0).UTC().Format(time.RFC3339)),
	}
	q, err := pay.Offers(f.protocols, f.wallet(c), c.request, resp)
	if err == nil {
		o := tracedOffer(q.Offers[0])
		e.Offer = &o
	}
	return e
}
