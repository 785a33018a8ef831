package core_test

import (
	"strings"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/pricing"
	"bursar/money"
	"bursar/pay/paytest"
)

// TestBusinessesCanBeCalled: what could never be called is not registered, and does not become so. Its name stays free.
func TestBusinessesCanBeCalled(t *testing.T) {
	w := coretest.New(t)
	seller, _ := w.User("seller@example.com")
	deps := w.Deps
	deps.MaxPayment = money.One
	app, err := core.New(w.Ctx, deps)
	must(w, err)
	business := core.RegisterInput{Name: "mine", Wallet: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", WebhookURL: "https://example.com/hook", PricePerRequest: cent}
	private := []string{
		"https://10.0.0.1/", "https://192.168.1.1:8443/", "https://169.254.169.254/latest", "https://0.0.0.0/", "https://100.64.0.1/", "https://[fd00::1]/", "https://[fe80::1]:22/",
		"https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://１０.0.0.1/", "https://10.0.0.1.:022/", "https://224.0.0.1/", "https://[2001:db8::1]/",
	}
	refused := func(what string, err error) {
		t.Helper()
		if code(err) != core.InvalidRequest {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, base := range private {
		in := business
		in.UpstreamURL = base
		_, err := app.Gateway.Register(w.Ctx, seller, in)
		refused(base, err)
		in.UpstreamURL, in.WebhookURL = "", base // where calls go then
		_, err = app.Gateway.Register(w.Ctx, seller, in)
		refused(base, err)
	}
	dear := business
	dear.PricePerRequest = money.One + 1
	_, err = app.Gateway.Register(w.Ctx, seller, dear)
	refused("a price above the ceiling", err)
	held := pricing.Price{By: pricing.AnswerSize, Unit: 1, Maximum: money.One + 1}
	_, err = app.Services.Add(w.Ctx, seller, core.ServiceInput{Name: "mine", BaseURL: "https://example.com/", Wallet: business.Wallet, Price: held})
	refused("a maximum above the ceiling", err)
	business.PricePerRequest = money.One
	made, err := app.Gateway.Register(w.Ctx, seller, business)
	must(w, err)
	for _, base := range private {
		_, err := app.Services.Update(w.Ctx, seller, made.ID, core.ServiceUpdate{BaseURL: &base})
		refused("to "+base, err)
	}
	for _, price := range []pricing.Price{{PerCall: money.One + 1}, held} {
		_, err = app.Services.Update(w.Ctx, seller, made.ID, core.ServiceUpdate{Price: &price})
		refused("to a price above the ceiling", err)
	}
	// Counted in the request, a call may cost less than the maximum; a name is judged at the dial; and what the server's own
	// client may dial is no secret to it.
	for _, in := range []core.ServiceUpdate{
		{Price: &pricing.Price{By: pricing.RequestField, Field: "n", Unit: 1, Maximum: 2 * money.One}},
		{BaseURL: new("https://metadata.google.internal/")},
		{BaseURL: new("https://127.0.0.1:8402/")},
		{BaseURL: new("https://[::1]/")},
		{BaseURL: new("https://8.8.8.8/")},
	} {
		if _, err := app.Services.Update(w.Ctx, seller, made.ID, in); err != nil {
			t.Errorf("%+v: %v", in, err)
		}
	}
	// One that was let in before can be put right, or away.
	deps.MaxPayment, deps.Private = cent, nil
	later, err := core.New(w.Ctx, deps)
	must(w, err)
	base, off := "https://127.0.0.1:22/", false
	if _, err := app.Services.Update(w.Ctx, seller, made.ID, core.ServiceUpdate{BaseURL: &base, Price: &pricing.Price{PerCall: money.One}}); err != nil {
		t.Fatal(err)
	}
	if v, err := later.Services.Update(w.Ctx, seller, made.ID, core.ServiceUpdate{Active: &off}); err != nil || v.Active {
		t.Errorf("%+v %v", v, err)
	}
	_, err = later.Services.Update(w.Ctx, seller, made.ID, core.ServiceUpdate{BaseURL: &base})
	refused("the same again", err)
	must(w, later.Services.Install(w.Ctx, []core.ServiceInput{{Name: "own", BaseURL: "https://127.0.0.1:22/", Price: pricing.Price{PerCall: money.One}}}))
	must(w, later.Services.Install(w.Ctx, []core.ServiceInput{{Name: "own", BaseURL: "https://10.0.0.1/", Price: pricing.Price{PerCall: money.One}}}))
}

// TestRefusalsTellTheirFigures: no figure of a refusal is rounded away, and none is told that the rule does not ask.
func TestRefusalsTellTheirFigures(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	link := w.Seller(cent).Link(2, paytest.Serve, 0)
	tells := func(want string, err error) {
		t.Helper()
		if err == nil || core.AsError(err).Message != want {
			t.Errorf("%q is not %q", err, want)
		}
	}
	for most, want := range map[money.USDC]string{
		10: "Price $0.0100 exceeds the maximum of $0.000010", 5000: "Price $0.0100 exceeds the maximum of $0.0050", cent - 1: "Price $0.0100 exceeds the maximum of $0.009999", 0: "Price $0.0100 exceeds the maximum of $0.0000",
	} {
		_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: link, MaxCost: &most})
		tells(want, err)
	}
	setPolicy(w, p, a.ID, core.PolicyInput{PerCallMax: core.Set(cent - 1)})
	_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: link})
	tells("Per-call maximum exceeded: requested 0.010000, limit 0.009999", err)
	setPolicy(w, p, a.ID, core.PolicyInput{PerCallMax: core.Optional[money.USDC]{Set: true}, DailyLimit: core.Set(cent - 1)})
	_, err = w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: link})
	tells("Daily limit exceeded: spent 0.000000, requested 0.010000, limit 0.009999", err)
	if _, err = w.Core.Funding.Drain(w.Ctx, p, a.ID, "", nil); err == nil || !strings.Contains(err.Error(), "setWalletAddress") {
		t.Error(err)
	}
	deps := w.Deps
	deps.MaxPayment = 10
	low, err := core.New(w.Ctx, deps)
	must(w, err)
	_, err = low.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: link})
	tells("Price $0.0100 exceeds this server's ceiling of $0.000010", err)
}
