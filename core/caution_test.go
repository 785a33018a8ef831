package core_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/trace"
	"bursar/money"
	"bursar/pay/paytest"
)

// shop is one host with two payees: a request with the header X-Face is asked for money for the second.
type shop struct {
	base     string
	one, two *coretest.Seller
	meet     *sync.WaitGroup // calls that are answered together; nil: each at once
}

func newShop(w *coretest.World, price money.USDC) *shop {
	s := &shop{one: w.Seller(price), two: w.Seller(price)}
	s.base = strings.Replace(w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if s.meet != nil && r.Header.Get("X-Payment") == "" {
			s.meet.Done()
			s.meet.Wait()
		}
		if r.Header.Get("X-Face") != "" {
			s.two.ServeHTTP(rw, r)
			return
		}
		s.one.ServeHTTP(rw, r)
	})), "127.0.0.1", "localhost", 1)
	return s
}

// call asks for a price (zero: the shop's own), from the first face or the second.
func (s *shop) call(price money.USDC, second bool) core.FetchInput {
	in := core.FetchInput{Agent: "bot", URL: s.base + "/v1/serve", Header: http.Header{}}
	if price > 0 {
		in.URL += "?price=" + price.String()
	}
	if second {
		in.Header.Set("X-Face", "2")
	}
	return in
}

// paid is how many proofs have left.
func (s *shop) paid() int { return len(s.one.Seen()) + len(s.two.Seen()) }

func reaction(r core.Reaction) *core.Reaction { return &r }

func setPolicy(w *coretest.World, p core.Principal, agent uuid.UUID, in core.PolicyInput) {
	w.T.Helper()
	if _, err := w.Core.Policies.Update(w.Ctx, p, agent, in); err != nil {
		w.T.Fatal(err)
	}
}

// fetch makes a call that must be paid.
func fetch(w *coretest.World, p core.Principal, in core.FetchInput) *core.FetchResult {
	w.T.Helper()
	r, err := w.Core.Payments.Fetch(w.Ctx, p, in)
	if err != nil || !r.Paid {
		w.T.Fatalf("%+v %v", r, err)
	}
	return r
}

// asks makes a call that must wait for a person, and returns the request's id.
func asks(w *coretest.World, p core.Principal, in core.FetchInput) uuid.UUID {
	w.T.Helper()
	_, err := w.Core.Payments.Fetch(w.Ctx, p, in)
	e := core.AsError(err)
	if err == nil || e.Code != core.ApprovalRequired || e.Approval == nil {
		w.T.Fatalf("no approval is asked for: %v", err)
	}
	return e.Approval.ID
}

// cautious is a rule, how a call comes under it, and how one does not.
var cautious = []struct {
	rule    string
	set     func(core.Reaction) core.PolicyInput
	before  bool // something is paid before
	meets   func(*shop) core.FetchInput
	code    core.Code
	figures bool
}{
	{
		"new_payee", func(r core.Reaction) core.PolicyInput { return core.PolicyInput{NewPayee: &r} }, false,
		func(s *shop) core.FetchInput { return s.call(0, false) }, core.Forbidden, false,
	},
	{
		"changed_payee", func(r core.Reaction) core.PolicyInput { return core.PolicyInput{ChangedPayee: &r} }, true,
		func(s *shop) core.FetchInput { return s.call(0, true) }, core.Forbidden, false,
	},
	{
		"price_jump", func(r core.Reaction) core.PolicyInput { return core.PolicyInput{PriceJump: &r} }, true,
		func(s *shop) core.FetchInput { return s.call(16_000, false) }, core.SpendingLimit, true,
	},
}

