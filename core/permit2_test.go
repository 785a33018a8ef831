package core_test

import (
	"bytes"
	"crypto/ecdsa"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay/paytest"
)

// ways are those of paying: from the wallet and from the session.
func (b buyer) ways() []string { return []string{"", b.session.ID.String()} }

func (b buyer) fetch(session, url string) (*core.FetchResult, error) {
	b.w.Head()
	return b.w.Core.Payments.Fetch(b.w.Ctx, b.p, core.FetchInput{SessionID: session, URL: url})
}

// done lets every job run after the chain has gone on for as long as proofs live.
func (b buyer) done() {
	b.w.Settle()
	b.w.Pass(2 * time.Minute)
	b.w.Settle()
	b.w.Jobs()
}

func (b buyer) earned(t *testing.T, s *coretest.Permit2Seller, want money.USDC) {
	t.Helper()
	if got := b.w.Net.Balance(s.PayTo); got != want {
		t.Errorf("the seller has %s, want %s", got, want)
	}
}

func TestPermit2Pays(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		s := w.Permit2Seller(cent)
		for i, session := range b.ways() {
			r, err := b.fetch(session, s.URL)
			if err != nil || r.Status != http.StatusOK || string(r.Body) != "served" || r.Cost != cent || r.Scheme != "exact" {
				t.Fatalf("session %q: %+v %v", session, r, err)
			}
			w.Settle()
			b.earned(t, s, money.USDC(i+1)*cent)
		}
		b.spent(t, cent, cent)
		s.UpTo, s.Charge = true, cent/4
		for _, session := range b.ways() {
			r, err := b.fetch(session, s.URL)
			if err != nil || r.Status != http.StatusOK || r.Cost != cent || r.Scheme != "upto" {
				t.Fatalf("session %q: %+v %v", session, r, err)
			}
			w.Settle()
			got, err := w.Core.Transactions.Get(w.Ctx, b.p, r.Payment.ID)
			if err != nil || got.Status != transaction.StatusSuccess || got.Amount != cent/4 || got.Quoted != cent || got.TxHash == nil {
				t.Errorf("session %q: %+v %v", session, got, err)
			}
		}
		b.spent(t, cent+cent/4, cent+cent/4)
		if n := len(operations(w, operation.KindAllowance)); n != 2 {
			t.Errorf("%d allowances for two payers", n)
		}
	})
}

// permit2Sellers are what can be done with a proof of Permit2 besides what sellers do with any. Without a reason the answer
// keeps the seller's side.
var permit2Sellers = []struct {
	name    string
	set     func(*coretest.Permit2Seller)
	hides   bool // its own contract has kept the settlement, and is called by another
	charged money.USDC
	status  int
	reason  string // in the history while unknown
}{
	{"settles and fails", func(s *coretest.Permit2Seller) { s.Fails = true }, false, cent, 500, "answered 500"},
	{"settles less and fails", func(s *coretest.Permit2Seller) { s.Fails, s.UpTo, s.Charge = true, true, 1 }, false, 1, 500, "answered 500"},
	{"settles less", func(s *coretest.Permit2Seller) { s.UpTo, s.Charge = true, 1 }, false, 1, 200, ""},
	{"serves, never settles", func(s *coretest.Permit2Seller) { s.Charge = 0 }, false, 0, 200, ""},
	{"serves for nothing", func(s *coretest.Permit2Seller) { s.UpTo, s.Charge = true, 0 }, false, 0, 200, ""},
	{"fails, never settles", func(s *coretest.Permit2Seller) { s.Fails, s.Charge = true, 0 }, false, 0, 500, "answered 500"},
	{"hides what it settles", func(*coretest.Permit2Seller) {}, true, cent, 200, ""},
	{"hides what it settles, and fails", func(s *coretest.Permit2Seller) { s.Fails = true }, true, cent, 500, "answered 500"},
	{"settles more than the maximum", func(s *coretest.Permit2Seller) { s.UpTo, s.Charge = true, 2*cent }, false, 0, 402, "answered 402"},
}

