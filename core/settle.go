package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/pay"
)

// book writes down what the paid request's answer tells. A session's call that was answered is charged at once;
// a wallet's is charged when the chain shows it. Anything but a good answer is unknown: the hold stays.
func (f *Payments) book(ctx context.Context, c *call, t *ent.Transaction, p pay.Protocol, o pay.Offer, resp *pay.Response, sendErr error) (*FetchResult, error) {
	if sendErr != nil {
		e := AsError(sendErr)
		if err := f.unknown(ctx, t, 0, e.Message); err != nil {
			return nil, err
		}
		return nil, &Error{
			Code: e.Code, Err: e.Err, Payment: t.ID.String(),
			Message: e.Message + "; the payment's outcome is unknown until the chain shows it",
		}
	}
	receipt, err := p.Receipt(o, resp)
	if err != nil {
		receipt = pay.Receipt{Reason: err.Error()}
	}
	if !answered(resp, receipt) {
		reason := fmt.Sprintf("The service answered %d after payment. %s", resp.Status, receipt.Reason)
		if err := f.unknown(ctx, t, resp.Status, reason); err != nil {
			return nil, err
		}
	} else if err := f.answered(ctx, c, t, resp.Status); err != nil {
		return nil, err
	}
	if t, err = f.db.readEnt.Transaction.Get(ctx, t.ID); err != nil {
		return nil, err
	}
	return f.result(ctx, c, resp, t)
}

// answered reports whether the service has kept its side: it served, or says that it took the money.
func answered(resp *pay.Response, r pay.Receipt) bool {
	if resp.Status == http.StatusPaymentRequired || resp.Status >= http.StatusInternalServerError {
		return false
	}
	return resp.Status < http.StatusMultipleChoices || (r.Known && r.Success)
}

func (f *Payments) answered(ctx context.Context, c *call, t *ent.Transaction, status int) error {
	if c.session == nil {
		return f.db.writeEnt.Transaction.UpdateOneID(t.ID).SetUpstreamStatus(status).Exec(ctx)
	}
	moves := []ledger.Move{{Verb: ledger.Post, HoldID: *t.HoldID, Amount: t.Quoted}}
	err := f.commit(ctx, moves, func(ctx context.Context, tx *Tx, _ ledger.Result) error {
		return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
			u.SetStatus(transaction.StatusSuccess).SetAmount(t.Quoted).SetUpstreamStatus(status)
		})
	})
	if errors.Is(err, ledger.ErrEnded) { // the answer came after the proof was dead: nothing is charged, and it is the caller's
		return nil
	}
	if err == nil {
		f.sessions.holdEnded(ctx, c.session.ID)
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
	n, err := f.db.writeEnt.Transaction.Update().Where(transaction.ID(t.ID), transaction.StatusEQ(transaction.StatusPending)).
		SetStatus(transaction.StatusUnknown).SetUpstreamStatus(status).SetReason(pay.Text(reason)).Save(ctx)
	if n > 0 {
		f.outcomes.add(PaymentUnknown)
	}
	return err
}

// release voids a payment's hold: nothing was charged and nothing can be any more.
func (f *Payments) release(ctx context.Context, t *ent.Transaction, reason string) error {
	moves := []ledger.Move{{Verb: ledger.Void, HoldID: *t.HoldID}}
	err := f.commit(ctx, moves, func(ctx context.Context, tx *Tx, _ ledger.Result) error {
		return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
			u.SetStatus(transaction.StatusFailed).SetAmount(0).SetReason(reason)
		})
	})
	if err == nil && t.SessionID != nil {
		f.sessions.holdEnded(ctx, *t.SessionID)
	}
	return err
}

