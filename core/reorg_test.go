package core_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay/paytest"
)

const depth = 2 // confirmations in these tests

// eachDepth runs a test for reorganisations of one block less than the confirmations, as many, and more. Only the last
// two reach what is booked.
func eachDepth(t *testing.T, f func(t *testing.T, w *coretest.World, blocks int)) {
	for name, blocks := range map[string]int{"shallow": depth - 1, "at the depth": depth, "below it": depth + 1, "far below": depth + 4} {
		t.Run(name, func(t *testing.T) {
			t.Run("sqlite", func(t *testing.T) { f(t, coretest.New(t, coretest.Confirmations(depth)), blocks) })
			if testing.Short() {
				return
			}
			t.Run("postgres", func(t *testing.T) {
				f(t, coretest.New(t, coretest.Confirmations(depth), coretest.OnPostgres(coretest.Postgres(t))), blocks)
			})
		})
	}
}

// Books that remember no block of the chain are another chain's, however long it is; those that have seen a
// reorganisation, or nothing yet, are not.
func TestBooksOfAnotherChain(t *testing.T) {
	w := coretest.New(t, coretest.Confirmations(depth))
	w.Mine(3 * depth)
	w.Settle()
	w.Mine(1)
	w.Reorg(depth + 2)
	if err := w.Core.Funding.SameChain(w.Ctx); err != nil {
		t.Errorf("after a reorganisation: %v", err)
	}
	other := chaintest.New(t)
	deps := w.Deps
	deps.Chain = other.Client
	c, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	for _, blocks := range []int{0, 10 * depth} { // shorter than the books, and longer
		for range blocks {
			other.Node.Commit()
		}
		if err := c.Funding.SameChain(w.Ctx); !errors.Is(err, core.ErrOtherChain) {
			t.Errorf("with %d blocks more: %v", blocks, err)
		}
	}
	other = chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID))
	deps.Chain = other.Client
	if c, err = core.New(w.Ctx, deps); err != nil {
		t.Fatal(err)
	}
	if err := c.Funding.SameChain(w.Ctx); err != nil {
		t.Errorf("a chain that has no books yet: %v", err)
	}
}

func TestReorgOfAFunding(t *testing.T) {
	eachDepth(t, func(t *testing.T, w *coretest.World, blocks int) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 0)
		w.Mine(2 * depth)
		w.Fund(a, money.One)
		w.Mine(depth)
		if err := w.Core.Funding.ReadChain(w.Ctx); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and once more, to the same heights
			w.Reorg(blocks)
			w.Settle()
			w.Balanced()
		}
		w.Mine(depth + 1)
		w.Settle()
		got, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || got.Wallet.Posted != money.One || w.Net.Balance(common.HexToAddress(a.Address)) != money.One {
			t.Errorf("the wallet has %s in the books, %s on chain, %v", got.Wallet.Posted, w.Net.Balance(common.HexToAddress(a.Address)), err)
		}
		w.Balanced()
	})
}

func TestReorgOfASession(t *testing.T) {
	eachDepth(t, func(t *testing.T, w *coretest.World, blocks int) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 2*money.One)
		w.Net.Fund(w.Platform, money.One) // else a settlement that is mined again before the deposit fails
		s := w.Seller(cent)
		w.Mine(2 * depth) // what funds the seller's own gas is not taken back
		v := w.Session(p, a, money.One)
		call := func() error {
			_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.Serve, 0)})
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		w.Reorg(blocks)
		w.Settle()
		w.Balanced()
		w.Mine(depth + 1)
		w.Settle()
		w.Balanced()
		if err := call(); err != nil {
			t.Errorf("the session is of no use after its deposit was mined again: %v", err)
		}
		w.Close(p, v.ID)
		w.Reorg(blocks)
		w.Settle()
		w.Balanced()
		w.Mine(depth + 1)
		w.Settle()
		w.Balanced()
		got, err := w.Core.Sessions.Get(w.Ctx, p, v.ID)
		if err != nil || got.Status != session.StatusClosed || got.Refunded != money.One-2*cent || got.Used != 2*cent {
			t.Errorf("%+v %v", got, err)
		}
		if on := w.Net.Balance(common.HexToAddress(a.Address)); on != 2*money.One-2*cent {
			t.Errorf("the wallet has %s on chain", on)
		}
		if on := w.Net.Balance(s.PayTo); on != 2*cent {
			t.Errorf("the seller has %s on chain", on)
		}
	})
}

