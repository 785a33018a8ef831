package core_test

import (
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// Several processes read the chain at once: a payment that arrives at an agent is recorded once.
func TestWatchersRace(t *testing.T) {
	const watchers, payments = 4, 12
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "buyer", 5*money.One)
		seller := w.Agent(p, "seller", 0)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil || v.Status != session.StatusOpen {
			t.Fatalf("%+v %v", v, err)
		}
		s := w.SellerTo(common.HexToAddress(seller.Address), cent)
		cores := []*core.Core{w.Core}
		for len(cores) < watchers {
			other, err := core.New(w.Ctx, w.Deps)
			if err != nil {
				t.Fatal(err)
			}
			cores = append(cores, other)
		}
		for i := range payments {
			in := core.FetchInput{Agent: a.ID.String(), URL: s.Link(2, paytest.Serve, 0)}
			if i%2 == 1 {
				in.SessionID = v.ID.String()
			}
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, in); err != nil {
				t.Fatal(err)
			}
			w.Net.Node.Commit()
			var wait sync.WaitGroup
			for _, c := range cores {
				wait.Go(func() {
					if err := c.Funding.ReadChain(w.Ctx); err != nil {
						t.Error(err)
					}
				})
			}
			wait.Wait()
		}
		w.Settle()
		history, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{AgentID: &seller.ID, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		arrivals := 0
		for _, r := range history.Items {
			if r.Kind == transaction.KindFund {
				arrivals++
			}
		}
		if arrivals != payments {
			t.Errorf("%d arrivals of %d payments", arrivals, payments)
		}
		w.Balanced()
	})
}
