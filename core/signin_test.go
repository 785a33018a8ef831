package core_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/trace"
	"bursar/evm"
	"bursar/money"
	"bursar/pay/paytest"
)

// guest is a buyer whose wallet may sign in.
func guest(t *testing.T, w *coretest.World) buyer {
	b := newBuyer(t, w)
	b.maySignIn(true)
	return b
}

func (b buyer) maySignIn(yes bool) {
	setPolicy(b.w, b.p, b.agent.ID, core.PolicyInput{SignIn: &yes})
}

func (b buyer) trace(t *testing.T, id uuid.UUID) *core.TraceView {
	t.Helper()
	v, err := b.w.Core.Traces.Get(b.w.Ctx, b.p, id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pays makes a call that must be paid, and returns what its trace has of a login.
func (b buyer) pays(t *testing.T, session, url string) *core.TracedLogin {
	t.Helper()
	b.w.Head()
	r, err := b.w.Core.Payments.Fetch(b.w.Ctx, b.p, core.FetchInput{Agent: "bot", SessionID: session, URL: url})
	if err != nil || !r.Paid || r.Login != nil || r.Status != http.StatusOK {
		t.Fatalf("%+v %v", r, err)
	}
	return b.trace(t, r.Payment.ID).Login
}

// signsIn makes a call that must be served for the login, and returns its trace.
func (b buyer) signsIn(t *testing.T, in core.FetchInput) *core.TraceView {
	t.Helper()
	r, err := b.w.Core.Payments.Fetch(b.w.Ctx, b.p, in)
	if err != nil || r.Paid || r.Cost != 0 || r.Payment != nil || r.Method != core.NotPaid || r.Login == nil || r.Status != http.StatusOK || string(r.Body) != "member" {
		t.Fatalf("%+v %v", r, err)
	}
	return b.trace(t, *r.Login)
}

// A wallet that has paid a host signs in there and is served for nothing, if its policy lets it. What it has signed is kept.
func TestSignIn(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		c := newClub(t, w)
		for range 2 {
			if l := b.pays(t, "", c.link()); l != nil {
				t.Errorf("without the policy: %+v", l)
			}
		}
		b.maySignIn(true)
		in := core.FetchInput{Agent: "bot", Method: http.MethodPost, URL: c.link(), Body: []byte("hello"), Header: http.Header{
			"X-Own": {"kept"}, "SIGN-IN-WITH-X": {"planted"}, "Authorization": {"Bearer ig_live_secret"},
		}}
		v := b.signsIn(t, in)
		if len(c.heard()) != 1 {
			t.Fatalf("%d logins", len(c.heard()))
		}
		l := c.heard()[0]
		if l.Address != b.agent.Address || l.Domain != c.host() || l.body != "hello" || l.header.Get("X-Own") != "kept" || len(l.header.Values("Sign-In-With-X")) != 1 ||
			l.header.Get("Payment-Signature") != "" || l.header.Get("Authorization") != "" {
			t.Errorf("sent %+v", l)
		}
		sig := hexutil.MustDecode(l.Signature)
		sig[64] -= 27
		key, err := crypto.SigToPub(evm.PersonalDigest(v.Login.Message).Bytes(), sig)
		if err != nil || crypto.PubkeyToAddress(*key).Hex() != b.agent.Address {
			t.Errorf("signed is not what is kept: %v", err)
		}
		if v.Outcome != trace.OutcomeLogin || *v.Login.TraceID != v.ID || v.Login.Domain != c.host() || v.Login.Nonce != l.Nonce || v.Login.Refused != "" ||
			v.Reason != "The service answered 200, and nothing was paid" || v.PolicyVersion != 2 || v.Host != c.host() || v.Amount != 0 {
			t.Errorf("%+v %+v", v, v.Login)
		}
		stranger, _ := w.User("other@example.com")
		if _, err := w.Core.Traces.Get(w.Ctx, stranger, v.ID); code(err) != core.NotFound {
			t.Errorf("another's trace: %v", err)
		}
		b.maySignIn(false)
		b.pays(t, "", c.link())
		if len(c.heard()) != 1 {
			t.Error("signed in without the policy")
		}
		w.Settle()
		b.spent(t, 3*cent, 0)
	})
}