// What a seller does with a proof decides what is charged, and nothing else does.
func TestPermit2SellersThatMisbehave(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		for _, c := range permit2Sellers {
			s := w.Permit2Seller(cent)
			if c.set(s); c.hides {
				s.Hides = func(call evm.Call) common.Address { return w.Hidden(s.Key, call) }
			}
			wallet, session := b.figures(t)
			for _, session := range b.ways() {
				r, err := b.fetch(session, s.URL)
				if err != nil || r.Status != c.status {
					t.Fatalf("%s: %+v %v", c.name, r, err)
				}
				want := transaction.StatusPending
				switch {
				case c.reason != "":
					want = transaction.StatusUnknown
				case session != "" && !s.UpTo:
					want = transaction.StatusSuccess
				}
				if p := r.Payment; p.Status != want || !strings.Contains(p.Reason, c.reason) {
					t.Errorf("%s: %s, %q", c.name, p.Status, p.Reason)
				}
			}
			b.done()
			b.earned(t, s, 2*c.charged)
			if w2, s2 := b.figures(t); wallet-w2 != c.charged || session-s2 != c.charged {
				t.Errorf("%s: charged %s and %s, want %s", c.name, wallet-w2, session-s2, c.charged)
			}
			w.Balanced()
		}
	})
}

// figures are what the wallet and the session have left.
func (b buyer) figures(t *testing.T) (wallet, session money.USDC) {
	t.Helper()
	a, err := b.w.Core.Agents.Get(b.w.Ctx, b.p, b.agent.ID)
	if err != nil || a.Wallet.Pending != 0 {
		t.Errorf("wallet %+v %v", a.Wallet, err)
	}
	v, err := b.w.Core.Sessions.Get(b.w.Ctx, b.p, b.session.ID)
	if err != nil || v.Used != deposit-v.Remaining {
		t.Errorf("session: used %s, remaining %s, %v", v.Used, v.Remaining, err)
	}
	return a.Wallet.Posted, v.Remaining
}

// A settlement that comes after the answer, and after the process that waited for it is gone, is charged.
func TestPermit2SettledLate(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		s := w.Permit2Seller(cent)
		s.Charge = 0
		for i, session := range b.ways() {
			r, err := b.fetch(session, s.URL)
			if err != nil {
				t.Fatal(err)
			}
			w.Settle()
			must(w, s.Settle(w.Ctx, i, cent))
			w.Settle()
			got, err := w.Core.Transactions.Get(w.Ctx, b.p, r.Payment.ID)
			if err != nil || got.Status != transaction.StatusSuccess || got.Amount != cent || got.TxHash == nil {
				t.Errorf("%+v %v", got, err)
			}
		}
		b.spent(t, cent, cent)
	})
}

// A facilitator may settle many proofs in one transaction, in which some fail: those of the others are charged.
func TestPermit2SettledTogether(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		other, err := w.Core.Sessions.Open(w.Ctx, b.p, core.OpenSessionInput{AgentID: b.agent.ID, Deposit: money.One, Duration: 2 * time.Hour})
		must(w, err)
		s := w.Permit2Seller(cent)
		s.Fails, s.Charge = true, 0
		for _, session := range []string{b.session.ID.String(), other.ID.String(), other.ID.String()} {
			if r, err := b.fetch(session, s.URL); err != nil || r.Payment.Status != transaction.StatusUnknown {
				t.Fatalf("%+v %v", r, err)
			}
		}
		must(w, s.SettleTogether(w.Ctx, nil, coretest.Settlement{Call: 0, Spoiled: true}, coretest.Settlement{Call: 1}, coretest.Settlement{Call: 2}))
		b.done()
		b.earned(t, s, 2*cent)
		if v, err := w.Core.Sessions.Get(w.Ctx, b.p, other.ID); err != nil || v.Used != 2*cent {
			t.Errorf("%+v %v", v, err)
		}
		b.spent(t, money.One, 0)
	})
}

// Calls at once share the allowance that the first of them asks for.
func TestPermit2AtOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		sellers := []*coretest.Permit2Seller{w.Permit2Seller(cent), w.Permit2Seller(cent)}
		w.Head()
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				in := core.FetchInput{SessionID: b.ways()[i%2], URL: sellers[i/2%2].URL}
				if r, err := w.Core.Payments.Fetch(w.Ctx, b.p, in); err != nil || r.Status != http.StatusOK {
					t.Errorf("%+v %v", r, err)
				}
			})
		}
		wg.Wait()
		b.done()
		b.spent(t, 6*cent, 6*cent)
		if n := len(operations(w, operation.KindAllowance)); n != 2 {
			t.Errorf("%d allowances for two payers", n)
		}
	})
}

