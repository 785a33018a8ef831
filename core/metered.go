package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/core/pricing"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay"
)

// A metered call is one of a service of the catalogue. What it costs at most is known before it is sent, and held under
// every limit; what it costs is taken when the service has answered below 400, and nothing else takes it: no proof leaves,
// so an answer that does not come costs nothing.

const meteredProtocol = "metered"

// named resolves the service that a call names, and makes its URL whole. Nil: it names none.
func (f *Payments) named(ctx context.Context, in *FetchInput) (*entry, error) {
	if in.Service == "" {
		return nil, nil
	}
	e, err := f.entryBySlug(ctx, in.Service)
	if err != nil {
		return nil, err
	}
	in.URL, err = e.under(in.URL)
	return e, err
}

// listed notes the entry of the catalogue that a call is billed by: the one that it names, or that its URL belongs to.
func (f *Payments) listed(ctx context.Context, c *call, named *entry) error {
	c.entry = named
	if named == nil {
		var err error
		if c.entry, err = f.entryFor(ctx, c.target); err != nil || c.entry == nil {
			return err
		}
	}
	c.entry.rule = policy.Entry{Name: c.entry.known(), Host: c.target.host, Domain: c.target.service, Stranger: c.entry.OrgID != nil}
	c.target.service = c.entry.known()
	if !c.entry.rule.Stranger {
		return nil
	}
	if c.target.business = c.entry.known() + c.entry.path; len(c.target.business) > maxURLLength {
		return E(InvalidRequest, "url is longer than %d characters", maxURLLength)
	}
	c.place = f.placeOf(c.agent.OrgID, c.request.Method, c.target)
	f.recallPrice(ctx, c)
	return nil
}

// checkService asks the rules that need no price.
func (c *call) checkService() error {
	if c.entry != nil {
		return c.budget.Agent.CheckEntry(c.entry.rule, c.prepaid != nil)
	}
	return c.budget.Agent.CheckService(c.target.host, c.target.service, c.prepaid != nil)
}

// bill makes a payment and its hold those of a metered call: no proof is signed, and the money goes to the service's
// account, or from a wallet to the outside where the seller's address is.
func (e *entry) bill(t *ent.Transaction, hold *ledger.Move) (digest string) {
	t.AuthNonce, t.ValidBeforeUnix, t.ServiceID = nil, t.CreatedAt.Add(e.takes).Unix(), &e.ID
	hold.Code = meteredProtocol
	if t.SessionID != nil || e.OrgID == nil {
		hold.Credit = e.account
	}
	return ""
}

// counted is what the price may be counted by.
func (c *call) counted() pricing.Request {
	return pricing.Request{Header: c.request.Header, Body: c.request.Body}
}

// meteredOffer is the price as any other is offered.
func (f *Payments) meteredOffer(c *call) pay.Offer {
	scheme := string(c.entry.Price.By)
	if c.entry.Price.By == pricing.Nothing {
		scheme = "per_call"
	}
	n := f.chain.Network()
	return pay.Offer{
		Protocol: meteredProtocol, Scheme: scheme, Network: n, Asset: n.USDC, Amount: c.entry.Price.Hold(c.counted()),
		PayTo: common.HexToAddress(c.entry.payee), Resource: c.entry.Name, Kind: pay.None,
		UpTo: c.entry.Price.By == pricing.AnswerField || c.entry.Price.By == pricing.AnswerSize,
	}
}

// metered holds, calls once, and books. From the hold on the call outlives its caller, who must not be able to leave
// between the answer and the charge.
func (f *Payments) metered(ctx context.Context, c *call) (*FetchResult, error) {
	offer := f.meteredOffer(c)
	c.sawOffers([]pay.Offer{offer}, nil)
	if c.in.DryRun {
		return f.dryRun(ctx, c, nil, pay.Quote{Offers: []pay.Offer{offer}})
	}
	c.entry.takes = clampTimeout(c.in.Timeout) + afterPayment + meteredSlack
	request, secret, err := f.dress(c.entry, c.request)
	if err != nil {
		return nil, err
	}
	var t *ent.Transaction
	if offer.Amount > 0 { // else the request asks for nothing that costs
		d, err := f.decide(ctx, c, nil, pay.Quote{Offers: []pay.Offer{offer}})
		if err != nil {
			return nil, f.refused(ctx, c, err)
		}
		t = d.payment
	}
	f.step(StepHeld)
	resp, sendErr := f.whole(context.WithoutCancel(ctx), request, clampTimeout(c.in.Timeout)) // what it costs may stand at its end
	f.step(StepPaid)
	bookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterPayment)
	defer cancel()
	defer f.step(StepBooked)
	if sendErr == nil {
		sendErr = scrub(resp, secret)
	}
	if t == nil {
		if sendErr != nil {
			return nil, sendErr
		}
		return f.result(c, resp, nil), nil
	}
	return f.bookMetered(bookCtx, c, t, resp, sendErr)
}

