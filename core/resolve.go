package core

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
)

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
			transaction.AuthNonceNotNil(),
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
	wait, err := f.usedLately(ctx, onceOnly{t.FromAddress, *t.AuthNonce, t.ValidBeforeUnix, t.Permit2}, read)
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
		return tx.reopen(ctx, t.SessionID)
	})
}

// reopen makes a session that is closed begin closing again, because money has come back to it: its job sends that on like
// any rest.
func (tx *Tx) reopen(ctx context.Context, id *uuid.UUID) error {
	if id == nil {
		return nil
	}
	return tx.Session.Update().Where(session.ID(*id), session.StatusEQ(session.StatusClosed)).SetStatus(session.StatusClosing).ClearClosedAt().Exec(ctx)
}
