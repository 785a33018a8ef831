package core_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
)

// A stranger's wallet that has given the relayer an allowance, for an agent of its own, tops up nobody else's.
func TestTopUpFromAStranger(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("victim@example.com")
		mine := w.Agent(p, "bot", 0)
		src := newPurse(w, 100*money.One)
		src.approve(w.Relayer, 100*money.One)
		q, _ := w.User("thief@example.com")
		a := w.Agent(q, "bot", 0)
		thief := newPurse(w, 0)
		terms := core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One}
		allow := 50 * money.One
		theirs := src.signed(p, core.TopUpTerms{AgentID: mine.ID, Threshold: money.One, Amount: 10 * money.One}, &allow)

		try := func(name string, want core.Code, change func(*core.ConsentInput)) {
			t.Helper()
			in := thief.signed(q, terms, nil)
			change(&in)
			if err := consent(w, q, in); code(err) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		try("the victim's address", core.Forbidden, func(in *core.ConsentInput) { in.Source = src.at.Hex() })
		try("the victim's signature for another agent", core.Forbidden, func(in *core.ConsentInput) {
			*in = theirs
			in.AgentID, in.Permit = a.ID, nil
		})
		try("the victim's permit, seen on its way", core.Forbidden, func(in *core.ConsentInput) {
			in.Source, in.Permit = src.at.Hex(), theirs.Permit
		})
		try("the victim's permit beside an own signature", core.Forbidden, func(in *core.ConsentInput) { in.Permit = theirs.Permit })
		try("the victim's agent", core.NotFound, func(in *core.ConsentInput) { *in = theirs })
		try("a higher amount than was signed", core.Forbidden, func(in *core.ConsentInput) { in.Amount++ })
		try("a lower threshold than was signed", core.Forbidden, func(in *core.ConsentInput) { in.Threshold-- })
		try("a higher limit than was signed", core.Forbidden, func(in *core.ConsentInput) { in.DailyLimit = &allow })
		try("an old text", core.InvalidRequest, func(in *core.ConsentInput) { in.IssuedAt = in.IssuedAt.Add(-time.Hour) })
		try("a text of tomorrow", core.InvalidRequest, func(in *core.ConsentInput) { in.IssuedAt = in.IssuedAt.Add(time.Hour) })
		try("another moment", core.Forbidden, func(in *core.ConsentInput) { in.IssuedAt = in.IssuedAt.Add(-time.Second) })
		try("no signature", core.InvalidRequest, func(in *core.ConsentInput) { in.Signature = "0x" })
		try("an own wallet of the server", core.InvalidRequest, func(in *core.ConsentInput) { in.Source = mine.Address })
		try("the platform", core.InvalidRequest, func(in *core.ConsentInput) { in.Source = w.Platform.Hex() })
		try("the relayer", core.InvalidRequest, func(in *core.ConsentInput) { in.Source = w.Relayer.Hex() })
		try("dust", core.InvalidRequest, func(in *core.ConsentInput) { in.Amount = 1 })
		try("a limit below the amount", core.InvalidRequest, func(in *core.ConsentInput) { in.DailyLimit = &terms.Threshold })

		// The settings alone, which take any address.
		set := core.UpdateAgentInput{
			AutoTopupSource: core.Set(src.at.Hex()), AutoTopupThreshold: core.Set(money.One), AutoTopupAmount: core.Set(10 * money.One),
		}
		_, err := w.Core.Agents.Update(w.Ctx, q, a.ID, set)
		must(w, err)
		topUps(w, q, a.ID)
		if got := agentOf(w, q, a.ID); got.Wallet.Posted != 0 || !strings.HasPrefix(got.AutoTopupError, "The source has not been proven") {
			t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
		}
		// A true consent, and then another source.
		thief.consent(q, terms)
		_, err = w.Core.Agents.Update(w.Ctx, q, a.ID, set)
		must(w, err)
		topUps(w, q, a.ID)
		if got := agentOf(w, q, a.ID); got.Wallet.Posted != 0 || got.AutoTopupConsentAt() != nil || !strings.HasPrefix(got.AutoTopupError, "The source has not been proven") {
			t.Errorf("%+v %q", got.Wallet, got.AutoTopupError)
		}
		if got := w.Net.Balance(src.at); got != 100*money.One {
			t.Errorf("the victim has %s", got)
		}
		w.Balanced()
	})
}