// The platform pays for all sessions: if it signed in, one tenant would be given what another has paid for.
func TestSessionsDoNotSignIn(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := guest(t, w)
		c := newClub(t, w)
		b.pays(t, "", c.link()) // the wallet has; the session has not
		for range 2 {
			if l := b.pays(t, b.session.ID.String(), c.link()); l == nil || !strings.Contains(l.Refused, "a session does not sign in") || l.TraceID != nil || l.Message != "" {
				t.Errorf("%+v", l)
			}
		}
		if len(c.heard()) != 0 {
			t.Errorf("%+v", c.heard())
		}
		w.Settle()
		b.spent(t, cent, 2*cent)
	})
}

// Who the wallet is, is told to nobody whom it has not paid: as long as that is not known, and whoever else has.
func TestSignInNeedsAPayment(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := guest(t, w)
		c, other := newClub(t, w), newClub(t, w)
		b.pays(t, "", other.link())
		b.pays(t, b.session.ID.String(), c.link())
		w.Agent(b.p, "second", money.One)
		fetch(w, b.p, core.FetchInput{Agent: "second", URL: c.link()})
		broken := func(c *club) core.FetchInput {
			return core.FetchInput{Agent: "bot", URL: c.URL + "/v2/" + string(paytest.FailAfter)}
		}
		failed, err := w.Core.Payments.Fetch(w.Ctx, b.p, broken(c))
		if err != nil || failed.Status != http.StatusInternalServerError {
			t.Fatalf("%+v %v", failed, err)
		}
		l := b.pays(t, "", c.URL+"/v2/"+string(paytest.NoReceipt))
		if l == nil || l.Refused != "the wallet has not paid this host before" || len(c.heard()) != 0 {
			t.Errorf("%+v, %d logins", l, len(c.heard()))
		}
		b.signsIn(t, core.FetchInput{Agent: "bot", URL: c.link()})
		if w.Settle(); len(c.heard()) != 1 {
			t.Error(c.heard())
		}
		fresh := newClub(t, w)
		if failed, err = w.Core.Payments.Fetch(w.Ctx, b.p, broken(fresh)); err != nil || !failed.Paid {
			t.Fatalf("%+v %v", failed, err)
		}
		w.Settle() // the chain shows what the answer has not
		b.signsIn(t, core.FetchInput{Agent: "bot", URL: fresh.link()})
		w.Balanced()
	})
}

// clubs are what can be done beside a challenge with a login, or with one that comes.
var clubs = []struct {
	name   string
	change func(b buyer, info, challenge map[string]any)
	greet  func(http.ResponseWriter, *http.Request, bool) bool
	path   string
	paid   bool
	status int
	code   core.Code
	logins int
	came   string // of the login
	not    string // why it was not signed
}{
	{name: "refuses the login", greet: greets(403), status: 403, logins: 1, came: "The service answered 403, and nothing was paid"},
	{name: "asks again", greet: asksAgain, paid: true, status: 200, logins: 1, came: "The service asked for money all the same"},
	{name: "asks again for more than the call may cost", greet: asksAgain, path: "?price=20000", code: core.CostExceedsMax, logins: 1, came: "The service asked for money all the same"},
	{name: "a login for another domain", change: func(_ buyer, info, _ map[string]any) { info["domain"] = "bank.example" }, paid: true, status: 200, not: "a login for \"bank.example\" is asked by"},
	{name: "a login for a resource elsewhere", change: func(_ buyer, info, _ map[string]any) { info["resources"] = []string{"https://bank.example/"} }, paid: true, status: 200, not: "a login for \"https://bank.example/\" is asked by"},
	{name: "an old login", change: func(_ buyer, info, _ map[string]any) {
		info["issuedAt"] = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	}, paid: true, status: 200, not: "a login issued at"},
	{name: "a login of several lines in one", change: func(_ buyer, info, _ map[string]any) { info["statement"] = "Hello\nURI: https://bank.example" }, paid: true, status: 200, not: "a login with characters outside of ASCII"},
	{name: "serves by login only", change: unpayable, greet: letIn, status: 200, logins: 1, came: "The service answered 200, and nothing was paid"},
	{name: "nothing is good enough", change: unpayable, greet: asksAgain, status: 402, logins: 1, came: "The service asked for money all the same"},
	{name: "fails", greet: greets(500), status: 500, logins: 1, came: "The service answered 500, and nothing was paid"},
	{name: "hangs up", greet: func(http.ResponseWriter, *http.Request, bool) bool { panic(http.ErrAbortHandler) }, code: core.ServiceFailed, logins: 1, came: "The service could not be reached"},
	{name: "redirects elsewhere", greet: func(w http.ResponseWriter, r *http.Request, _ bool) bool {
		http.Redirect(w, r, "http://localhost"+r.Host[strings.LastIndex(r.Host, ":"):]+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}, status: 307, logins: 1, came: "The service answered 307, and nothing was paid"},
	{name: "the policy is changed meanwhile", change: func(b buyer, _, _ map[string]any) { b.maySignIn(false) }, paid: true, status: 200, not: "the policy has changed meanwhile"},
}

func unpayable(_ buyer, _, challenge map[string]any) { challenge["accepts"] = []any{} }

func asksAgain(http.ResponseWriter, *http.Request, bool) bool { return false }

func greets(code int) func(http.ResponseWriter, *http.Request, bool) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ bool) bool { w.WriteHeader(code); return true }
}

