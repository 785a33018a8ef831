package core_test

import (
	"cmp"
	"fmt"
	"net/http"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/pricing"
	"bursar/money"
	"bursar/pay/paytest"
)

// A price that may be asked is up to twice the usual one.
func noJumps(w *coretest.World, p core.Principal, agent *core.AgentView) {
	w.T.Helper()
	percent := int64(200)
	setPolicy(w, p, agent.ID, core.PolicyInput{PriceJump: reaction(core.RefuseIt), PriceJumpPercent: &percent})
}

// asked is a call at a price, and whether it is paid; else it must be a jump.
type asked struct {
	price money.USDC
	paid  bool
}

func (b buyer) asks(t *testing.T, session string, url func(money.USDC) string, calls ...asked) {
	t.Helper()
	for i, c := range calls {
		r, err := b.fetch(session, url(c.price))
		switch {
		case c.paid && (err != nil || !r.Paid || r.Cost != c.price):
			t.Fatalf("session %q: call %d at %s: %+v %v", session, i, c.price, r, err)
		case !c.paid && code(err) != core.SpendingLimit:
			t.Fatalf("session %q: call %d at %s was no jump: %+v %v", session, i, c.price, r, err)
		}
		b.w.Settle()
	}
}

// A seller that raises its price with each call, and settles none of them, is found out by the second raise, however it
// answers; one that is paid what it asks may rise.
func TestPriceThatIsNeverCharged(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		noJumps(w, b.p, b.agent)
		for _, how := range []paytest.Behaviour{paytest.LieReceipt, paytest.AskAgain, paytest.Hang} {
			for _, session := range b.ways() {
				s := w.Seller(cent)
				url := func(price money.USDC) string { return s.Link(2, how, price) }
				if how == paytest.LieReceipt {
					b.asks(t, session, url, asked{10_000, true}, asked{19_000, true}, asked{36_100, false}, asked{20_000, true}, asked{20_001, false})
					continue
				}
				for _, price := range []money.USDC{10_000, 19_000, 36_100} {
					_, _ = w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: session, URL: url(price), Timeout: time.Second})
				}
				if n := len(s.Seen()); n != 2 {
					t.Errorf("%s, session %q: %d proofs left", how, session, n)
				}
			}
		}
		for _, session := range b.ways() {
			s := w.Seller(cent)
			url := func(price money.USDC) string { return s.Link(2, paytest.Serve, price) }
			b.asks(t, session, url, asked{10_000, true}, asked{19_000, true}, asked{36_100, true}, asked{72_201, false}, asked{1_000, true}, asked{2_001, false})
		}
		w.Balanced()
	})
}

func usualPrice(t *testing.T, w *coretest.World) (n int64) {
	t.Helper()
	if err := raw(t, w).QueryRow("SELECT usual FROM prices").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A replay tells of the same jumps.
func TestReplayOfPricesNeverCharged(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		for _, c := range []struct {
			how     paytest.Behaviour
			refused int
		}{{paytest.LieReceipt, 1}, {paytest.Serve, 0}} {
			for i := range 2 {
				p, _ := w.User(fmt.Sprintf("%s%d@example.com", c.how, i))
				b := buyer{w: w, p: p, agent: w.Agent(p, "bot", 2*money.One)}
				session := ""
				if i > 0 {
					v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: b.agent.ID, Deposit: money.One, Duration: time.Hour})
					must(w, err)
					session = v.ID.String()
				}
				s := w.Seller(cent)
				url := func(price money.USDC) string { return s.Link(2, c.how, price) }
				b.asks(t, session, url, asked{10_000, true}, asked{19_000, true}, asked{36_100, true})
				percent := int64(200)
				r, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{
					AgentID: b.agent.ID, Days: 1, Draft: core.PolicyInput{PriceJump: reaction(core.RefuseIt), PriceJumpPercent: &percent},
				})
				if err != nil || r.Calls != 3 || r.Refused != c.refused {
					t.Errorf("%s, session %q: %+v %v", c.how, session, r, err)
				}
			}
		}
	})
}

// A payment that had been given up, and is on the chain after all, teaches its price then.
func TestPriceIsChargedLate(t *testing.T) {
	for name, session := range map[string]bool{"from a wallet": false, "from a session": true} {
		t.Run(name, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				l := newLate(t, w, session, false, false)
				exec(t, raw(t, w), "UPDATE prices SET usual = 1")
				l.use()
				if n := usualPrice(t, w); n != int64(cent) {
					t.Errorf("the usual price is %d", n)
				}
			})
		})
	}
}