// The allowance is renewed before it is too small for what is promised, and is never without bound.
func TestPermit2AllowanceIsRenewed(t *testing.T) {
	w := coretest.New(t)
	deps := w.Deps
	deps.Permit2Reserve = cent
	var err error
	w.Core, err = core.New(w.Ctx, deps)
	must(w, err)
	b := newBuyer(t, w)
	var spent money.USDC
	for _, price := range []money.USDC{cent, 3 * cent, cent, 2 * cent} { // the rest of one is less than the next needs
		if r, err := b.fetch("", w.Permit2Seller(price).URL); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%s: %+v %v", price, r, err)
		}
		if may, err := w.Net.Allowance(w.Ctx, common.HexToAddress(b.agent.Address), evm.Permit2); err != nil || may > price+cent {
			t.Errorf("Permit2 may take %s, %v", may, err)
		}
		w.Settle()
		spent += price
	}
	b.done()
	b.spent(t, spent, 0)
}

// A token that refuses permits, as one that is paused does, is asked some times an hour, and not given up for ever.
func TestPermit2AllowanceIsRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		node := w.Net.Proxy()
		w.Core = through(t, w, node)
		s := w.Permit2Seller(cent)
		permit := evm.PermitData(common.Address{}, common.Address{}, 0, 0, nil)[:4]
		refuse := chaintest.Refuse(3, "execution reverted: Pausable: paused")
		node.Set(func(r chaintest.Request, next func(chaintest.Request) chaintest.Answer) chaintest.Answer {
			if r.Method == "eth_call" && bytes.Contains(r.Params[0], []byte(hexutil.Encode(permit))) {
				return refuse(r, next)
			}
			return next(r)
		})
		calls := 0
		for ; calls < 20; calls++ {
			if _, err := b.fetch("", s.URL); code(err) == core.ServiceFailed {
				break
			} else if code(err) != core.Timeout {
				t.Fatal(err)
			}
		}
		if made := len(operations(w, operation.KindAllowance)); made < 5 || made > 10 {
			t.Errorf("%d allowances in %d calls", made, calls)
		}
		node.Set()
		if _, err := b.fetch("", s.URL); code(err) != core.ServiceFailed {
			t.Errorf("in the same hour: %v", err)
		}
		w.Clock.Ahead(61 * time.Minute)
		if r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{URL: s.URL}); err != nil || r.Status != http.StatusOK {
			t.Errorf("later: %+v %v", r, err)
		}
		w.Settle()
		b.spent(t, cent, 0)
	})
}

// A server that does not pay through Permit2 hands the challenge on.
func TestPermit2Off(t *testing.T) {
	w := coretest.New(t)
	deps := w.Deps
	deps.Permit2Reserve = 0
	var err error
	w.Core, err = core.New(w.Ctx, deps)
	must(w, err)
	b := newBuyer(t, w)
	r, err := b.fetch("", w.Permit2Seller(cent).URL)
	if err != nil || r.Status != http.StatusPaymentRequired || r.Paid || r.Unpayable == "" {
		t.Errorf("%+v %v", r, err)
	}
	b.spent(t, 0, 0)
}

// Whatever the program dies of, what was promised is free again unless it was settled.
func TestPermit2SurvivesACrash(t *testing.T) {
	for step, charged := range map[string]money.USDC{
		core.StepHeld: 0, core.StepQueued: 0, core.StepStored: 0, core.StepSigned: 0, core.StepPaid: cent / 2, core.StepBooked: cent / 2,
	} {
		t.Run(step, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) {
				b := newBuyer(t, w)
				s := w.Permit2Seller(cent)
				s.UpTo, s.Charge = true, cent/2
				w.Head()
				dies(t, w, step, func(c *core.Core) {
					_, _ = c.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: b.session.ID.String(), URL: s.URL})
				})
				lapse(w) // the dead process's lease
				b.done()
				b.earned(t, s, charged)
				b.spent(t, 0, charged)
			})
		})
	}
}