// TestCaution: each rule about payees and prices with each reaction.
func TestCaution(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		for _, c := range cautious {
			for _, does := range []core.Reaction{core.NoteIt, core.RefuseIt, core.ApproveIt} {
				s := newShop(w, cent)
				if c.before {
					fetch(w, p, s.call(0, false))
				}
				setPolicy(w, p, a.ID, c.set(does))
				before := s.paid()
				switch does {
				case core.NoteIt:
					v, err := w.Core.Traces.Get(w.Ctx, p, fetch(w, p, c.meets(s)).Payment.ID)
					if err != nil || len(v.Notes) == 0 || rule(v.TraceDetail, c.rule) != nil {
						t.Errorf("%s noted: %+v %v", c.rule, v, err)
					}
				case core.RefuseIt:
					for range 2 { // what was refused is not known the next time
						_, err := w.Core.Payments.Fetch(w.Ctx, p, c.meets(s))
						e := core.AsError(err)
						if e.Code != c.code || (e.Limit != nil) != c.figures {
							t.Fatalf("%s refused: %v", c.rule, err)
						}
						v := keptTrace(t, w, p, e)
						if r := rule(v.TraceDetail, c.rule); r == nil || r.OK || (r.Max > 0) != c.figures {
							t.Errorf("%s refused: compared %+v", c.rule, r)
						}
					}
					if s.paid() != before {
						t.Errorf("%s refused, and paid", c.rule)
					}
				case core.ApproveIt:
					id := asks(w, p, c.meets(s))
					if s.paid() != before {
						t.Fatalf("%s: paid before a person said yes", c.rule)
					}
					if _, err := w.Core.Approvals.Approve(w.Ctx, p, id); err != nil {
						t.Fatal(err)
					}
					r := fetch(w, p, c.meets(s))
					v, err := w.Core.Traces.Get(w.Ctx, p, r.Payment.ID)
					if err != nil || v.ApprovalID == nil || *v.ApprovalID != id || !rule(v.TraceDetail, c.rule).OK {
						t.Errorf("%s approved: %+v %v", c.rule, v, err)
					}
					if fetch(w, p, c.meets(s)); s.paid() != before+2 { // it is as before now
						t.Errorf("%s: %d paid", c.rule, s.paid()-before)
					}
				}
				setPolicy(w, p, a.ID, c.set(core.NoteIt))
			}
		}
		w.Balanced()
	})
}

// TestPriceBelowTheJump: what the percentage allows is paid, over and over, when it is charged; a fall is remembered.
func TestPriceBelowTheJump(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		percent := int64(120)
		setPolicy(w, p, a.ID, core.PolicyInput{PriceJump: reaction(core.RefuseIt), PriceJumpPercent: &percent})
		s := newShop(w, cent)
		for _, price := range []money.USDC{10_000, 12_000, 14_400, 9_000} {
			w.Head()
			fetch(w, p, s.call(price, false))
			w.Settle()
		}
		w.Head()
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(10_801, false)); code(err) != core.SpendingLimit {
			t.Errorf("above: %v", err)
		}
		fetch(w, p, s.call(10_800, false))
		for _, bad := range []int64{99, 1001, -1} {
			if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{PriceJumpPercent: &bad}); code(err) != core.InvalidRequest {
				t.Errorf("%d percent: %v", bad, err)
			}
		}
		if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{NewPayee: reaction("maybe")}); code(err) != core.InvalidRequest {
			t.Errorf("maybe: %v", err)
		}
		w.Balanced()
	})
}

