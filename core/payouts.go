package core

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/operation"
	"bursar/ent/predicate"
	"bursar/ent/service"
	"bursar/ent/transfer"
	"bursar/ent/verification"
	"bursar/money"
)

// Sessions pay a business at once into its account of the ledger, which is money at the platform's address. From there it
// is sent to the business's wallet, all that has gathered by one operation: when it is enough to be worth a transfer's gas, or
// when the oldest of it has waited for long.

const (
	payoutBatch = 100                                      // businesses of one page
	longestCall = maxTimeout + afterPayment + meteredSlack // from a call's hold to its booking
)

func verificationOf(id uuid.UUID) predicate.Verification { return verification.ServiceID(id) }

func payoutKey(business uuid.UUID) string { return "payout:" + business.String() + ":" }

// sent is what has arrived at a business's wallet of what sessions have paid it. The account's columns do not tell, since a
// reorganisation adds to them in both directions.
func sent(ctx context.Context, c *ent.Client, business uuid.UUID) (money.USDC, error) {
	var sums []struct { // at most one
		Kind string     `json:"kind"`
		Sum  money.USDC `json:"sum"`
	}
	err := c.Operation.Query().Where(operation.KeyHasPrefix(payoutKey(business)), operation.StatusEQ(operation.StatusFinal)).
		GroupBy(operation.FieldKind).Aggregate(ent.As(ent.Sum(operation.FieldAmount), "sum")).Scan(ctx, &sums)
	if err != nil || len(sums) == 0 {
		return 0, err
	}
	return sums[0].Sum, nil
}

// PayOut sends what businesses are owed, as far as it is due. The hold and the operation's key are of one state of the account,
// so that whoever runs it besides sends nothing twice; while one is on its way the rest gathers.
func (g *Gateway) PayOut(ctx context.Context) error {
	var all error
	var after uuid.UUID // page on, so that those who wait do not keep the others waiting
	for {
		owed, err := g.db.readEnt.Account.Query().Where(account.IDGT(after), account.KindEQ(account.KindSeller), account.ChainID(int64(g.chainID())),
			account.DebitsPending(0), func(s *sql.Selector) {
				s.Where(sql.ExprP(s.C(account.FieldCreditsPosted) + " > " + s.C(account.FieldDebitsPosted)))
			}).Order(account.ByID()).Limit(payoutBatch).All(ctx)
		if err != nil {
			return errors.Join(all, err)
		}
		for _, a := range owed {
			after = a.ID
			due, err := g.due(ctx, g.db.readEnt, a)
			if err == nil && due {
				err = g.payOut(ctx, a.ID)
			}
			if err != nil && AsError(err).Code != Conflict {
				all = errors.Join(all, fmt.Errorf("core: payout of service %s: %w", a.OwnerID, err))
			}
		}
		if len(owed) < payoutBatch || ctx.Err() != nil {
			return errors.Join(all, ctx.Err())
		}
	}
}

// due reports whether what a business is owed is sent now. One that was taken out for good has nothing to wait for.
func (g *Gateway) due(ctx context.Context, c *ent.Client, a *ent.Account) (bool, error) {
	if ledger.StateOf(a).Available() >= g.least {
		return true, nil
	}
	removed, err := c.Service.Query().Where(service.ID(a.OwnerID), service.BaseURL(noBaseURL)).Exist(ctx)
	if err != nil || removed {
		return removed, err
	}
	return g.waited(ctx, c, a.ID)
}

// waited reports whether the oldest of what a business is owed was earned a whole wait ago. A payout takes all that is there,
// so what is owed was booked since the last one, by calls that had begun shortly before it at most; or it came back from one
// that was given up, and was due then. The holds that a reorganisation makes again are no payouts of their own.
func (g *Gateway) waited(ctx context.Context, c *ent.Client, owner uuid.UUID) (bool, error) {
	since, took := g.now().Add(-g.wait), time.Time{}
	last, err := c.Transfer.Query().Where(transfer.DebitID(owner), transfer.Not(transfer.KeyContains(keyAgain))).
		Order(transfer.ByCreatedAt(sql.OrderDesc())).First(ctx)
	if err != nil && !ent.IsNotFound(err) {
		return false, err
	}
	if err == nil {
		took = last.CreatedAt
		back, err := c.Transfer.Query().Where(transfer.DebitID(owner), transfer.CreatedAtGTE(took), transfer.StatusEQ(transfer.StatusVoided)).Exist(ctx)
		if err != nil || back || took.After(since) {
			return back, err
		}
	}
	first, err := c.Transfer.Query().Where(
		transfer.CreditID(owner), transfer.CreatedAtGT(took.Add(-longestCall)), transfer.EndedAtGT(took), transfer.StatusEQ(transfer.StatusPosted), transfer.CodeNEQ(codeUndo),
	).Order(transfer.ByCreatedAt()).First(ctx)
	if ent.IsNotFound(err) {
		return true, nil // it was booked later still, or came back in another way: nothing that is owed may wait for ever
	}
	return err == nil && !first.CreatedAt.After(since), err
}

func (g *Gateway) payOut(ctx context.Context, owner uuid.UUID) error {
	return g.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		a, err := tx.Account.Get(ctx, owner)
		if err != nil {
			return err
		}
		state := ledger.StateOf(a)
		if state.Available() <= 0 || state.DebitsPending > 0 {
			return nil
		}
		if due, err := g.due(ctx, tx.Client, a); err != nil || !due { // any more: another process was faster
			return err
		}
		s, err := tx.Service.Get(ctx, a.OwnerID)
		if err != nil {
			return err
		}
		_, err = g.operations.queue(ctx, tx, newOperation{
			Key: payoutKey(s.ID) + strconv.FormatInt(state.Version, 10), Kind: operation.KindPayout, OrgID: *s.OrgID, AgentID: uuid.Nil,
			From: g.keys.platformAddress(), To: common.HexToAddress(*s.WalletAddress), Debit: owner, Credit: g.platform.External, Amount: state.Available(),
		})
		if ent.IsConstraintError(err) {
			return E(Conflict, "The same is under way already")
		}
		return err
	})
}