// A reorganisation takes a settlement back; it comes again as it was, or for another amount, or never.
func TestReorgOfPermit2(t *testing.T) {
	at := func(blocks int) func(*testing.T, func(*testing.T, *coretest.World, int)) {
		return func(t *testing.T, f func(*testing.T, *coretest.World, int)) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) { f(t, w, blocks) })
		}
	}
	for name, c := range map[string]struct {
		then   money.USDC // what is settled afterwards; -1: the same transactions are mined again
		worlds func(*testing.T, func(*testing.T, *coretest.World, int))
	}{"the same": {-1, at(depth + 1)}, "less": {1, eachDepth}, "more": {cent, at(depth + 1)}, "nothing": {0, at(depth)}} {
		then := c.then
		t.Run(name, func(t *testing.T) {
			c.worlds(t, func(t *testing.T, w *coretest.World, blocks int) {
				b := buyer{w: w}
				b.p, _ = w.User("dev@example.com")
				b.agent = w.Agent(b.p, "bot", 2*deposit)
				b.session = w.Session(b.p, b.agent, deposit)
				s := w.Permit2Seller(cent)
				s.UpTo, s.Charge, s.Window = true, cent/4, 5*time.Minute
				for _, session := range b.ways() { // and once before, for the allowances
					if r, err := b.fetch(session, s.URL); err != nil || r.Status != http.StatusOK {
						t.Fatalf("%+v %v", r, err)
					}
				}
				w.Mine(4 * depth)
				first := w.Height()
				for _, session := range b.ways() {
					if r, err := b.fetch(session, s.URL); err != nil || r.Status != http.StatusOK {
						t.Fatalf("%+v %v", r, err)
					}
				}
				w.Mine(blocks - 1)
				must(w, w.Core.Funding.ReadChain(w.Ctx))
				charged := cent / 4
				if then < 0 {
					w.Reorg(blocks + 1)
				} else {
					w.Replace(first, s.Key)
					charged = then
				}
				for call := 2; then > 0 && call < 4; call++ {
					must(w, s.Settle(w.Ctx, call, then))
				}
				w.Settle()
				w.Pass(6 * time.Minute)
				w.Settle()
				w.Jobs()
				b.earned(t, s, cent/2+2*charged)
				b.spent(t, cent/4+charged, cent/4+charged)
			})
		})
	}
}

// A session's payment whose price is a maximum is given up, is settled after all, is un-mined and given up again, and settled once
// more: each time its limits follow.
func TestPermit2ThatWasGivenUpIsSettled(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		l := late{b: newBuyerAtDepth(w), node: w.Net.Proxy()}
		w.Core = through(t, w, l.node)
		s := w.Permit2Seller(cent)
		s.UpTo, s.Charge, s.Window = true, cent/4, 9*time.Minute
		session := l.b.session.ID.String()
		if r, err := l.b.fetch(session, s.URL); err != nil || r.Status != http.StatusOK { // for the allowance
			t.Fatalf("%+v %v", r, err)
		}
		w.Settle()
		s.Charge = 0
		r, err := l.b.fetch(session, s.URL)
		if err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
		l.proof.Authorization.ValidBefore = r.Payment.ValidBeforeUnix
		back := w.Height()
		for _, usurper := range []*ecdsa.PrivateKey{s.Key, nil} {
			l.giveUp()
			l.b.spent(t, 0, cent/4)
			must(w, s.Settle(w.Ctx, 1, cent/2))
			w.Settle()
			l.b.spent(t, 0, cent/4+cent/2)
			if usurper != nil {
				w.Replace(back, usurper)
			}
		}
		for _, u := range usagesOf(t, w) {
			if u.Calls != 2 || u.Spent != cent/4+cent/2 {
				t.Errorf("the counter %s is %s of %d calls", u.ID, u.Spent, u.Calls)
			}
		}
	})
}

