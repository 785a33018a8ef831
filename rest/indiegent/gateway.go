package indiegent

import (
	"net/http"
	"strings"

	"bursar/core"
	"bursar/ent"
	"bursar/money"
	"bursar/rest"
)

// RegisterGateway is POST /gateway/register.
func (a *api) RegisterGateway(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var raw GatewayRequest
		if err := body(w, r, &raw); err != nil {
			return nil, err
		}
		price, err := rest.Dollars("price_per_request", raw.PricePerRequest)
		if err != nil {
			return nil, err
		}
		if price == nil || *price == 0 {
			return nil, core.E(core.InvalidRequest, "price_per_request must be above zero")
		}
		made, err := a.app.Gateway.Register(r.Context(), caller(r), core.RegisterInput{
			Name: raw.Name, Description: raw.Description, Wallet: raw.WalletAddress, WebhookURL: raw.WebhookUrl, UpstreamURL: raw.BaseUrl, PricePerRequest: *price,
		})
		if err != nil {
			return nil, err
		}
		return GatewayAnswer{Gateway: gatewayBody(made.Service), GatewayKey: made.Key, Response402: a.paymentRequired(made.Service)}, nil
	})
}

func gatewayBody(s *ent.Service) Gateway {
	return Gateway{
		Id: s.ID, Name: s.Name, Slug: s.Slug, WalletAddress: *s.WalletAddress, PricePerRequest: s.Price.PerCall.Dollars(), WebhookUrl: s.WebhookURL,
		BaseUrl: s.BaseURL, Description: s.Description, CreatedAt: s.CreatedAt.Unix(),
	}
}

// paymentRequired is what a business answers itself to who has not paid.
func (a *api) paymentRequired(s *ent.Service) PaymentRequired {
	return PaymentRequired{
		Error: "payment_required", Amount: dollarText(s.Price.PerCall), Currency: "USD", Token: "USDC", Chain: a.app.Network().Name,
		Recipient: *s.WalletAddress, Memo: s.Name,
	}
}

// dollarText is an amount as Agent Pay spells it: decimal dollars, with two places at least.
func dollarText(v money.USDC) string {
	text := v.Decimal()
	for range money.Decimals - 2 {
		text = strings.TrimSuffix(text, "0")
	}
	return text
}

// VerifyGateway is POST /gateway/verify.
func (a *api) VerifyGateway(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		var raw GatewayVerifyRequest
		if err := body(w, r, &raw); err != nil {
			return nil, err
		}
		amount, err := money.ParseDecimal(raw.ExpectedAmount)
		if err != nil {
			return nil, core.E(core.InvalidRequest, `expected_amount must be US dollars as text, as in "0.50"`)
		}
		v, err := a.app.Gateway.Verify(r.Context(), core.VerifyInput{Key: raw.GatewayKey, TxHash: raw.TxHash, Recipient: raw.ExpectedRecipient, Amount: amount})
		if err != nil {
			return nil, err
		}
		out := GatewayVerified{Verified: v.Reason == "", TxHash: v.TxHash, From: v.From, To: v.To, BlockNumber: int64(v.Block), Reason: v.Reason}
		if v.To != "" {
			out.Amount = dollarText(v.Amount)
		}
		return out, nil
	})
}

// GatewayStats is GET /gateway/stats.
func (a *api) GatewayStats(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		own, err := a.app.Gateway.Stats(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return GatewayStats{Gateways: each(own, func(f *core.BusinessFigures) GatewayFigures {
			return GatewayFigures{
				Id: f.Service.ID, Name: f.Service.Name, Slug: f.Service.Slug, Active: f.Service.Active, Calls: f.Calls, Revenue: int64(f.Revenue), Owed: int64(f.Owed),
				Sending: int64(f.Sending), Sent: int64(f.Sent), Verified: f.Verified,
			}
		})}, nil
	})
}
