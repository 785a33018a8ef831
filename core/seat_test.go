package core_test

import (
	"net/http"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/apikey"
	"bursar/money"
	"bursar/pay/paytest"
)

// TestLimitsComeWithTheKey: a call that may pay has its agent's limits read with its key, from the second call on. They
// are as they were when the request came in, for a second; what costs money is held to what they are at the hold; and what
// is remembered of a key opens nothing to another.
func TestLimitsComeWithTheKey(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 10*money.One)
		key, err := w.Core.APIKeys.Create(w.Ctx, p, "program")
		must(w, err)
		as := func(secret, agent string) (core.Principal, error) {
			who, _, err := w.Core.Auth.Authenticate(w.Ctx, core.Credentials{APIKey: secret, Pays: true, Agent: agent})
			return who, err
		}
		caller := func() core.Principal {
			t.Helper()
			who, err := as(key.Secret, "bot")
			must(w, err)
			return who
		}
		free := core.FetchInput{Agent: "bot", URL: w.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))}
		paid := core.FetchInput{Agent: "bot", URL: w.Seller(cent).Link(2, paytest.Serve, 0)}
		goes := func(who core.Principal, in core.FetchInput, want core.Code) {
			t.Helper()
			if _, err := w.Core.Payments.Fetch(w.Ctx, who, in); code(err) != want {
				t.Errorf("%v, want %q", err, want)
			}
		}
		goes(caller(), free, "")
		goes(caller(), paid, "")

		// One who names no agent has paid from the default wallet last.
		unnamed := func() core.Principal {
			who, err := as(key.Secret, "")
			must(w, err)
			return who
		}
		byDefault := free
		byDefault.Agent, byDefault.DefaultWallet = "", true
		goes(unnamed(), byDefault, "")
		if r, err := w.Core.Payments.Fetch(w.Ctx, unnamed(), free); err != nil || r.Agent.ID != a.ID {
			t.Errorf("%v, by %+v", err, r)
		}

		early := caller()
		setPolicy(w, p, a.ID, core.PolicyInput{BlockedServices: &[]string{"127.0.0.1"}, PerCallMax: core.Set(money.USDC(1))})
		goes(early, free, "") // it came before the policy
		goes(early, paid, core.Forbidden)
		goes(caller(), free, core.Forbidden)
		w.Clock.Ahead(2 * time.Second)
		goes(early, free, core.Forbidden)

		setPolicy(w, p, a.ID, core.PolicyInput{BlockedServices: &[]string{}})
		goes(caller(), free, "")
		goes(caller(), paid, core.SpendingLimit)

		other, _ := w.User("other@example.com")
		w.Agent(other, "theirs", money.One)
		stranger, err := w.Core.APIKeys.Create(w.Ctx, other, "program")
		must(w, err)
		who, err := as(stranger.Secret, "bot")
		must(w, err)
		goes(who, free, core.NotFound)
		in := free
		in.Agent = a.ID.String()
		goes(who, in, core.NotFound)

		_, err = w.Core.Auth.SetWallet(w.Ctx, p, "0x00000000000000000000000000000000000a11ce")
		must(w, err)
		_, err = w.Core.Agents.Deactivate(w.Ctx, p, a.ID, nil)
		must(w, err)
		goes(caller(), free, core.InvalidRequest)
		must(w, w.Core.APIKeys.Revoke(w.Ctx, p, apikey.KindAPIKey, key.ID))
		if _, err := as(key.Secret, "bot"); code(err) != core.Unauthorized {
			t.Errorf("a revoked key: %v", err)
		}
	})
}