// In a row of a version that knew no usual price, what was promised last is the usual one from now on.
func TestPriceOfAnOldRow(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		b := buyer{w: w, p: p, agent: w.Agent(p, "bot", money.One)}
		noJumps(w, p, b.agent)
		s := w.Seller(cent)
		url := func(price money.USDC) string { return s.Link(2, paytest.LieReceipt, price) }
		b.asks(t, "", url, asked{10_000, true}, asked{19_000, true})
		exec(t, raw(t, w), "UPDATE prices SET usual = NULL")
		b.asks(t, "", url, asked{38_001, false}, asked{38_000, true}, asked{38_001, false})
		if n := usualPrice(t, w); n != 19_000 {
			t.Errorf("the usual price is %d", n)
		}
		w.Balanced()
	})
}

// A maximum is compared with a maximum, and rises by what was charged under it: a seller that charges little for much that it
// was promised does not so earn a higher promise.
func TestPriceOfAMaximum(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		noJumps(w, b.p, b.agent)
		for _, session := range b.ways() {
			s := w.Permit2Seller(cent)
			s.UpTo = true
			charges := func(part money.USDC) func(money.USDC) string {
				return func(price money.USDC) string {
					s.Price, s.Charge = price, min(part, price)
					return s.URL
				}
			}
			b.asks(t, session, charges(1), asked{10_000, true}, asked{19_000, true}, asked{36_100, false}, asked{19_000, true})
			b.asks(t, session, charges(money.Max), asked{19_000, true})
			b.asks(t, session, charges(1), asked{36_100, true}, asked{38_001, false}, asked{9_000, true}, asked{18_001, false})
		}
		w.Balanced()
	})
}

// What is sent ahead is charged by the chain, whatever the service answers.
func TestPriceOfATransfer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		noJumps(w, b.p, b.agent)
		setPolicy(w, b.p, b.agent.ID, core.PolicyInput{AllowedServices: &[]string{"127.0.0.1"}})
		base := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if hash := r.Header.Get("X-Payment-Tx"); hash == "" {
				rw.WriteHeader(http.StatusPaymentRequired)
				_, _ = fmt.Fprintf(rw, `{"error":"payment_required","amount":%q,"currency":"USD","recipient":%q}`, r.URL.Query().Get("usd"), address("0x5e11e2").Hex())
			}
		}))
		for i, session := range b.ways() {
			url := func(price money.USDC) string { return fmt.Sprintf("%s/%d?usd=%s", base, i, price.Decimal()) }
			b.asks(t, session, url, asked{10_000, true}, asked{19_000, true}, asked{36_100, true}, asked{72_201, false})
		}
		w.Balanced()
	})
}

// A metered call's price is charged by its answer.
func TestPriceOfAMeteredCall(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w)
		b := buyer{w: w, p: m.p, agent: m.agent, session: m.session}
		noJumps(w, m.p, m.agent)
		base := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("fails") {
				rw.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = fmt.Fprintf(rw, `{"units":%s}`, cmp.Or(r.URL.Query().Get("units"), "0"))
		}))
		install := func(price pricing.Price) {
			t.Helper()
			must(w, w.Core.Services.Install(w.Ctx, []core.ServiceInput{{Slug: "api", Name: "API", BaseURL: base, Price: price}}))
		}
		for i, session := range b.ways() {
			call := func(query string) error {
				_, err := w.Core.Payments.Fetch(w.Ctx, m.p, core.FetchInput{SessionID: session, Service: "api", URL: fmt.Sprintf("%d?%s", i, query)})
				return err
			}
			for _, c := range []struct {
				price money.USDC
				query string
				jump  bool
			}{{10_000, "", false}, {19_000, "fails", false}, {36_100, "", true}, {19_000, "", false}, {36_100, "", false}, {72_201, "", true}} {
				install(pricing.Price{PerCall: c.price})
				if err := call(c.query); (code(err) == core.SpendingLimit) != c.jump || (err != nil && !c.jump) {
					t.Errorf("session %q: at %s, %q: %v", session, c.price, c.query, err)
				}
			}
			for _, c := range []struct {
				most  money.USDC
				units int
				jump  bool
			}{{40_000, 1, false}, {72_201, 1, true}, {60_000, 60_000, false}, {119_000, 1, false}, {121_000, 1, true}} {
				install(pricing.Price{By: pricing.AnswerField, Field: "units", Unit: 1, Per: 1, Maximum: c.most})
				if err := call(fmt.Sprint("units=", c.units)); (code(err) == core.SpendingLimit) != c.jump || (err != nil && !c.jump) {
					t.Errorf("session %q: at most %s, %d units: %v", session, c.most, c.units, err)
				}
			}
		}
		w.Settle()
		w.Balanced()
	})
}