// TestCautionKnowsEverySpelling: a rule is not passed by another spelling of the host, nor by asking for a signature.
func TestCautionKnowsEverySpelling(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := newShop(w, cent)
	fetch(w, p, s.call(0, false))
	setPolicy(w, p, a.ID, core.PolicyInput{ChangedPayee: reaction(core.RefuseIt), PriceJump: reaction(core.RefuseIt)})
	for _, host := range []string{"localhost", "LOCALHOST", "LocalHost.", "localhost.."} {
		changed, dear := s.call(0, true), s.call(cent*2, false)
		for _, in := range []*core.FetchInput{&changed, &dear} {
			in.URL = strings.Replace(in.URL, "localhost", host, 1)
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, *in); code(err) != core.Forbidden && code(err) != core.SpendingLimit {
				t.Errorf("%s: %v", in.URL, err)
			}
		}
		sign := core.SignInput{Agent: "bot", URL: changed.URL, Challenge: challenge(t, s.two.Link(1, paytest.Serve, 0))}
		// The challenge names the host that made it; it is this one's for the test.
		sign.Challenge = []byte(strings.ReplaceAll(string(sign.Challenge), strings.TrimPrefix(s.two.URL, "http://"), strings.TrimPrefix(s.base, "http://")))
		if _, err := w.Core.Payments.Sign(w.Ctx, p, sign); code(err) != core.Forbidden {
			t.Errorf("signed for %s: %v", host, err)
		}
	}
	if s.paid() != 1 {
		t.Errorf("%d paid", s.paid())
	}
}

// named answers for api.example.com, at whatever port, by another address.
type named struct {
	next http.RoundTripper
	to   string
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host, r.URL.Scheme, r.URL.Host = r.URL.Host, "http", n.to
	return n.next.RoundTrip(r)
}

// TestCautionKnowsEveryPort: a host is who it is at all of its ports.
func TestCautionKnowsEveryPort(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := newShop(w, cent)
	deps := w.Deps
	deps.Upstream = &http.Client{Transport: named{w.Deps.Upstream.Transport, strings.TrimPrefix(s.base, "http://")}}
	var err error
	if w.Core, err = core.New(w.Ctx, deps); err != nil {
		t.Fatal(err)
	}
	s.base = "https://api.example.com"
	fetch(w, p, s.call(0, false))
	setPolicy(w, p, a.ID, core.PolicyInput{ChangedPayee: reaction(core.RefuseIt), PriceJump: reaction(core.RefuseIt)})
	for _, base := range []string{"https://api.example.com:443", "https://api.example.com:8443", "http://api.example.com", "https://API.example.com.:8443"} {
		s.base = base
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(0, true)); code(err) != core.Forbidden {
			t.Errorf("another payee at %s: %v", base, err)
		}
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(2*cent, false)); code(err) != core.SpendingLimit {
			t.Errorf("another price at %s: %v", base, err)
		}
		fetch(w, p, s.call(0, false))
	}
	r, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Days: 1, Draft: core.PolicyInput{
		NewPayee: reaction(core.ApproveIt), ChangedPayee: reaction(core.NoteIt), PriceJump: reaction(core.NoteIt),
	}})
	if err != nil || r.Held != 2 { // the first payee and the second, each once
		t.Errorf("%+v %v", r, err)
	}
	w.Balanced()
}

// TestASignatureTeachesNothing: whom a caller says that a host wants paid is not thereby known to everybody.
func TestASignatureTeachesNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		db := raw(t, w)
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		s := w.Seller(cent)
		link := s.Link(1, paytest.Serve, 0)
		in := core.SignInput{Agent: "bot", URL: link, Challenge: challenge(t, link)}
		if _, err := w.Core.Payments.Sign(w.Ctx, p, in); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db, "prices") + count(t, db, "payees"); n != 0 {
			t.Errorf("%d rows", n)
		}
		setPolicy(w, p, a.ID, core.PolicyInput{NewPayee: reaction(core.ApproveIt)})
		_, err := w.Core.Payments.Sign(w.Ctx, p, in)
		e := core.AsError(err)
		if e.Code != core.ApprovalRequired {
			t.Fatal(err)
		}
		approve(w, p, e.Approval.ID)
		for range 2 { // the second knows whom a person has vouched for
			if _, err := w.Core.Payments.Sign(w.Ctx, p, in); err != nil {
				t.Fatal(err)
			}
		}
		if prices, payees := count(t, db, "prices"), count(t, db, "payees"); prices != 0 || payees != 1 {
			t.Errorf("%d prices, %d payees", prices, payees)
		}
		w.Balanced()
	})
}

