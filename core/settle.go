package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/pay"
)

// book writes down what the paid request's answer tells. A session's call that was answered is charged at once;
// a wallet's is charged when the chain shows it. Anything but a good answer is unknown: the hold stays.
func (f *Payments) book(ctx context.Context, c *call, t *ent.Transaction, p pay.Protocol, o pay.Offer, resp *pay.Response, sendErr error) (*FetchResult, error) {
	if sendErr != nil {
		e := AsError(sendErr)
		if err := f.unknown(ctx, t, 0, e.Message); err != nil {
			return nil, unbooked(t, err)
		}
		return nil, &Error{
			Code: e.Code, Err: e.Err, Payment: t.ID.String(),
			Message: fmt.Sprintf("%s; the payment's outcome is unknown until the chain shows it, or until its proof ends at %s",
				e.Message, time.Unix(t.ValidBeforeUnix, 0).UTC().Format(time.RFC3339)),
		}
	}
	receipt, err := p.Receipt(o, resp)
	if err != nil {
		receipt = pay.Receipt{Reason: err.Error()}
	}
	t.Receipt = claimed(receipt)
	if !answered(resp, receipt) {
		err = f.unknown(ctx, t, resp.Status, fmt.Sprintf("The service answered %d after payment. %s", resp.Status, receipt.Reason))
	} else {
		err = f.answered(ctx, c, t, resp.Status)
	}
	if err != nil {
		return nil, unbooked(t, err)
	}
	return f.result(c, resp, t), nil
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

// answered charges a session for a call that was answered; a wallet is charged by the chain.
func (f *Payments) answered(ctx context.Context, c *call, t *ent.Transaction, status int) error {
	t.UpstreamStatus = status
	if c.prepaid == nil { // the chain may have decided already
		return errors.Join(f.note(ctx, answeredBy(t, status)), f.refresh(ctx, t))
	}
	end := *t
	end.Status, end.Amount = transaction.StatusSuccess, t.Quoted
	r, err := f.commit(ctx, unit{
		moves: []ledger.Move{{Verb: ledger.Post, HoldID: *t.HoldID, Amount: t.Quoted}},
		rows:  func(now time.Time, _ ledger.Result) []ledger.Row { return ended(&end, now) },
		news:  []News{settledNews(t)}, done: []Outcome{PaymentCharged},
	})
	// The answer came after the proof was dead, and nothing is charged; or after the chain had shown it.
	if errors.Is(err, ledger.ErrEnded) || (err == nil && r.Repeated) {
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

// settleTx gives a payment its end, and tells of it.
func settleTx(ctx context.Context, tx *Tx, t *ent.Transaction, end func(*ent.TransactionUpdateOne)) error {
	u := tx.Transaction.UpdateOneID(t.ID).SetSettledAt(tx.Now)
	end(u)
	if err := u.Exec(ctx); err != nil {
		return err
	}
	outcome := PaymentFailed
	if status, _ := u.Mutation().Status(); status == transaction.StatusSuccess {
		outcome = PaymentCharged
	}
	tx.done = append(tx.done, outcome)
	return tx.paymentSettled(ctx, t)
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
	end := *t
	end.Status, end.Amount, end.Reason = transaction.StatusFailed, 0, reason
	_, err := f.commit(ctx, unit{
		moves: []ledger.Move{{Verb: ledger.Void, HoldID: *t.HoldID}},
		rows:  func(now time.Time, _ ledger.Result) []ledger.Row { return ended(&end, now) },
		news:  []News{settledNews(t)}, done: []Outcome{PaymentFailed},
	})
	if err == nil && t.SessionID != nil {
		f.sessions.holdEnded(ctx, *t.SessionID)
	}
	return err
}

// settlePayment books a payment that the chain shows, in the watcher's transaction.
func (f *Funding) settlePayment(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) error {
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil {
		return err
	}
	moves := append(f.settlement(t, *t.HoldID, m), f.arrival(to, m)...)
	r, err := tx.moves(ctx, moves...)
	if err != nil || r[len(moves)-1].Repeated {
		return err // another process has booked this log since t was read
	}
	if err := f.arrived(ctx, tx, to, m); err != nil {
		return err
	}
	if r[0].Repeated { // its answer has charged it, and has told of its end; t may have been read before that
		return tx.Transaction.UpdateOneID(t.ID).SetTxHash(m.TxHash.Hex()).Exec(ctx)
	}
	return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
		u.SetStatus(transaction.StatusSuccess).SetAmount(m.Amount).SetTxHash(m.TxHash.Hex())
	})
}

// settlement moves what a payment's hold reserves out to the seller: a wallet's at once, a session's into clearing, if its
// answer has not done so, and on from there.
func (f *Funding) settlement(t *ent.Transaction, hold uuid.UUID, m movement) []ledger.Move {
	post := ledger.Move{Verb: ledger.Post, HoldID: hold, Amount: m.Amount, LogKey: m.key, Block: m.Block}
	if t.SessionID == nil {
		return []ledger.Move{post}
	}
	post.LogKey, post.Block = "", 0
	return []ledger.Move{post, {
		Verb: ledger.Transfer, Key: m.key, LogKey: m.key, Block: m.Block, Debit: f.platform.Clearing, Credit: f.platform.External,
		Amount: m.Amount, Code: "settlement", TransactionID: t.ID,
	}}
}

const codeLate = "late"

// settleLate books a payment that was given up as dead and is on the chain after all, which only a reorganisation below
// the confirmed depth can bring: the wallet pays, or the session as far as it still can. It is held for again, so that it
// counts for its limits again. A session's payment keeps the new hold: it is charged like any other from here on, and
// comes back from clearing should its proof expire unused. Nothing that left is missed.
func (f *Funding) settleLate(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) error {
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil {
		return err
	}
	hold, err := f.holdLate(ctx, tx, t, m)
	if err != nil {
		return err
	}
	moves := slices.Concat([]ledger.Move{hold}, f.settlement(t, hold.ID, m), f.arrival(to, m))
	r, err := tx.moves(ctx, moves...)
	if err != nil || r[0].Repeated {
		return err
	}
	if err := f.arrived(ctx, tx, to, m); err != nil {
		return err
	}
	return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
		u.SetStatus(transaction.StatusSuccess).SetAmount(m.Amount).SetTxHash(m.TxHash.Hex()).SetReason("The proof was used after all")
		if t.SessionID != nil {
			u.SetHoldID(hold.ID)
		}
	})
}

