package core

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/operation"
	"bursar/ent/predicate"
	"bursar/ent/verification"
	"bursar/money"
)

// Sessions pay a business at once into its account of the ledger, which is money at the platform's address. From there it
// is sent to the business's wallet, all that has gathered by one operation.

// payoutBatch is how many businesses one run pays.
const payoutBatch = 100

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

// PayOut sends what businesses are owed. The hold and the operation's key are of one state of the account, so that
// whoever runs it besides sends nothing twice; while one is on its way the rest gathers.
func (g *Gateway) PayOut(ctx context.Context) error {
	owed, err := g.db.readEnt.Account.Query().Where(account.KindEQ(account.KindSeller), account.ChainID(int64(g.chainID())), account.DebitsPending(0),
		func(s *sql.Selector) {
			s.Where(sql.ExprP(s.C(account.FieldCreditsPosted) + " > " + s.C(account.FieldDebitsPosted)))
		}).Order(account.ByID()).Limit(payoutBatch).All(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, a := range owed {
		if err := g.payOut(ctx, a.ID, a.OwnerID); err != nil && AsError(err).Code != Conflict {
			all = errors.Join(all, fmt.Errorf("core: payout of service %s: %w", a.OwnerID, err))
		}
	}
	return all
}

func (g *Gateway) payOut(ctx context.Context, owner, business uuid.UUID) error {
	return g.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		a, err := tx.Account.Get(ctx, owner)
		if err != nil {
			return err
		}
		state := ledger.StateOf(a)
		if state.Available() <= 0 || state.DebitsPending > 0 {
			return nil
		}
		s, err := tx.Service.Get(ctx, business)
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