func TestReorgOfAPayment(t *testing.T) {
	eachDepth(t, func(t *testing.T, w *coretest.World, blocks int) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 2*money.One)
		s := w.Seller(cent)
		w.Mine(2 * depth)
		for range 3 {
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.Serve, 0)}); err != nil {
				t.Fatal(err)
			}
		}
		w.Mine(depth)
		w.Settle()
		w.Reorg(blocks)
		w.Settle()
		w.Balanced()
		w.Mine(depth + 1)
		w.Settle()
		w.Balanced()
		page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true})
		if err != nil || page.Total != 3 || page.Spent != 3*cent || page.Succeeded != 3 {
			t.Errorf("%+v %v", page, err)
		}
		for _, v := range page.Items {
			if v.TxHash == nil {
				t.Errorf("%s names no chain transaction", v.ID)
			}
		}
		got, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
		if err != nil || got.Wallet.Pending != 0 || got.Wallet.Posted != 2*money.One-3*cent {
			t.Errorf("%+v %v", got.Wallet, err)
		}
	})
}

// A deposit that was spent from is un-mined and never comes again: no call is paid any more, what is left is written
// off, and the books say what is missing.
func TestDepositThatNeverComesAgain(t *testing.T) {
	w := coretest.New(t, coretest.Confirmations(depth))
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 2*money.One)
	s := w.Seller(cent)
	before := w.Height()
	v := w.Session(p, a, money.One)
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.LieReceipt, 0)}); err != nil {
		t.Fatal(err)
	}
	w.Replace(before, w.Deps.RelayerKey)
	w.Pass(11 * time.Minute)
	w.Mine(depth + 1)
	for range 3 {
		w.Settle()
		if err := w.Core.Funding.ExpireOperations(w.Ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.Core.Sessions.Get(w.Ctx, p, v.ID)
	if err != nil || got.Status != session.StatusClosed || got.Remaining != 0 {
		t.Errorf("%+v %v", got, err)
	}
	after, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
	if err != nil || after.Wallet.Posted != 2*money.One || after.Wallet.Pending != 0 {
		t.Errorf("%+v %v", after.Wallet, err)
	}
	w.Balanced()
}

// A deposit is lost for good after a call that costs half of it. Whatever comes back to the session later is written off
// too, in the same amount; its owner sees as used what the call has cost and nothing else.
func TestLostDepositIsWrittenOff(t *testing.T) {
	for name, c := range map[string]struct {
		does paytest.Behaviour
		cost money.USDC
	}{
		"the seller collects":       {paytest.Serve, cent},
		"the seller never collects": {paytest.LieReceipt, 0},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				p, _ := w.User("dev@example.com")
				a := w.Agent(p, "bot", money.One)
				w.Net.Fund(w.Platform, money.One) // else the settlement fails when it is mined again
				s := w.Seller(cent)
				w.Settle()
				before := w.Height()
				v := w.Session(p, a, 2*cent)
				if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, c.does, 0)}); err != nil {
					t.Fatal(err)
				}
				w.Settle()
				w.Replace(before, w.Deps.RelayerKey)
				w.Pass(11 * time.Minute)
				w.Settle()
				must(w, w.Core.Funding.ExpireOperations(w.Ctx))
				w.Settle()
				usedIs := func(when string, used money.USDC) {
					t.Helper()
					got, err := w.Core.Sessions.Get(w.Ctx, p, v.ID)
					if err != nil || got.Status != session.StatusClosed || got.Remaining != 0 || got.Refunded != 0 || got.Used != used {
						t.Errorf("%s: %s, used %s, remaining %s, refunded %s, %v", when, got.Status, got.Used, got.Remaining, got.Refunded, err)
					}
					w.Balanced()
				}
				usedIs("written off", cent)
				must(w, w.Core.Payments.ResolveHolds(w.Ctx))
				w.Settle()
				usedIs("when its proofs have ended", c.cost)
				audit, err := w.Core.Books.Audit(w.Ctx)
				if err != nil || audit.Platform.Suspense != -c.cost || audit.Platform.Sessions != 0 || audit.Platform.Clearing != 0 {
					t.Errorf("%+v %v", audit, err)
				}
			})
		})
	}
}

// A payment from a wallet is un-mined, and its proof dies before it is mined again.
func TestPaymentThatNeverComesAgain(t *testing.T) {
	w := coretest.New(t, coretest.Confirmations(depth))
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", 2*money.One)
	s := w.Seller(cent)
	before := w.Height()
	r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.Serve, 0)})
	if err != nil {
		t.Fatal(err)
	}
	w.Mine(depth)
	w.Settle()
	w.Replace(before, s.Key)
	w.Pass(10 * time.Minute)
	w.Mine(depth + 1)
	w.Settle()
	if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
		t.Fatal(err)
	}
	w.Balanced()
	got, err := w.Core.Transactions.Get(w.Ctx, p, r.Payment.ID)
	if err != nil || got.Status != transaction.StatusFailed || got.Amount != 0 {
		t.Errorf("%+v %v", got, err)
	}
	after, err := w.Core.Agents.Get(w.Ctx, p, a.ID)
	if err != nil || after.Wallet.Posted != 2*money.One || after.Wallet.Pending != 0 {
		t.Errorf("%+v %v", after.Wallet, err)
	}
}