// holdLate is the hold of a payment that was given up, as it was the first time but for who pays. Its id follows from the
// log: of two processes that book it, the second finds all that the first has done.
func (f *Funding) holdLate(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) (ledger.Move, error) {
	first, err := tx.Transfer.Get(ctx, *t.HoldID)
	if err != nil {
		return ledger.Move{}, err
	}
	from, err := f.latePayer(ctx, tx, t)
	return ledger.Move{
		Verb: ledger.Hold, ID: uuid.NewSHA1(t.ID, []byte(m.key)), Key: m.key + ":late", Debit: from, Credit: first.CreditID,
		Amount: m.Amount, Code: codeLate, TransactionID: t.ID, Counters: strings.Fields(first.Counters), Owed: true,
	}, err
}

func (f *Funding) latePayer(ctx context.Context, tx *Tx, t *ent.Transaction) (uuid.UUID, error) {
	if t.SessionID == nil {
		return ledger.Find(ctx, tx.Client, ledger.Wallet, f.chainID(), t.AgentID)
	}
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), *t.SessionID)
	if err != nil {
		return uuid.Nil, err
	}
	a, err := tx.Account.Get(ctx, owner)
	if err != nil {
		return uuid.Nil, err
	}
	if ledger.StateOf(a).Available() >= t.Quoted {
		return owner, nil
	}
	f.log.ErrorContext(ctx, "a session's payment was used after its money had gone back", "transaction_id", t.ID)
	return f.platform.Suspense, nil
}