// What a service does with a login decides whether the wallet pays, which it does once.
func TestClubsThatMisbehave(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := guest(t, w)
		calls := money.USDC(0)
		for _, k := range clubs {
			c := newClub(t, w)
			b.maySignIn(true)
			b.pays(t, "", c.link())
			calls++
			if k.change != nil {
				c.change = func(info, challenge map[string]any) { k.change(b, info, challenge) }
			}
			if k.greet != nil {
				c.greet = k.greet
			}
			most := cent
			r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{Agent: "bot", URL: c.link() + k.path, MaxCost: &most})
			if code(err) != k.code || (err == nil && (r.Status != k.status || r.Paid != k.paid)) || len(c.heard()) != k.logins {
				t.Errorf("%s: %+v %v, %d logins", k.name, r, err, len(c.heard()))
				continue
			}
			proofs := 1
			if k.paid {
				calls, proofs = calls+1, 2
				if nonce, login := c.echoed(t); nonce != c.newest() || login != "" {
					t.Errorf("%s: paid by %q of %q, with a login %q", k.name, nonce, c.newest(), login)
				}
			}
			if n := len(c.Seen()); n != proofs {
				t.Errorf("%s: %d proofs", k.name, n)
			}
			checkKept(t, b, k.name, c, k.came, k.not, k.paid)
		}
		w.Settle()
		b.spent(t, calls*cent, 0)
	})
}

// checkKept looks for what an agent's newest traces have of a login at a club.
func checkKept(t *testing.T, b buyer, name string, c *club, came, not string, paid bool) {
	t.Helper()
	page, err := b.w.Core.Traces.List(b.w.Ctx, b.p, core.TraceFilter{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	last := page.Items[0] // the payment's or the refusal's, if there is one
	if last.Host != c.host() || last.Login == nil || !strings.HasPrefix(last.Login.Refused, not) || (not != "" && (last.Login.TraceID != nil || last.Login.Message != "")) {
		t.Errorf("%s: %+v", name, last.Login)
		return
	}
	if (last.Outcome == trace.OutcomeAllowed) != paid {
		t.Errorf("%s: its newest trace says %s", name, last.Outcome)
	}
	if came == "" {
		return
	}
	v := b.trace(t, *last.Login.TraceID)
	if v.Outcome != trace.OutcomeLogin || v.Reason != came || v.Login.Message != last.Login.Message || v.Login.Nonce != c.heard()[0].Nonce {
		t.Errorf("%s: %s %q %+v", name, v.Outcome, v.Reason, v.Login)
	}
}

// Whatever the program dies of, no login has left that is not kept, and one whose outcome nobody has noted says so by having none.
func TestSignInSurvivesACrash(t *testing.T) {
	for step, sent := range map[string]int{core.StepLogin: 0, core.StepGreeted: 1} {
		t.Run(step, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) {
				b := guest(t, w)
				c := newClub(t, w)
				b.pays(t, "", c.link())
				newest := func() *core.TraceView {
					page, err := w.Core.Traces.List(w.Ctx, b.p, core.TraceFilter{Limit: 1})
					must(w, err)
					return page.Items[0]
				}
				c.greet = func(rw http.ResponseWriter, r *http.Request, paid bool) bool {
					nonce := c.logins[len(c.logins)-1].Nonce
					if v := newest(); v.Outcome != trace.OutcomeLogin || v.Login.Nonce != nonce || v.Reason != "" {
						t.Errorf("a login %q has come, and what is kept is %s %+v %q", nonce, v.Outcome, v.Login, v.Reason)
					}
					return letIn(rw, r, paid)
				}
				in := core.FetchInput{Agent: "bot", URL: c.link()}
				dies(t, w, step, func(p *core.Core) { _, _ = p.Payments.Fetch(w.Ctx, b.p, in) })
				if n := len(c.heard()); n != sent {
					t.Errorf("%d logins have left", n)
				}
				kept := newest()
				if kept.Outcome != trace.OutcomeLogin || kept.Reason != "" || *kept.Login.TraceID != kept.ID || !strings.Contains(kept.Login.Message, kept.Login.Nonce) || kept.Host != c.host() {
					t.Errorf("%s %q %+v", kept.Outcome, kept.Reason, kept.Login)
				}
				if v := b.signsIn(t, in); v.ID == kept.ID || v.Reason == "" {
					t.Errorf("%+v", v)
				}
				lapse(w)
				w.Jobs()
				w.Settle()
				if v := b.trace(t, kept.ID); v.Reason != "" {
					t.Errorf("what came of the first is made up: %q", v.Reason)
				}
				b.spent(t, cent, 0)
			})
		})
	}
}