// bookMetered takes what the answer costs, or gives everything back.
func (f *Payments) bookMetered(ctx context.Context, c *call, t *ent.Transaction, resp *pay.Response, sendErr error) (*FetchResult, error) {
	if sendErr != nil {
		e := AsError(sendErr)
		if err := f.insist(ctx, func(mark uuid.UUID) error { return f.void(ctx, t, mark, e.Message) }); err != nil {
			return nil, unbooked(t, err)
		}
		return nil, &Error{Code: e.Code, Err: e.Err, Payment: t.ID.String(), Message: e.Message + "; nothing was charged"}
	}
	t.UpstreamStatus = resp.Status
	cost, reason := c.entry.Price.Charge(c.counted(), resp.Body).Min(t.Quoted), ""
	if resp.Status >= http.StatusBadRequest {
		cost, reason = 0, fmt.Sprintf("The service answered %d: nothing was charged", resp.Status)
	}
	err := f.insist(ctx, func(mark uuid.UUID) error {
		if c.prepaid != nil || cost == 0 {
			return f.endMetered(ctx, c, t, mark, cost, reason)
		}
		return f.collect(ctx, c, t, cost)
	})
	if err != nil {
		e := *AsError(err)
		if e.Code == ServerError {
			return nil, unbooked(t, err)
		}
		e.Payment = t.ID.String()
		return nil, &e
	}
	r := f.result(c, resp, t)
	r.Paid, r.Cost, r.TxHash = cost > 0, cost, t.TxHash
	if cost == 0 {
		r.Method = NotPaid
	}
	return r, nil
}

// endMetered ends a call's hold at once: by what it costs, or by nothing. With a reason the call has failed.
func (f *Payments) endMetered(ctx context.Context, c *call, t *ent.Transaction, mark uuid.UUID, cost money.USDC, reason string) error {
	end, done := *t, PaymentCharged
	end.Status, end.Amount, end.Reason = transaction.StatusSuccess, cost, reason
	if reason != "" {
		end.Status, done = transaction.StatusFailed, PaymentFailed
	}
	move := ledger.Move{Verb: ledger.Void, HoldID: *t.HoldID}
	if cost > 0 {
		move = ledger.Move{Verb: ledger.Post, HoldID: *t.HoldID, Amount: cost}
	}
	r, err := f.finish(ctx, &end, mark, move, done, c.charged(t, cost)...)
	if errors.Is(err, ledger.ErrEnded) {
		return errTooLate
	}
	if err != nil {
		return err
	}
	*t = end
	c.saw(r)
	if c.prepaid != nil && c.prepaid.account.HoldsUntil == 0 { // it is closing
		f.sessions.holdEnded(ctx, c.prepaid.session.ID)
	}
	return nil
}

// errTooLate is the end of a call that ReleaseMetered has given up while it was under way.
var errTooLate = E(Timeout, "The service did not answer in time; nothing was charged")

// meteredSlack is how much longer than a call can take its hold may stand: clocks of processes differ.
const meteredSlack = 10 * time.Second

// ReleaseMetered frees the holds of metered calls whose process has died between the hold and the booking: nothing was
// taken for them, and nothing can be any more.
func (f *Payments) ReleaseMetered(ctx context.Context) error {
	stale, err := f.db.readEnt.Transaction.Query().Where(
		transaction.StatusEQ(transaction.StatusPending), transaction.ValidBeforeUnixLT(f.clock().Unix()), transaction.Protocol(meteredProtocol),
		transaction.UpstreamStatusIsNil(),
	).Order(transaction.ByID()).Limit(resolveBatch).All(ctx)
	if err != nil {
		return err
	}
	for _, t := range stale {
		err = errors.Join(err, f.release(ctx, t, "The call was cut off: nothing was charged"))
	}
	return err
}