// settlePayment books a payment that the chain shows, in the watcher's transaction.
func (f *Funding) settlePayment(ctx context.Context, tx *Tx, t *ent.Transaction, m evm.Movement) error {
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil {
		return err
	}
	post := ledger.Move{Verb: ledger.Post, HoldID: *t.HoldID, Amount: m.Amount, LogKey: logKey(m)}
	moves := []ledger.Move{post}
	if t.SessionID != nil { // into clearing, if its answer has not done so, and out to the seller
		moves[0].LogKey = ""
		moves = append(moves, ledger.Move{
			Verb: ledger.Transfer, Key: logKey(m), LogKey: logKey(m), Debit: f.platform.Clearing, Credit: f.platform.External,
			Amount: m.Amount, Code: "settlement", TransactionID: t.ID,
		})
	}
	r, err := tx.moves(ctx, append(moves, f.arrival(to, m)...)...)
	if err != nil {
		return err
	}
	if err := f.arrived(ctx, tx, to, m); err != nil {
		return err
	}
	if t.SessionID != nil && r[0].Repeated && t.Status == transaction.StatusSuccess {
		return tx.Transaction.UpdateOneID(t.ID).SetTxHash(m.TxHash.Hex()).Exec(ctx)
	}
	return settleTx(ctx, tx, t, func(u *ent.TransactionUpdateOne) {
		u.SetStatus(transaction.StatusSuccess).SetAmount(m.Amount).SetTxHash(m.TxHash.Hex())
	})
}

func logKey(m evm.Movement) string { return fmt.Sprintf("log:%s:%d", m.TxHash.Hex(), m.LogIndex) }

// resolveBatch is how many payments one run of ResolveHolds ends.
const resolveBatch = 200

// ResolveHolds ends the payments whose proof has expired unused: the watcher has read every block up to a time
// at which the token no longer takes the authorization, and none of them showed it.
func (f *Payments) ResolveHolds(ctx context.Context) error {
	cursor, err := f.db.readEnt.Cursor.Get(ctx, int(f.chainID()))
	if err != nil {
		return err
	}
	// At block time t an authorization with validBefore <= t is refused (EIP3009.sol: now < validBefore).
	dead, err := f.db.readEnt.Transaction.Query().Where(
		transaction.KindEQ(transaction.KindPayment), transaction.ValidBeforeUnixLTE(cursor.TimeUnix), transaction.TxHashIsNil(),
		transaction.Or(
			transaction.StatusIn(transaction.StatusPending, transaction.StatusUnknown),
			transaction.And(transaction.StatusEQ(transaction.StatusSuccess), transaction.SessionIDNotNil(), transaction.AmountGT(0)),
		),
	).Order(transaction.ByCreatedAt()).Limit(resolveBatch).All(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, t := range dead {
		all = errors.Join(all, f.resolve(ctx, t, cursor))
	}
	return all
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

// secondLook is how long after an authorization's end, in seconds of chain time, one that the chain calls used but
// the watcher has not booked is waited for. It was then used or cancelled in some other way, and cannot move this money
// any more: a use of it in a block that the watcher has read would have been booked with the cursor.
const secondLook = 300

// usedLately reports whether to wait for the watcher, although it has read to a block whose time is past validBefore.
// The chain is asked as of that block: a node that has not reached it would still say "unused".
func (s *store) usedLately(ctx context.Context, from, nonce string, validBefore int64, read *ent.Cursor) (bool, error) {
	if read.TimeUnix >= validBefore+secondLook {
		return false, nil
	}
	return s.chain.AuthorizationUsed(ctx, common.HexToAddress(from), common.HexToHash(nonce), uint64(read.Block))
}

// giveBack returns a session's charge that the seller never collected.
func (f *Payments) giveBack(ctx context.Context, t *ent.Transaction) error {
	owner, err := ledger.Find(ctx, f.db.readEnt, ledger.Session, f.chainID(), *t.SessionID)
	if err != nil {
		return err
	}
	hold, err := f.db.readEnt.Transfer.Get(ctx, *t.HoldID)
	if err != nil {
		return err
	}
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		back := ledger.Move{
			Verb: ledger.Transfer, Key: "fetch:" + t.ID.String() + ":unused", Debit: f.platform.Clearing, Credit: owner, Amount: t.Amount,
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
