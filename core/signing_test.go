package core_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// challenge asks a seller and returns its 402 as JSON of version 1, without the version, as the published example has it.
func challenge(t *testing.T, link string) []byte {
	t.Helper()
	resp, err := http.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.Replace(string(body), `"x402Version":1,`, "", 1))
}

// TestSign: a signature is the payment. It counts from then on, is charged when the seller uses it, and comes back when its
// time has passed unused; the same request has the same proof; what may not be paid is not signed.
func TestSign(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{DailyLimit: core.Set(2 * cent)}); err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		link := s.Link(1, paytest.Serve, 0)
		key := "first"
		in := core.SignInput{Agent: "bot", URL: link, Challenge: challenge(t, link), IdempotencyKey: &key}
		used, err := w.Core.Payments.Sign(w.Ctx, p, in)
		if err != nil || used.Header != "X-Payment" || used.Payment.Status != transaction.StatusPending || used.Payment.Quoted != cent {
			t.Fatalf("%+v %v", used, err)
		}
		if again, err := w.Core.Payments.Sign(w.Ctx, p, in); err != nil || again.Value != used.Value || again.Payment.ID != used.Payment.ID {
			t.Errorf("the same request: %+v %v", again, err)
		}
		other := in
		other.DefaultWallet = true
		if _, err := w.Core.Payments.Sign(w.Ctx, p, other); code(err) != core.Conflict {
			t.Errorf("another wallet under one key: %v", err)
		}
		in.IdempotencyKey = nil
		unused, err := w.Core.Payments.Sign(w.Ctx, p, in)
		if err != nil || unused.Value == used.Value {
			t.Fatalf("%+v %v", unused, err)
		}
		_, err = w.Core.Payments.Sign(w.Ctx, p, in)
		if e := core.AsError(err); e.Code != core.SpendingLimit || e.Trace == "" {
			t.Errorf("a third above the limit: %v", err)
		}

		r, err := http.NewRequestWithContext(w.Ctx, http.MethodGet, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(used.Header, used.Value)
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_ = resp.Body.Close()
		w.Settle()
		statuses := func() (transaction.Status, transaction.Status) {
			one, err := w.Core.Transactions.Get(w.Ctx, p, used.Payment.ID)
			if err != nil {
				t.Fatal(err)
			}
			two, err := w.Core.Transactions.Get(w.Ctx, p, unused.Payment.ID)
			if err != nil {
				t.Fatal(err)
			}
			return one.Status, two.Status
		}
		if one, two := statuses(); one != transaction.StatusSuccess || two != transaction.StatusPending {
			t.Errorf("used %s, unused %s", one, two)
		}
		w.Pass(2 * time.Minute)
		w.Settle()
		w.Jobs()
		if one, two := statuses(); one != transaction.StatusSuccess || two != transaction.StatusFailed {
			t.Errorf("later: used %s, unused %s", one, two)
		}
		if _, err := w.Core.Payments.Sign(w.Ctx, p, in); err != nil {
			t.Errorf("what came back counts still: %v", err)
		}
		w.Balanced()
	})
}

// TestSignRefuses: bad challenges are told, and reserve nothing.
func TestSignRefuses(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	good := string(challenge(t, s.Link(1, paytest.Serve, 0)))
	for name, text := range map[string]string{
		"no JSON": "x", "null": "null", "empty": `{"accepts":[]}`, "no offers": `{}`, "other version": `{"x402Version":3,"accepts":[{}]}`,
		"zero payee":    strings.Replace(good, s.PayTo.Hex(), "0x0000000000000000000000000000000000000000", 1),
		"unknown token": strings.Replace(good, w.Net.Client.Network().USDC.Hex(), "0x0000000000000000000000000000000000000001", 1),
	} {
		if text == good {
			t.Fatalf("%s: the challenge is as it was", name)
		}
		if _, err := w.Core.Payments.Sign(w.Ctx, p, core.SignInput{Agent: "bot", URL: s.Link(1, paytest.Serve, 0), Challenge: []byte(text)}); code(err) != core.InvalidRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.Seen()); n != 0 {
		t.Errorf("%d proofs", n)
	}
	page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true})
	if err != nil || page.Total != 0 {
		t.Errorf("%+v %v", page, err)
	}
}
