package core

import (
	"context"
	"errors"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/pricing"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/operation"
	"bursar/ent/service"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// Gateway is businesses that are paid through the catalogue: registered with a price per call and an address, called as
// services, and told whether a payment that somebody shows them is theirs.
type Gateway struct {
	*store
	services   *Services
	operations *Operations
}

const prefixGateway = "ig_gw_"

// RegisterInput describes a business. UpstreamURL is where its calls go; empty: to WebhookURL.
type RegisterInput struct {
	Name, Description, Wallet, WebhookURL, UpstreamURL string
	PricePerRequest                                    money.USDC
}

// Registered is a new business with its key, which is shown once and stored nowhere.
type Registered struct {
	*ent.Service
	Key string
}

// Register puts a business of the caller's organisation into the catalogue. Owners and admins may, by a login.
func (g *Gateway) Register(ctx context.Context, p Principal, in RegisterInput) (*Registered, error) {
	if err := p.needManager(); err != nil {
		return nil, err
	}
	key, err := newSecret(prefixGateway)
	if err != nil {
		return nil, err
	}
	base := in.UpstreamURL
	if base == "" {
		base = in.WebhookURL
	}
	if base == "" {
		return nil, E(InvalidRequest, "webhook_url is required: calls go there, or to base_url")
	}
	if in.WebhookURL != "" {
		if _, err := parseTarget(in.WebhookURL); err != nil || len(in.WebhookURL) > maxBaseURL {
			return nil, E(InvalidRequest, "webhook_url must be an absolute http or https URL")
		}
	}
	made, err := g.services.Add(ctx, p, ServiceInput{
		Name: in.Name, Description: in.Description, BaseURL: base, Price: pricing.Price{PerCall: in.PricePerRequest}, Wallet: in.Wallet,
		WebhookURL: in.WebhookURL, keyHash: hashSecret(key),
	})
	if err != nil {
		return nil, err
	}
	return &Registered{made.Service, key}, nil
}

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
	return out, g.count(ctx, business.ID, out)
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

// count uses a payment up. One that this server has made for a call, or in settlement of calls, was for those.
func (g *Gateway) count(ctx context.Context, business uuid.UUID, v *Verified) error {
	err := g.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		ours, err := tx.Operation.Query().Where(operation.TxHash(v.TxHash), operation.KindIn(operation.KindCharge, operation.KindPayout)).Exist(ctx)
		if err != nil {
			return err
		}
		if ours {
			v.Reason = PaidForOtherCall
			return nil
		}
		return tx.Verification.Create().SetServiceID(business).SetTxHash(v.TxHash).SetAmount(v.Amount).SetCreatedAt(tx.Now).Exec(ctx)
	})
	if ent.IsConstraintError(err) {
		v.Reason = AlreadyUsed
		return nil
	}
	return err
}

// BusinessFigures are what a business has earned: Revenue of calls that were charged; of what sessions have paid, Sent is at its
// wallet, Sending on its way, and Owed waits to be sent.
type BusinessFigures struct {
	Service             *ServiceView
	Calls               int
	Revenue             money.USDC
	Owed, Sending, Sent money.USDC
	Verified            int // payments that it was told of
}

// Stats are the figures of the organisation's businesses.
func (g *Gateway) Stats(ctx context.Context, p Principal) ([]*BusinessFigures, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	var out []*BusinessFigures
	err := g.db.atOnce(ctx, func(c *ent.Client) error {
		own, err := of(p, c).ownServices().Order(service.BySlug()).All(ctx)
		if err != nil {
			return err
		}
		for _, s := range own {
			f := &BusinessFigures{Service: p.view(s)}
			if err := g.figures(ctx, c, f); err != nil {
				return err
			}
			out = append(out, f)
		}
		return nil
	})
	return out, err
}

func (g *Gateway) figures(ctx context.Context, c *ent.Client, f *BusinessFigures) error {
	var sums []struct { // at most one, that of the service
		Service uuid.UUID  `json:"service_id"`
		Count   int        `json:"count"`
		Sum     money.USDC `json:"sum"`
	}
	err := c.Transaction.Query().Where(transaction.ServiceID(f.Service.ID), transaction.StatusEQ(transaction.StatusSuccess)).
		GroupBy(transaction.FieldServiceID).Aggregate(ent.Count(), ent.As(ent.Sum(transaction.FieldAmount), "sum")).Scan(ctx, &sums)
	if err != nil {
		return err
	}
	for _, s := range sums {
		f.Calls, f.Revenue = s.Count, s.Sum
	}
	a, err := c.Account.Query().Where(account.KindEQ(account.KindSeller), account.ChainID(int64(g.chainID())), account.OwnerID(f.Service.ID)).Only(ctx)
	if err != nil {
		return err
	}
	state := ledger.StateOf(a)
	f.Owed, f.Sending = state.Available(), state.DebitsPending
	if f.Sent, err = sent(ctx, c, f.Service.ID); err != nil {
		return err
	}
	f.Verified, err = c.Verification.Query().Where(verificationOf(f.Service.ID)).Count(ctx)
	return err
}
