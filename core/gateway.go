package core

import (
	"context"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/pricing"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/service"
	"bursar/ent/transaction"
	"bursar/money"
)

// Gateway is businesses that are paid through the catalogue: registered with a price per call and an address, called as
// services, and told whether a payment that somebody shows them is theirs.
type Gateway struct {
	*store
	services   *Services
	operations *Operations
	least      money.USDC    // Deps.PayoutLeast
	wait       time.Duration // Deps.PayoutWait
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

// BusinessFigures are what a business has earned: Revenue of calls that were charged; of what sessions have paid, Sent is at its
// wallet, Sending on its way, and Owed gathers until it is due.
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