// TestCautionTakesAnotherOffer: of two offers the dearer one is paid when the policy lets only that pass.
func TestCautionTakesAnotherOffer(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := newShop(w, cent)
	fetch(w, p, s.call(0, false))
	setPolicy(w, p, a.ID, core.PolicyInput{NewPayee: reaction(core.RefuseIt)})
	one, two := string(challenge(t, s.one.Link(1, paytest.Serve, 2*cent))), string(challenge(t, s.two.Link(1, paytest.Serve, 0)))
	inner := func(text string) string { return text[strings.Index(text, "[")+1 : strings.LastIndex(text, "]")] }
	both := `{"accepts":[` + inner(two) + "," + inner(one) + "]}"
	for _, seller := range []*coretest.Seller{s.one, s.two} {
		both = strings.ReplaceAll(both, strings.TrimPrefix(seller.URL, "http://"), strings.TrimPrefix(s.base, "http://"))
	}
	signed, err := w.Core.Payments.Sign(w.Ctx, p, core.SignInput{Agent: "bot", URL: s.base + "/v1/serve", Challenge: []byte(both)})
	if err != nil || signed.Payment.Quoted != 2*cent || signed.Payment.ToAddress != s.one.PayTo.Hex() {
		t.Fatalf("%+v %v", signed, err)
	}
	v, err := w.Core.Traces.Get(w.Ctx, p, signed.Payment.ID)
	if err != nil || v.Outcome != trace.OutcomeAllowed || *v.Chosen != 1 || v.Amount != 2*cent {
		t.Errorf("%+v %v", v, err)
	}
}

// TestCautionRaces: of calls that are judged by the same payees one after the other has to see whom the first has paid,
// in whatever process.
func TestCautionRaces(t *testing.T) {
	const rounds, calls = 6, 6
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		setPolicy(w, p, a.ID, core.PolicyInput{ChangedPayee: reaction(core.RefuseIt)})
		cores := []*core.Core{w.Core, another(w, "", nil)}
		for range rounds {
			s := newShop(w, cent)
			errs := make([]error, calls)
			s.meet = &sync.WaitGroup{}
			s.meet.Add(calls)
			var wait sync.WaitGroup
			for i := range calls {
				wait.Go(func() { _, errs[i] = cores[i%2].Payments.Fetch(w.Ctx, p, s.call(0, i%4 > 1)) })
			}
			wait.Wait()
			paid := []int{len(s.one.Seen()), len(s.two.Seen())}
			slices.Sort(paid)
			if paid[0] != 0 || paid[1] == 0 {
				t.Errorf("the two payees of one host were paid %v times", paid)
			}
			for _, err := range errs {
				if err != nil && code(err) != core.Forbidden && code(err) != core.Conflict {
					t.Error(err)
				}
			}
		}
		w.Settle()
		w.Balanced()
	})
}

// TestPriceJumpRaces: a price that has fallen since a call began is what the call is compared with.
func TestPriceJumpRaces(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		s := w.Seller(cent)
		asked, fallen := make(chan struct{}), make(chan struct{})
		link := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("price") == "14000" && r.Header.Get("X-Payment") == "" {
				close(asked)
				<-fallen
			}
			s.ServeHTTP(rw, r)
		})) + "/v1/serve"
		setPolicy(w, p, a.ID, core.PolicyInput{PriceJump: reaction(core.RefuseIt)})
		fetch(w, p, core.FetchInput{Agent: "bot", URL: link})
		late := make(chan error)
		go func() {
			_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: link + "?price=14000"})
			late <- err
		}()
		<-asked
		fetch(w, p, core.FetchInput{Agent: "bot", URL: link + "?price=1000"})
		w.Settle()
		w.Head()
		close(fallen)
		if err := <-late; code(err) != core.SpendingLimit {
			t.Errorf("a price of 14 times the last one: %v", err)
		}
		w.Balanced()
	})
}
