package core_test

import (
	"math/big"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// What the records say of gas is what the relayer has paid, to the wei.
func TestGasFees(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		before, err := w.Net.Client.EtherOf(w.Ctx, w.Relayer)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Core.Sessions.Close(w.Ctx, p, v.ID, nil); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		if err := w.Core.Operations.NoteFees(w.Ctx); err != nil {
			t.Fatal(err)
		}
		page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		spent, noted := new(big.Int), map[transaction.Kind]bool{}
		for _, item := range page.Items {
			fee, err := w.Core.Transactions.GasFee(w.Ctx, p, item)
			if err != nil {
				t.Fatal(err)
			}
			if fee == nil {
				continue
			}
			noted[item.Kind] = true
			wei, ok := new(big.Int).SetString(*fee, 10)
			if !ok || wei.Sign() <= 0 {
				t.Errorf("%s: %q", item.Kind, *fee)
				continue
			}
			spent.Add(spent, wei)
			if item.Kind == transaction.KindGasSponsor {
				grant, _ := new(big.Int).SetString(item.Wei, 10)
				spent.Add(spent, grant)
			}
		}
		if len(noted) != 3 || !noted[transaction.KindDeposit] || !noted[transaction.KindRefund] || !noted[transaction.KindGasSponsor] {
			t.Errorf("noted: %v", noted)
		}
		after, err := w.Net.Client.EtherOf(w.Ctx, w.Relayer)
		if err != nil || new(big.Int).Sub(before, after).Cmp(spent) != 0 {
			t.Errorf("the relayer has %s of %s, noted are %s, %v", after, before, spent, err)
		}
		other, _ := w.User("other@example.com")
		if _, err := w.Core.Transactions.GasFee(w.Ctx, other, page.Items[0]); code(err) != core.NotFound {
			t.Errorf("another's: %v", err)
		}
	})
}