// A settlement for less than the maximum has freed the rest, which may be spent or have gone back when a reorganisation takes the
// settlement back. Suspense stands in for what it may be settled for then, and the session has what it was charged.
func TestReorgOfPermit2WhenTheRestIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		goes       string
		again      money.USDC
		left, owed money.USDC // of the session, and by suspense
	}{
		"spent, settled for more":     {"spent", 3 * cent, cent, 3 * cent},
		"spent, not settled":          {"spent", 0, cent, 0},
		"spent in the same way":       {"spent in the same way", 0, deposit - cent, 0},
		"gone back, settled for more": {"gone back", 3 * cent, 0, 3 * cent},
		"gone back, not settled":      {"gone back", 0, 0, 0},
		"all of it, not settled":      {"all of it", 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				b := newBuyerAtDepth(w)
				w.Net.Fund(w.Platform, money.One) // the operator's own, that a settlement after the refund is made with
				s, other := w.Permit2Seller(cent), w.Seller(deposit-2*cent)
				s.UpTo, s.Window = true, 5*time.Minute
				var first uint64
				pays := func(url string) {
					if r, err := b.fetch(b.session.ID.String(), url); err != nil || r.Status != http.StatusOK {
						t.Fatalf("%+v %v", r, err)
					}
				}
				for range 2 { // the first has the allowance made
					w.Mine(4 * depth)
					must(w, w.Core.Funding.ReadChain(w.Ctx))
					first = w.Height()
					pays(s.URL)
					if s.Price = deposit - cent; c.goes == "all of it" {
						s.Charge = s.Price
					}
				}
				w.Mine(depth)
				must(w, w.Core.Funding.ReadChain(w.Ctx))
				switch c.goes {
				case "all of it": // closed at once
					_, err := w.Core.Sessions.Close(w.Ctx, b.p, b.session.ID, nil)
					must(w, err)
				case "gone back":
					w.Close(b.p, b.session.ID)
				case "spent":
					pays(other.Link(2, paytest.Serve, 0))
				default:
					s.Price = deposit - 2*cent
					pays(s.URL)
				}
				w.Mine(depth)
				must(w, w.Core.Funding.ReadChain(w.Ctx))
				w.Replace(first, s.Key)
				must(w, w.Core.Funding.ReadChain(w.Ctx))
				if c.again > 0 {
					must(w, s.Settle(w.Ctx, 1, c.again))
				}
				for range 2 {
					w.Settle()
					w.Pass(6 * time.Minute)
					w.Jobs()
				}
				w.Settle()
				b.earned(t, s, cent+c.again)
				v, err := w.Core.Sessions.Get(w.Ctx, b.p, b.session.ID)
				must(w, err)
				audit, err := w.Core.Books.Audit(w.Ctx)
				must(w, err)
				if v.Remaining != c.left || audit.Platform.Suspense != -c.owed || audit.Platform.Clearing != 0 {
					t.Errorf("the session has %s, %+v", v.Remaining, audit.Platform)
				}
				if rows := proofsOf(t, w, "usages"); rows != 0 {
					t.Errorf("the document's statement of counters finds %d", rows)
				}
				if has := w.Net.Balance(common.HexToAddress(b.agent.Address)); c.left == 0 && (has != 2*deposit-cent || v.Status != session.StatusClosed) {
					t.Errorf("the session is %s, and the wallet has %s", v.Status, has)
				}
				w.Balanced()
			})
		})
	}
}

// A payment that was given up is settled after all, and the session pays, which has not the whole maximum any more. On another
// branch it is settled for more: suspense stands in for the maximum then.
func TestPermit2ThatWasGivenUpIsSettledTwice(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		b := newBuyerAtDepth(w)
		node := w.Net.Proxy()
		w.Core = through(t, w, node)
		s, other := w.Permit2Seller(9*cent), w.Seller(deposit-5*cent)
		s.UpTo, s.Charge, s.Window = true, 0, 9*time.Minute
		w.Settle()
		r, err := b.fetch(b.session.ID.String(), s.URL)
		if err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
		w.Settle()
		node.Set(chaintest.AddField("eth_getBlockByNumber", "timestamp", strconv.Quote(hexutil.EncodeUint64(uint64(r.Payment.ValidBeforeUnix)))))
		w.Mine(depth + 1)
		must(w, w.Core.Funding.ReadChain(w.Ctx))
		must(w, w.Core.Payments.ResolveHolds(w.Ctx))
		b.spent(t, 0, 0)
		node.Set()
		if r, err := b.fetch(b.session.ID.String(), other.Link(2, paytest.Serve, 0)); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
		w.Settle()
		before := w.Height()
		must(w, s.Settle(w.Ctx, 0, 2*cent))
		w.Settle()
		b.earned(t, s, 2*cent)
		b.spent(t, 0, deposit-3*cent)
		w.Replace(before, s.Key)
		w.Settle()
		must(w, s.Settle(w.Ctx, 0, 5*cent))
		w.Settle()
		b.earned(t, s, 5*cent)
		b.spent(t, 0, deposit-5*cent)
	})
}