// Settings that were changed after the signature pull nothing, and going back to them neither.
func TestTopUpTermsChangedBehindTheConsent(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	src := newPurse(w, 100*money.One)
	src.approve(w.Relayer, 100*money.One)
	src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
	same := core.UpdateAgentInput{AutoTopupSource: core.Set(src.at.Hex()), AutoTopupAmount: core.Set(10 * money.One), AutoTopupThreshold: core.Set(money.One)}
	got, err := w.Core.Agents.Update(w.Ctx, p, a.ID, same)
	if err != nil || got.AutoTopupConsentAt() == nil {
		t.Errorf("the same terms again: %v", err)
	}
	for _, amount := range []money.USDC{50 * money.One, 10 * money.One} {
		_, err := w.Core.Agents.Update(w.Ctx, p, a.ID, core.UpdateAgentInput{AutoTopupAmount: core.Set(amount)})
		must(w, err)
		topUps(w, p, a.ID)
		if got := agentOf(w, p, a.ID); got.Wallet.Posted != 0 || !strings.HasPrefix(got.AutoTopupError, "The source has not been proven") {
			t.Errorf("%s: %+v %q", amount, got.Wallet, got.AutoTopupError)
		}
	}
	src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
	deps := w.Deps // the text names the server's wallet: a consent is no consent to another's
	deps.RelayerKey = newPurse(w, 0).key
	other, err := core.New(w.Ctx, deps)
	must(w, err)
	src.approve(crypto.PubkeyToAddress(deps.RelayerKey.PublicKey), 100*money.One)
	must(w, other.TopUps.RunDue(w.Ctx))
	if got := agentOf(w, p, a.ID); !strings.HasPrefix(got.AutoTopupError, "The source has not been proven") {
		t.Errorf("another relayer: %q", got.AutoTopupError)
	}
	src.consent(p, core.TopUpTerms{AgentID: a.ID, Threshold: money.One, Amount: 10 * money.One})
	must(w, w.Core.TopUps.RunDue(w.Ctx)) // queued, not signed
	_, err = w.Core.Agents.Update(w.Ctx, p, a.ID, core.UpdateAgentInput{AutoTopupSource: core.Optional[string]{Set: true}})
	must(w, err)
	w.Settle()
	if h := history(w, p, a.ID, transaction.KindAutoTopup); len(h) != 1 || h[0].Status != transaction.StatusFailed || w.Net.Balance(src.at) != 100*money.One {
		t.Errorf("withdrawn before it was signed: %+v", h)
	}
	w.Balanced()
}

func TestTopUpConsentIsReadable(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 0)
	src := newPurse(w, 0)
	d, err := w.Core.TopUps.Draft(w.Ctx, p, core.TopUpTerms{AgentID: a.ID, Source: src.at.Hex(), Threshold: 5 * money.One, Amount: 20 * money.One}, nil)
	must(w, err)
	for _, part := range []string{
		a.ID.String(), a.Address, src.at.Hex(), w.Relayer.Hex(), "845321337", "Threshold: 5.000000 USDC", "Each time: 20.000000 USDC", "day: 200.000000 USDC",
	} {
		if !strings.Contains(d.Text, part) {
			t.Errorf("no %s in\n%s", part, d.Text)
		}
	}
	if !bytes.Equal([]byte(d.Text), []byte(strings.ToValidUTF8(d.Text, ""))) || d.Allowance != 0 || d.Permit != nil {
		t.Errorf("%+v", d)
	}
}
