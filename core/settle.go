package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/event"
	"bursar/ent/transaction"
	"bursar/pay"
)

// book writes down what the head of the paid request's answer tells. A session's call that was answered is charged at
// once; a wallet's is charged when the chain shows it. Anything but a good answer is unknown: the hold stays. What becomes
// of the body changes nothing of it: the service has the proof and has said that it serves. x ends with an error.
func (f *Payments) book(ctx context.Context, c *call, t *ent.Transaction, p pay.Protocol, o pay.Offer, x *exchange, sendErr error) error {
	if sendErr != nil {
		f.remember(c, o, false, pay.Receipt{})
		err := f.insist(ctx, func(uuid.UUID) error { return f.unknown(ctx, t, 0, AsError(sendErr).Message) })
		if err != nil {
			return unbooked(t, err)
		}
		return lostBody(t, sendErr)
	}
	if x.status >= http.StatusBadRequest {
		_ = x.peek(pay.MaxBody + 1) // refusals say why; what is wrong with the body is told to who reads on
	}
	x.timer.Stop()
	resp := x.response()
	receipt, err := p.Receipt(o, resp)
	if err != nil {
		receipt = pay.Receipt{Reason: err.Error()}
	}
	t.Receipt = claimed(receipt)
	kept := answered(resp, receipt)
	f.remember(c, o, kept, receipt)
	err = f.insist(ctx, func(mark uuid.UUID) error {
		if !kept {
			return f.unknown(ctx, t, resp.Status, fmt.Sprintf("The service answered %d after payment. %s", resp.Status, receipt.Reason))
		}
		return f.answered(ctx, c, t, mark, resp.Status)
	})
	if err != nil {
		x.end()
		return unbooked(t, err)
	}
	if c.ahead != "" && x.status == http.StatusPaymentRequired {
		x.end()
		return f.askedAnew(c, t, resp)
	}
	return nil
}

// unbooked is the error for a payment that was made and could not be written down: its hold stays, the chain decides, and
// the caller must know which record to look at.
func unbooked(t *ent.Transaction, err error) error {
	return &Error{Code: ServerError, Message: "Internal server error", Err: err, Payment: t.ID.String()}
}

// answered reports whether the service has kept its side: it served, or says that it took the money.
func answered(resp *pay.Response, r pay.Receipt) bool {
	if resp.Status == http.StatusPaymentRequired || resp.Status >= http.StatusInternalServerError {
		return false
	}
	return resp.Status < http.StatusMultipleChoices || (r.Known && r.Success)
}

// Waits between the tries of a booking.
const (
	insistFirst = 50 * time.Millisecond
	insistMost  = 2 * time.Second
)

// insist tries a booking again while the database does not answer, until the context's end: what the service has served is to be
// charged, and handed on. An earlier try may have been committed, and its answer lost; mark is of all tries, and says so (finish).
func (f *Payments) insist(ctx context.Context, book func(mark uuid.UUID) error) error {
	mark := uuid.Must(uuid.NewV7())
	for wait := insistFirst; ; wait = min(2*wait, insistMost) {
		err := book(mark)
		if err == nil || ledger.Verdict(err) || errors.Is(err, ledger.ErrClosed) || AsError(err).Code != ServerError || pause(ctx, wait) != nil {
			return err
		}
		f.log.WarnContext(ctx, "could not book a payment; it is tried again", "error", err)
	}
}

// finish ends a payment as end says, by a move of its hold and with more rows. It is ledger.ErrEnded when the payment had ended before: with
// Repeated, by the same move. What was committed under the same mark is no end before.
func (f *Payments) finish(ctx context.Context, end *ent.Transaction, mark uuid.UUID, move ledger.Move, done Outcome, more ...ledger.Row) (ledger.Result, error) {
	u := unit{
		moves: []ledger.Move{move},
		rows:  func(now time.Time, _ ledger.Result) []ledger.Row { return append(ended(end, mark, now), more...) },
		news:  []News{settledNews(end)}, done: []Outcome{done},
	}
	r, err := f.commit(ctx, u)
	if err != nil || !r.Repeated {
		return r, err
	}
	own, err := f.db.writeEnt.Event.Query().Where(event.ID(mark)).Exist(ctx)
	if err == nil && !own {
		err = ledger.ErrEnded
	}
	if err == nil {
		f.happened(u, r)
	}
	return r, err
}

// answered charges a session for a call that was answered, unless its price is a maximum; a wallet is charged by the chain.
func (f *Payments) answered(ctx context.Context, c *call, t *ent.Transaction, mark uuid.UUID, status int) error {
	t.UpstreamStatus = status
	if c.prepaid == nil || upTo(t) { // the chain decides, and may have done so already
		return errors.Join(f.note(ctx, answeredBy(t, status)), f.refresh(ctx, t))
	}
	end := *t
	end.Status, end.Amount = transaction.StatusSuccess, t.Quoted
	r, err := f.finish(ctx, &end, mark, ledger.Move{Verb: ledger.Post, HoldID: *t.HoldID, Amount: t.Quoted}, PaymentCharged)
	if errors.Is(err, ledger.ErrEnded) { // the answer came after the proof was dead, and nothing is charged; or after the chain had shown it
		return errors.Join(f.note(ctx, answeredBy(t, status)), f.refresh(ctx, t))
	}
	if err != nil {
		return err
	}
	*t = end
	c.saw(r)
	if c.prepaid.account.HoldsUntil == 0 { // it is closing
		f.sessions.holdEnded(ctx, c.prepaid.session.ID)
	}
	return nil
}

// note writes a row without any move.
func (f *Payments) note(ctx context.Context, row ledger.Row) error {
	_, err := f.commit(ctx, unit{rows: func(time.Time, ledger.Result) []ledger.Row { return []ledger.Row{row} }})
	return err
}

// refresh reads a payment that somebody else has ended.
func (f *Payments) refresh(ctx context.Context, t *ent.Transaction) error {
	now, err := f.db.writeEnt.Transaction.Get(ctx, t.ID)
	if err == nil {
		*t = *now
	}
	return err
}

// unknown notes that a proof has left and no good answer came. The hold stays until the chain has spoken.
func (f *Payments) unknown(ctx context.Context, t *ent.Transaction, status int, reason string) error {
	row := ledger.Row{Into: unknownRow, Values: []any{t.ID.String(), int64(status), pay.Text(reason), written(t.Receipt)}}
	err := errors.Join(f.note(ctx, row), f.refresh(ctx, t))
	if err == nil && t.Status == transaction.StatusUnknown {
		f.outcomes.add(PaymentUnknown)
	}
	return err
}

// release voids a payment's hold: nothing was charged and nothing can be any more.
func (f *Payments) release(ctx context.Context, t *ent.Transaction, reason string) error {
	return f.void(ctx, t, uuid.Must(uuid.NewV7()), reason)
}

// void is release under a mark of the caller's.
func (f *Payments) void(ctx context.Context, t *ent.Transaction, mark uuid.UUID, reason string) error {
	end := *t
	end.Status, end.Amount, end.Reason = transaction.StatusFailed, 0, reason
	r, err := f.finish(ctx, &end, mark, ledger.Move{Verb: ledger.Void, HoldID: *t.HoldID}, PaymentFailed)
	if errors.Is(err, ledger.ErrEnded) && r.Repeated { // it is void already
		err = nil
	}
	if err == nil && t.SessionID != nil {
		f.sessions.holdEnded(ctx, *t.SessionID)
	}
	return err
}