// Bounds of ResolveHolds.
const (
	resolveBatch    = 200 // payments of one page
	resolveTogether = 16  // of them at one time: each asks the chain and commits
)

// ResolveHolds ends the payments whose proof has expired unused: the watcher has read every block up to a time
// at which the token no longer takes the authorization, and none of them showed it.
func (f *Payments) ResolveHolds(ctx context.Context) error {
	cursor, err := f.db.readEnt.Cursor.Get(ctx, int(f.chainID()))
	if err != nil {
		return err
	}
	var all error
	var after uuid.UUID // ids are in order of time: page on, so that payments that wait do not keep the others waiting
	for {
		// At block time t an authorization with validBefore <= t is refused (EIP3009.sol: now < validBefore).
		dead, err := f.db.readEnt.Transaction.Query().Where(
			transaction.IDGT(after),
			transaction.KindEQ(transaction.KindPayment), transaction.ValidBeforeUnixLTE(cursor.TimeUnix), transaction.TxHashIsNil(),
			transaction.Or(
				transaction.StatusIn(transaction.StatusPending, transaction.StatusUnknown),
				transaction.And(transaction.StatusEQ(transaction.StatusSuccess), transaction.SessionIDNotNil(), transaction.AmountGT(0)),
			),
		).Order(transaction.ByID()).Limit(resolveBatch).All(ctx)
		if err != nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, f.resolvePage(ctx, dead, cursor))
		if len(dead) < resolveBatch || ctx.Err() != nil {
			return errors.Join(all, ctx.Err())
		}
		after = dead[len(dead)-1].ID
	}
}

// resolvePage resolves some at a time, so that their commits and questions to the chain do not wait for one another.
func (f *Payments) resolvePage(ctx context.Context, dead []*ent.Transaction, read *ent.Cursor) error {
	errs := make([]error, len(dead))
	gate := make(chan struct{}, resolveTogether)
	var wg sync.WaitGroup
	for i, t := range dead {
		gate <- struct{}{}
		wg.Go(func() {
			errs[i] = f.resolve(ctx, t, read)
			<-gate
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

const expiredUnused = "The payment proof expired unused: nothing was charged"

func (f *Payments) resolve(ctx context.Context, t *ent.Transaction, read *ent.Cursor) error {
	wait, err := f.usedLately(ctx, t.FromAddress, *t.AuthNonce, t.ValidBeforeUnix, read)
	if err != nil || wait {
		return err
	}
	if t.Status == transaction.StatusSuccess {
		return f.giveBack(ctx, t)
	}
	return f.release(ctx, t, expiredUnused)
}

// giveBack returns a charge that the seller never collected to the session, or to suspense when that has paid for it.
func (f *Payments) giveBack(ctx context.Context, t *ent.Transaction) error {
	hold, err := f.db.readEnt.Transfer.Get(ctx, *t.HoldID)
	if err != nil {
		return err
	}
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		back := ledger.Move{
			Verb: ledger.Transfer, Key: hold.Key + ":unused", Debit: f.platform.Clearing, Credit: hold.DebitID, Amount: t.Amount,
			Code: "unused", TransactionID: t.ID, Counters: strings.Fields(hold.Counters),
		}
		r, err := tx.move(ctx, back)
		if err != nil || r.Repeated {
			return err
		}
		if err := tx.Transaction.UpdateOneID(t.ID).SetAmount(0).SetReason(expiredUnused).Exec(ctx); err != nil {
			return err
		}
		tx.done = append(tx.done, PaymentReturned)
		// A session that is closed begins closing again: its job sends this on like any rest.
		return tx.Session.Update().Where(session.ID(*t.SessionID), session.StatusEQ(session.StatusClosed)).
			SetStatus(session.StatusClosing).ClearClosedAt().Exec(ctx)
	})
}
