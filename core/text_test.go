package core_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/pricing"
	"bursar/ent/service"
	"bursar/money"
)

// TestTextsOfNoAlphabet: a text that no database keeps, or that one keeps and the other does not, and one that is long in bytes
// alone, is at most the caller's mistake, and no error of the server.
func TestTextsOfNoAlphabet(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		setPolicy(w, p, a.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
		s := newShop(w, cent)
		asked := asks(w, p, s.call(0, false))
		add := core.ServiceInput{Slug: "x", Name: "x", BaseURL: "https://x.example", Price: pricing.Price{PerCall: 1}, Wallet: w.Relayer.Hex()}
		for _, text := range []string{
			"a\x00b", "a\xffb", "\xed\xa0\x80", strings.Repeat("\u00e9", 100), strings.Repeat("\u00e9", 500), strings.Repeat("a.", 500) + "a",
		} {
			list := []string{text}
			for name, try := range map[string]func() error{
				"service":      func() error { _, err := w.Core.Services.Get(w.Ctx, p, text); return err },
				"service call": func() error { _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Service: text}); return err },
				"path": func() error {
					_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.base + "/v1/serve/" + text})
					return err
				},
				"agent": func() error {
					_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: text, URL: s.base})
					return err
				},
				"session": func() error {
					_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: text, URL: s.base})
					return err
				},
				"allowed": func() error {
					_, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{AllowedServices: &list})
					return err
				},
				"blocked": func() error {
					_, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{BlockedServices: &list})
					return err
				},
				"reason":     func() error { _, err := w.Core.Approvals.Deny(w.Ctx, p, asked, text); return err },
				"name":       func() error { _, err := w.Core.Agents.Create(w.Ctx, p, core.CreateAgentInput{Name: text}); return err },
				"department": func() error { _, err := w.Core.Departments.Create(w.Ctx, p, text, nil); return err },
				"key":        func() error { _, err := w.Core.APIKeys.Create(w.Ctx, p, text); return err },
				"search": func() error {
					_, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{Search: text})
					return err
				},
				"e-mail": func() error {
					_, err := w.Core.Auth.Register(w.Ctx, core.PasswordInput{Email: text + "@example.com", Password: "correct horse"})
					return err
				},
				"credential": func() error {
					in := add
					in.Slug, in.Credential = "c"+uuid.NewString()[:8], &core.ServiceCredential{In: service.CredentialInQuery, Name: text, Secret: "12345678"}
					_, err := w.Core.Services.Add(w.Ctx, p, in)
					return err
				},
				"host": func() error {
					in := add
					in.Slug, in.BaseURL = "h"+uuid.NewString()[:8], "https://"+text+"/"
					_, err := w.Core.Services.Add(w.Ctx, p, in)
					return err
				},
				"base": func() error {
					in := add
					in.Slug, in.BaseURL = "b"+uuid.NewString()[:8], "https://x.example/"+text
					_, err := w.Core.Services.Add(w.Ctx, p, in)
					return err
				},
				"described": func() error {
					in := add
					in.Slug, in.Name, in.Description = "d"+uuid.NewString()[:8], text, text
					_, err := w.Core.Services.Add(w.Ctx, p, in)
					return err
				},
				"description": func() error {
					in := add
					in.Description = text
					_, err := w.Core.Services.Add(w.Ctx, p, in)
					return err
				},
				"field": func() error {
					in := add
					in.Price = pricing.Price{By: pricing.RequestField, Field: text, Unit: 1, Maximum: 1}
					_, err := w.Core.Services.Add(w.Ctx, p, in)
					return err
				},
				"webhook": func() error {
					_, err := w.Core.Gateway.Register(w.Ctx, p, core.RegisterInput{
						Name: "y", Wallet: w.Relayer.Hex(), WebhookURL: "https://x.example/" + text, UpstreamURL: "https://x.example", PricePerRequest: 1,
					})
					return err
				},
				"gateway key": func() error {
					_, err := w.Core.Gateway.Verify(w.Ctx, core.VerifyInput{Key: "ig_gw_" + text, TxHash: uuid.NewString(), Amount: 1})
					return err
				},
			} {
				if err := try(); err != nil && code(err) == core.ServerError {
					t.Errorf("%s %.8q, %d bytes: %v", name, text, len(text), err)
				}
			}
		}
	})
}
