package core

import (
	"context"
	"errors"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/attempt"
	"bursar/ent/operation"
	"bursar/ent/service"
	"bursar/ent/verification"
	"bursar/evm"
	"bursar/money"
)

// How a business asks whether a payment that somebody shows it is its own.

// VerifyInput is a payment that a business was shown. Recipient empty: its own address.
type VerifyInput struct {
	Key, TxHash, Recipient string
	Amount                 money.USDC // at least
}

// Verified is the answer. Reason is empty when the payment counts, and one of a few words when it does not.
type Verified struct {
	TxHash   string
	Reason   string
	Amount   money.USDC
	From, To string
	Block    uint64
}

// Reasons why a payment does not count.
const (
	NotFoundOnChain  = "not_found"
	NotConfirmed     = "not_confirmed"
	RevertedOnChain  = "reverted"
	WrongRecipient   = "wrong_recipient"
	AmountTooSmall   = "amount_too_small"
	AlreadyUsed      = "already_used"
	PaidForOtherCall = "paid_for_a_call" // by this server, for a call that it has carried
)

// Verify reports whether a transaction has paid the business, as the chain shows it at the depth that counts. A transaction
// counts once. A wrong key is unauthorized.
func (g *Gateway) Verify(ctx context.Context, in VerifyInput) (*Verified, error) {
	if !strings.HasPrefix(in.Key, prefixGateway) {
		return nil, E(Unauthorized, "Invalid gateway key")
	}
	business, err := g.db.readEnt.Service.Query().Where(service.KeyHash(hashSecret(in.Key))).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, E(Unauthorized, "Invalid gateway key")
	}
	if err != nil {
		return nil, err
	}
	hash, err := parseHash(in.TxHash)
	if err != nil {
		return nil, err
	}
	if in.Amount <= 0 {
		return nil, E(InvalidRequest, "expected_amount must be positive")
	}
	to := common.HexToAddress(*business.WalletAddress)
	if in.Recipient != "" {
		asked, err := parseAddress(in.Recipient)
		if err != nil {
			return nil, err
		}
		if asked != to {
			return &Verified{TxHash: hash.Hex(), Reason: WrongRecipient}, nil
		}
	}
	out, err := g.shown(ctx, hash, to, in.Amount)
	if err != nil || out.Reason != "" {
		return out, err
	}
	return out, g.count(ctx, business, out)
}

// shown looks for the payment in the transaction's logs.
func (g *Gateway) shown(ctx context.Context, hash common.Hash, to common.Address, least money.USDC) (*Verified, error) {
	out := &Verified{TxHash: hash.Hex()}
	r, err := g.chain.Receipt(ctx, hash)
	if errors.Is(err, evm.ErrNotFound) {
		out.Reason = NotFoundOnChain
		return out, nil
	}
	var head evm.Block
	if err == nil {
		head, err = g.chain.Head(ctx)
	}
	if err != nil {
		return nil, &Error{Code: ServiceFailed, Message: "The network did not answer", Err: err}
	}
	out.Block = r.Block
	switch {
	case !r.OK:
		out.Reason = RevertedOnChain
		return out, nil
	case head.Number < r.Block+g.chain.Network().Confirmations:
		out.Reason = NotConfirmed
		return out, nil
	}
	out.Reason = WrongRecipient
	for _, m := range evm.MovementsOf(g.chain.Network().USDC, r.Logs) {
		if m.To == to && (out.To == "" || m.Amount > out.Amount) {
			out.From, out.To, out.Amount, out.Reason = m.From.Hex(), m.To.Hex(), m.Amount, ""
		}
	}
	if out.Reason == "" && out.Amount < least {
		out.Reason = AmountTooSmall
	}
	return out, nil
}

// count uses a payment up, for all businesses of the organisation at the same address: what was paid there once is not for two
// of them. One that this server has made for a call, or in settlement of calls, was for those.
func (g *Gateway) count(ctx context.Context, business *ent.Service, v *Verified) error {
	err := g.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		ours, err := madeFor(ctx, tx, v)
		if err != nil {
			return err
		}
		if ours {
			v.Reason = PaidForOtherCall
			return nil
		}
		all, err := g.sameTill(tx, business).All(ctx)
		if err != nil {
			return err
		}
		ids := make([]uuid.UUID, len(all))
		for i, s := range all {
			ids[i] = s.ID
		}
		used, err := tx.Verification.Query().Where(verification.ServiceIDIn(ids...), verification.TxHash(v.TxHash)).Exist(ctx)
		if err != nil {
			return err
		}
		if used {
			v.Reason = AlreadyUsed
			return nil
		}
		return tx.Verification.Create().SetServiceID(business.ID).SetTxHash(v.TxHash).SetAmount(v.Amount).SetCreatedAt(tx.Now).Exec(ctx)
	})
	if ent.IsConstraintError(err) {
		v.Reason = AlreadyUsed
		return nil
	}
	return err
}

// sameTill are the businesses of an organisation at one address, removed ones among them. Their rows are locked, so that of two
// that are shown one payment, one counts it.
func (g *Gateway) sameTill(tx *Tx, business *ent.Service) *ent.ServiceQuery {
	q := tx.Service.Query().Where(service.OrgID(*business.OrgID), service.WalletAddress(*business.WalletAddress)).Order(service.ByID())
	if g.db.Dialect == "postgres" {
		q = q.ForUpdate()
	}
	return q
}

// madeFor reports whether a payment is one that this server has made to the business for calls. The operation may still have
// the hash of a dearer form of the same transaction.
func madeFor(ctx context.Context, tx *Tx, v *Verified) (bool, error) {
	var carriers []uuid.UUID
	if err := tx.Attempt.Query().Where(attempt.Hash(v.TxHash)).Select(attempt.FieldChainTxID).Scan(ctx, &carriers); err != nil {
		return false, err
	}
	return tx.Operation.Query().Where(
		operation.Or(operation.TxHash(v.TxHash), operation.ChainTxIDIn(carriers...)), operation.ToAddress(v.To),
		operation.KindIn(operation.KindCharge, operation.KindPayout),
	).Exist(ctx)
}