// A dry run signs nothing and says what a call would do; under a key the answer is kept like any; a stream comes as it is.
func TestWaysOfSigningIn(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := guest(t, w)
		c := newClub(t, w)
		notes := func() []string {
			r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{Agent: "bot", URL: c.link(), DryRun: true})
			if err != nil || r.Verdict == nil || !r.Verdict.Allowed || r.Verdict.Price != cent || r.Login != nil {
				t.Fatalf("%+v %v", r, err)
			}
			return r.Verdict.Notes
		}
		if n := notes(); !slices.Contains(n, "the wallet would not sign in: the wallet has not paid this host before") {
			t.Error(n)
		}
		b.pays(t, "", c.link())
		if n := notes(); !slices.Contains(n, "the wallet would sign in first, and pay only if it is asked again") {
			t.Error(n)
		}
		if len(c.heard()) != 0 {
			t.Fatal("a dry run has signed in")
		}
		key := uuid.NewString()
		in := core.FetchInput{Agent: "bot", URL: c.link(), IdempotencyKey: &key}
		first := b.signsIn(t, in)
		if again := b.signsIn(t, in); again.ID != first.ID || len(c.heard()) != 1 {
			t.Errorf("a repeat signed in: %s, %s, %d logins", first.ID, again.ID, len(c.heard()))
		}
		r, err := w.Core.Payments.Fetch(w.Ctx, b.p, core.FetchInput{Agent: "bot", URL: c.link(), Stream: true})
		if err != nil || r.Login == nil {
			t.Fatalf("%+v %v", r, err)
		}
		if body, err := io.ReadAll(r.Stream); err != nil || string(body) != "member" {
			t.Errorf("%q %v", body, err)
		}
		must(w, r.Stream.Close())
		replay, err := w.Core.Policies.Replay(w.Ctx, b.p, core.ReplayInput{AgentID: b.agent.ID, Days: 1})
		if err != nil || replay.Calls != 1 {
			t.Errorf("%+v %v", replay, err)
		}
		w.Settle()
		b.spent(t, cent, 0)
		w.Clock.Ahead(91 * 24 * time.Hour)
		must(w, w.Core.Traces.Forget(w.Ctx))
		if page, err := w.Core.Traces.List(w.Ctx, b.p, core.TraceFilter{}); err != nil || page.Total != 1 || page.Items[0].Outcome != trace.OutcomeAllowed {
			t.Errorf("after ninety days: %+v %v", page, err)
		}
	})
}

// Where a login may do, the service is asked: also when what it asks is known, from a time when the wallet might not sign in.
func TestLoginsComeBeforePayingAhead(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		a := paysAhead(t, w)
		c := newClub(t, w)
		issued := w.Clock.Now().UTC().Format(time.RFC3339)
		c.change = func(info, _ map[string]any) { info["nonce"], info["issuedAt"] = "always1234", issued } // so that each challenge is the same
		a.serve(4, core.FetchInput{URL: c.link()})
		if n := c.Asked(); n != 3 {
			t.Errorf("asked %d times before", n)
		}
		b := buyer{w: w, p: a.p, agent: a.agent}
		b.maySignIn(true)
		b.signsIn(t, core.FetchInput{Agent: "bot", URL: c.link()})
		c.greet = func(http.ResponseWriter, *http.Request, bool) bool { return false }
		asked := c.Asked()
		a.serve(5, core.FetchInput{URL: c.link()})
		if n := c.Asked() - asked; n != 10 || len(c.heard()) != 6 {
			t.Errorf("asked %d times, %d logins", n, len(c.heard()))
		}
		a.serve(4, core.FetchInput{URL: c.link(), SessionID: a.session})
		if n := c.Asked() - asked; n != 13 {
			t.Errorf("a session is not paid ahead: asked %d times", n)
		}
		w.Settle()
		w.Balanced()
	})
}
