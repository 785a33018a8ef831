package core_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// key is a caller's idempotency key.
func key(text string) *string { return &text }

// process is another process over the world's database.
func process(t *testing.T, w *coretest.World, change func(*core.Deps)) *core.Core {
	t.Helper()
	deps := w.Deps
	if change != nil {
		change(&deps)
	}
	c, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dies runs f in a process that ends at a step, like one that is killed there: what it has begun stays as it is.
func dies(t *testing.T, w *coretest.World, step string, f func(c *core.Core)) {
	t.Helper()
	c := process(t, w, func(d *core.Deps) {
		d.Step = func(name string) {
			if name == step {
				panic(step)
			}
		}
	})
	if got := recovered(func() { f(c) }); got != step {
		t.Fatalf("%s: it did not die there: %v", step, got)
	}
}

func recovered(f func()) any {
	died := make(chan any)
	go func() {
		defer func() { died <- recover() }()
		f()
	}()
	return <-died
}

// lapse lets the lease of a process that has died run out.
func lapse(w *coretest.World) { w.Pass(12 * time.Second) }

func proofs(s *coretest.Seller) int { return len(s.Seen()) }

// keyed are the requests that take a key, on an agent that has money, a session and an owner's address. Each leaves
// the next something to do.
func keyed(t *testing.T, w *coretest.World, p core.Principal, a *core.AgentView, s *coretest.Seller) []struct {
	name string
	call func(*core.Core, *string) (any, error)
} {
	t.Helper()
	if _, err := w.Core.Auth.SetWallet(w.Ctx, p, "0x00000000000000000000000000000000000b0b01"); err != nil {
		t.Fatal(err)
	}
	v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	hash := w.Net.Fund(address(a.Address), money.One)
	w.Settle()
	fetch := func(session, url string) func(*core.Core, *string) (any, error) {
		in := core.FetchInput{Agent: a.Name, SessionID: session, URL: url, Header: http.Header{"X-A": {"1", "2"}, "X-B": {"\xff"}}}
		return func(c *core.Core, k *string) (any, error) {
			in.IdempotencyKey = k
			r, err := c.Payments.Fetch(w.Ctx, p, in)
			if r != nil { // the agent's record itself is no part of the answer
				r.Agent = nil
			}
			return r, err
		}
	}
	odd := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header()["X-Odd"] = []string{"caf\xe9", ""}
		_, _ = io.WriteString(rw, "\xff\x00"+time.Now().String())
	}))
	return []struct {
		name string
		call func(*core.Core, *string) (any, error)
	}{
		{"fetch from the wallet", fetch("", s.Link(2, paytest.Serve, 0))},
		{"fetch from a session", fetch(v.ID.String(), s.Link(1, paytest.Serve, 0))},
		{"fetch, unknown", fetch("", s.Link(2, paytest.FailAfter, 0))},
		{"fetch, free", fetch("", odd)},
		{"fund", func(c *core.Core, k *string) (any, error) {
			return c.Funding.Fund(w.Ctx, p, a.ID, hash.Hex(), money.One, k)
		}},
		{"close", func(c *core.Core, k *string) (any, error) { return c.Sessions.Close(w.Ctx, p, v.ID, k) }},
		{"open", func(c *core.Core, k *string) (any, error) {
			return c.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One, Duration: time.Hour, IdempotencyKey: k})
		}},
		{"drain", func(c *core.Core, k *string) (any, error) { return c.Funding.Drain(w.Ctx, p, a.ID, "", k) }},
		{"deactivate", func(c *core.Core, k *string) (any, error) { return c.Agents.Deactivate(w.Ctx, p, a.ID, k) }},
	}
}

// A repeat in another process gets the first answer, to the byte, and moves nothing, however the world has changed.
func TestRepeatIsTheFirstAnswer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 5*money.One)
		s := w.Seller(cent)
		other := process(t, w, nil)
		requests := keyed(t, w, p, a, s)
		first := map[string]any{}
		for _, r := range requests {
			v, err := r.call(w.Core, key(r.name))
			if err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
			first[r.name] = v
			w.Settle()
		}
		before, sold := w.Net.Balance(address("0x00000000000000000000000000000000000b0b01")), proofs(s)
		if sold != 3 {
			t.Fatalf("%d proofs", sold)
		}
		w.Pass(2 * time.Second)
		for _, r := range requests {
			v, err := r.call(other, key(r.name))
			if err != nil {
				t.Errorf("%s again: %v", r.name, err)
				continue
			}
			if got, want := text(t, v), text(t, first[r.name]); got != want {
				t.Errorf("%s again:\n%s\nfirst:\n%s", r.name, got, want)
			}
			if f, ok := v.(*core.FetchResult); ok && !reflect.DeepEqual(f.Header, first[r.name].(*core.FetchResult).Header) {
				t.Errorf("%s again: %q", r.name, f.Header)
			}
		}
		w.Settle()
		if got := w.Net.Balance(address("0x00000000000000000000000000000000000b0b01")); got != before || proofs(s) != sold {
			t.Errorf("a repeat moved money: %s, was %s; %d proofs", got, before, proofs(s))
		}
		for _, r := range requests { // each key is one request's
			if _, err := r.call(other, key("fund")); r.name != "fund" && (code(err) != core.Conflict || core.AsError(err).RetryAfter != 0) {
				t.Errorf("%s under another's key: %v", r.name, err)
			}
		}
		w.Balanced()
	})
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Many at once in two processes are one payment and one answer.
func TestRepeatsAtOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", 5*money.One)
		s := w.Seller(cent)
		cores := []*core.Core{w.Core, process(t, w, nil)}
		answers := make([]string, 8)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				for {
					r, err := cores[i%2].Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.Serve, 0), IdempotencyKey: key("one")})
					if err == nil {
						answers[i] = fmt.Sprint(r.Payment.ID, r.Status, string(r.Body))
						return
					}
					if e := core.AsError(err); e.Code != core.Conflict || e.RetryAfter == 0 { // a slow machine's
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, a := range answers {
			if a != answers[0] || a == "" {
				t.Errorf("answers %q", answers)
				break
			}
		}
		w.Settle()
		if proofs(s) != 1 || w.Net.Balance(s.PayTo) != cent {
			t.Errorf("%d proofs, the seller has %s", proofs(s), w.Net.Balance(s.PayTo))
		}
		w.Balanced()
	})
}

// hung is a seller behind a door that holds every request until it is opened.
func hung(w *coretest.World, s *coretest.Seller) (url string, inside <-chan struct{}, open func()) {
	came, gate := make(chan struct{}, 100), make(chan struct{})
	url = w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-gate
		s.ServeHTTP(rw, r)
	}))
	return url + "/v2/serve", came, sync.OnceFunc(func() { close(gate) })
}

func TestRepeatWhileRunning(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	url, inside, open := hung(w, s)
	defer open()
	in := core.FetchInput{URL: url, Timeout: time.Minute, IdempotencyKey: key("one")}
	var first *core.FetchResult
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if first, err = w.Core.Payments.Fetch(w.Ctx, p, in); err != nil {
			t.Error(err)
		}
	})
	<-inside
	_, err := process(t, w, nil).Payments.Fetch(w.Ctx, p, in)
	if e := core.AsError(err); err == nil || e.Code != core.Conflict || e.RetryAfter <= 0 {
		t.Errorf("while it runs: %v", err)
	}
	changed := in
	changed.Body = []byte("x")
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, changed); code(err) != core.Conflict || core.AsError(err).RetryAfter != 0 {
		t.Errorf("another request while it runs: %v", err)
	}
	impatient, cancel := context.WithCancel(w.Ctx)
	cancel()
	if _, err := w.Core.Payments.Fetch(impatient, p, in); err == nil {
		t.Error("a caller who has left is answered")
	}
	open()
	wg.Wait()
	again, err := w.Core.Payments.Fetch(w.Ctx, p, in)
	if err != nil || again.Payment.ID != first.Payment.ID || proofs(s) != 1 {
		t.Errorf("afterwards: %+v %v, %d proofs", again, err, proofs(s))
	}
	w.Settle()
	w.Balanced()
}

// A process that stalls so long that its request was taken over must not pay, if it wakes, what the other pays.
func TestLeaseLostWhileRunning(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", money.One)
		s := w.Seller(cent)
		url, inside, open := hung(w, s)
		defer open()
		in := core.FetchInput{URL: url, Timeout: time.Minute, IdempotencyKey: key("one")}
		stalled := process(t, w, func(d *core.Deps) { // its clock stands still, so that its renewals renew nothing
			now := d.Clock()
			d.Clock = func() time.Time { return now }
		})
		errs := make(chan error, 2)
		go func() { _, err := stalled.Payments.Fetch(w.Ctx, p, in); errs <- err }()
		<-inside
		lapse(w)
		go func() { _, err := w.Core.Payments.Fetch(w.Ctx, p, in); errs <- err }()
		<-inside // the second asks the seller: it has taken over
		open()
		refused := 0
		for range 2 {
			if err := <-errs; err != nil {
				if e := core.AsError(err); e.Code != core.Conflict || e.RetryAfter == 0 {
					t.Error(err)
				}
				refused++
			}
		}
		w.Settle()
		if refused != 1 || proofs(s) != 1 || w.Net.Balance(s.PayTo) != cent {
			t.Errorf("%d refused, %d proofs, the seller has %s", refused, proofs(s), w.Net.Balance(s.PayTo))
		}
		w.Balanced()
	})
}

func TestOtherInputUnderOneKey(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	two := 2 * cent
	in := core.FetchInput{
		Agent: "bot", URL: s.Link(2, paytest.Serve, 0), Method: "POST", Header: http.Header{"X-A": {"1"}}, Body: []byte("x"), MaxCost: &two,
		IdempotencyKey: key("one"),
	}
	first, err := w.Core.Payments.Fetch(w.Ctx, p, in)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*core.FetchInput){
		"agent":    func(in *core.FetchInput) { in.Agent = a.ID.String() },
		"wallet":   func(in *core.FetchInput) { in.DefaultWallet = true },
		"session":  func(in *core.FetchInput) { in.SessionID = a.ID.String() },
		"method":   func(in *core.FetchInput) { in.Method = "PUT" },
		"URL":      func(in *core.FetchInput) { in.URL += "?x" },
		"header":   func(in *core.FetchInput) { in.Header = http.Header{"X-A": {"2"}} },
		"headers":  func(in *core.FetchInput) { in.Header = http.Header{"X-A": {"1"}, "X-B": {"1"}} },
		"value":    func(in *core.FetchInput) { in.Header = http.Header{"X-A": {"1", "1"}} },
		"body":     func(in *core.FetchInput) { in.Body = []byte("y") },
		"no body":  func(in *core.FetchInput) { in.Body = nil },
		"price":    func(in *core.FetchInput) { in.MaxCost = nil },
		"boundary": func(in *core.FetchInput) { in.Method, in.URL = "POSTh", strings.TrimPrefix(in.URL, "h") },
	} {
		changed := in
		change(&changed)
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, changed); code(err) != core.Conflict || core.AsError(err).RetryAfter != 0 {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*core.FetchInput){
		"timeout": func(in *core.FetchInput) { in.Timeout = time.Minute },
		"trace": func(in *core.FetchInput) {
			in.Header = http.Header{"x-a": {"1"}, "Traceparent": {"2"}, "User-Agent": {"3"}}
		},
	} {
		changed := in
		change(&changed)
		if r, err := w.Core.Payments.Fetch(w.Ctx, p, changed); err != nil || r.Payment.ID != first.Payment.ID {
			t.Errorf("another %s: %v", name, err)
		}
	}
	other, _ := w.User("other@example.com") // whose key it is not
	b := w.Agent(other, "bot", money.One)
	if r, err := w.Core.Payments.Fetch(w.Ctx, other, in); err != nil || r.Payment.AgentID != b.ID {
		t.Errorf("another user: %v", err)
	}
	viewer := p
	viewer.Role = core.Viewer
	if _, err := w.Core.Payments.Fetch(w.Ctx, viewer, in); code(err) != core.Forbidden {
		t.Errorf("who may not pay reads the answer: %v", err)
	}
	if proofs(s) != 2 {
		t.Errorf("%d proofs", proofs(s))
	}
}

func TestBadKeys(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	for _, k := range []string{"", strings.Repeat("k", 256), "a\nb", "\x7f", "caf\u00e9", "\xff", "\x00"} {
		if _, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: cent, IdempotencyKey: &k}); code(err) != core.InvalidRequest {
			t.Errorf("%q: %v", k, err)
		}
	}
	k := strings.Repeat("~", 255)
	if _, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: cent, IdempotencyKey: &k}); err != nil {
		t.Error(err)
	}
	if views, err := w.Core.Sessions.List(w.Ctx, p, nil); err != nil || len(views) != 1 {
		t.Errorf("%d sessions, %v", len(views), err)
	}
}

// A refusal before anything moved is not the answer: its caller may mend it. An error after a payment is.
func TestWhichErrorsAreRemembered(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{DailyLimit: core.Set(money.USDC(0))}); err != nil {
		t.Fatal(err)
	}
	in := core.FetchInput{URL: s.Link(2, paytest.Serve, 0), IdempotencyKey: key("one")}
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, in); code(err) != core.SpendingLimit {
		t.Fatal(err)
	}
	if _, err := w.Core.Policies.Update(w.Ctx, p, a.ID, core.PolicyInput{DailyLimit: core.Set(money.One)}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Core.Payments.Fetch(w.Ctx, p, in); err != nil || !r.Paid {
		t.Errorf("mended: %+v %v", r, err)
	}
	in = core.FetchInput{URL: s.Link(2, paytest.Reset, 0), IdempotencyKey: key("two")}
	_, first := w.Core.Payments.Fetch(w.Ctx, p, in)
	_, again := w.Core.Payments.Fetch(w.Ctx, p, in)
	one, two := core.AsError(first), core.AsError(again)
	if one.Payment == "" || one.Payment != two.Payment || one.Code != two.Code || one.Message != two.Message || proofs(s) != 2 {
		t.Errorf("%v, again %v, %d proofs", first, again, proofs(s))
	}
}

// Whatever step a process dies at, the same request in another pays no second time, and tells how the payment stands.
func TestFetchThatDied(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		type died struct {
			in   core.FetchInput
			sold bool
		}
		var all []died
		s := w.Seller(cent)
		for _, session := range []string{"", v.ID.String()} {
			for step, sold := range map[string]bool{core.StepHeld: false, core.StepSigned: false, core.StepPaid: true, core.StepBooked: true} {
				in := core.FetchInput{SessionID: session, URL: s.Link(2, paytest.Serve, 0), IdempotencyKey: key(step + session)}
				dies(t, w, step, func(c *core.Core) { _, _ = c.Payments.Fetch(w.Ctx, p, in) })
				all = append(all, died{in, sold})
			}
		}
		lapse(w)
		for range 2 {
			for _, d := range all {
				_, err := w.Core.Payments.Fetch(w.Ctx, p, d.in)
				if e := core.AsError(err); err == nil || e.Code != core.Conflict || e.Payment == "" || e.RetryAfter != 0 {
					t.Errorf("%s: %v", *d.in.IdempotencyKey, err)
				}
			}
		}
		if proofs(s) != 4 {
			t.Errorf("%d proofs", proofs(s))
		}
		w.Settle()
		w.Pass(7 * time.Minute)
		w.Settle()
		if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
			t.Fatal(err)
		}
		for _, d := range all { // once the chain has spoken the answer says how it ended
			_, err := w.Core.Payments.Fetch(w.Ctx, p, d.in)
			if e := core.AsError(err); err == nil || strings.Contains(e.Message, "nothing was charged") == d.sold {
				t.Errorf("%s: %v", *d.in.IdempotencyKey, err)
			}
		}
		if proofs(s) != 4 || w.Net.Balance(s.PayTo) != 4*cent {
			t.Errorf("%d proofs, the seller has %s", proofs(s), w.Net.Balance(s.PayTo))
		}
		w.Balanced()
	})
}

// A process that died before it began anything leaves its request to the next.
func TestDiedBeforeAnythingBegan(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", money.One)
		s := w.Seller(cent)
		in := core.FetchInput{URL: s.Link(2, paytest.Serve, 0), IdempotencyKey: key("one")}
		dying := process(t, w, func(d *core.Deps) { d.Upstream = &http.Client{Transport: deadly{}} })
		if recovered(func() { _, _ = dying.Payments.Fetch(w.Ctx, p, in) }) == nil {
			t.Fatal("it did not die")
		}
		lapse(w)
		cores := []*core.Core{w.Core, process(t, w, nil)}
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				_, err := cores[i%2].Payments.Fetch(w.Ctx, p, in)
				if e := core.AsError(err); err != nil && (e.Code != core.Conflict || e.RetryAfter == 0) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if r, err := w.Core.Payments.Fetch(w.Ctx, p, in); err != nil || !r.Paid || proofs(s) != 1 {
			t.Errorf("%+v %v, %d proofs", r, err, proofs(s))
		}
		w.Settle()
		w.Balanced()
	})
}

type deadly struct{}

func (deadly) RoundTrip(*http.Request) (*http.Response, error) { panic("killed") }

// Requests other than fetch that died are answered with what they began, as it is now.
func TestOthersThatDied(t *testing.T) {
	for _, step := range []string{core.StepQueued, core.StepAuthorized, core.StepStored, core.StepSent, core.StepLog, core.StepRange} {
		t.Run(step, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) { othersDie(t, w, step) })
		})
	}
}

func othersDie(t *testing.T, w *coretest.World, step string) {
	home := "0x00000000000000000000000000000000000b0b01"
	p, _ := w.User("dev@example.com")
	if _, err := w.Core.Auth.SetWallet(w.Ctx, p, home); err != nil {
		t.Fatal(err)
	}
	a := w.Agent(p, "bot", 5*money.One)
	b := w.Agent(p, "two", money.One)
	open := func(c *core.Core) (*core.SessionView, error) {
		return c.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One, IdempotencyKey: key("open")})
	}
	dies(t, w, step, func(c *core.Core) { _, _ = open(c) })
	lapse(w)
	if v, err := open(w.Core); err != nil || (v.Status != session.StatusOpening && v.Status != session.StatusOpen) {
		t.Fatalf("open: %+v %v", v, err)
	}
	w.Settle()
	v, err := open(w.Core)
	if err != nil || v.Status != session.StatusOpen || v.Deposit != money.One {
		t.Fatalf("open, later: %+v %v", v, err)
	}

	dies(t, w, step, func(c *core.Core) { _, _ = c.Sessions.Close(w.Ctx, p, v.ID, key("close")) })
	lapse(w)
	for range 2 {
		if v, err := w.Core.Sessions.Close(w.Ctx, p, v.ID, key("close")); err != nil || v.Status != session.StatusClosed || v.Refunded != money.One {
			t.Errorf("close: %+v %v", v, err)
		}
	}
	w.Settle()

	for what, drain := range map[string]func(c *core.Core) (*core.DrainResult, error){
		"drain": func(c *core.Core) (*core.DrainResult, error) {
			return c.Funding.Drain(w.Ctx, p, b.ID, "", key("drain"))
		},
		"deactivate": func(c *core.Core) (*core.DrainResult, error) { return c.Agents.Deactivate(w.Ctx, p, a.ID, key("gone")) },
	} {
		amount := map[string]money.USDC{"drain": money.One, "deactivate": 5 * money.One}[what]
		dies(t, w, step, func(c *core.Core) { _, _ = drain(c) })
		lapse(w)
		for range 2 {
			if r, err := drain(w.Core); err != nil || !r.Drained || r.Amount != amount || !strings.EqualFold(r.To, home) {
				t.Errorf("%s: %+v %v", what, r, err)
			}
			w.Settle()
		}
		if r, err := drain(w.Core); err != nil || r.TxHash == nil {
			t.Errorf("%s, later: %+v %v", what, r, err)
		}
	}
	if got := w.Net.Balance(address(home)); got != 6*money.One {
		t.Errorf("home has %s", got)
	}
	if views, err := w.Core.Sessions.List(w.Ctx, p, nil); err != nil || len(views) != 1 {
		t.Errorf("%d sessions, %v", len(views), err)
	}
	w.Balanced()
}

// An answer that is too large to be kept, or whose keeping failed, is its caller's all the same; a repeat names the
// payment and pays nothing.
func TestAnswerThatIsNotKept(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", money.One)
		s := w.Seller(cent)
		big, large := bytes.Repeat([]byte("x"), 5<<18), bytes.Repeat([]byte("y"), 1<<20-1)
		url := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/free" && r.Header.Get("PAYMENT-SIGNATURE") == "" {
				s.ServeHTTP(rw, r)
				return
			}
			if r.URL.Path != "/free" {
				s.ServeHTTP(httptest.NewRecorder(), r)
			}
			body := big
			if r.URL.RawQuery == "large" {
				body = large
			}
			_, _ = rw.Write(body)
		}))
		in := core.FetchInput{URL: url + "/v2/serve", IdempotencyKey: key("big")}
		first, err := w.Core.Payments.Fetch(w.Ctx, p, in)
		if err != nil || !bytes.Equal(first.Body, big) {
			t.Fatal(err)
		}
		_, err = w.Core.Payments.Fetch(w.Ctx, p, in)
		if e := core.AsError(err); err == nil || e.Code != core.Conflict || e.Payment != first.Payment.ID.String() {
			t.Errorf("too large: %v", err)
		}
		for range 2 {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url + "/v2/serve?large", IdempotencyKey: key("large")})
			if err != nil || !bytes.Equal(r.Body, large) {
				t.Errorf("large: %v", err)
			}
			// Where nothing was paid it is simply asked for again.
			r, err = w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url + "/free?large", IdempotencyKey: key("free")})
			if err != nil || !bytes.Equal(r.Body, large) {
				t.Errorf("too large and free: %v", err)
			}
		}

		db := raw(t, w)
		in = core.FetchInput{URL: s.Link(2, paytest.Serve, 0), IdempotencyKey: key("unkept")}
		c := process(t, w, func(d *core.Deps) {
			d.Step = func(name string) {
				if name == core.StepBooked {
					exec(t, db, "ALTER TABLE idempotency_keys RENAME TO away")
				}
			}
		})
		if r, err := c.Payments.Fetch(w.Ctx, p, in); err != nil || !r.Paid {
			t.Errorf("its answer cannot be kept: %v", err)
		}
		exec(t, db, "ALTER TABLE away RENAME TO idempotency_keys")
		lapse(w)
		_, err = w.Core.Payments.Fetch(w.Ctx, p, in)
		if e := core.AsError(err); err == nil || e.Code != core.Conflict || e.Payment == "" {
			t.Errorf("not kept: %v", err)
		}
		if proofs(s) != 3 {
			t.Errorf("%d proofs", proofs(s))
		}
		w.Settle()
		w.Balanced()
	})
}

// After a day a key is free, whether or not the job has come by; and the job leaves the younger ones alone.
func TestKeysAreForgotten(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", 0)
		calls := 0
		url := w.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }))
		later := func(d time.Duration) *core.Core {
			return process(t, w, func(deps *core.Deps) { deps.Clock = func() time.Time { return w.Clock.Now().Add(d) } })
		}
		fetch := func(c *core.Core, k string, want int) {
			t.Helper()
			if _, err := c.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url, IdempotencyKey: &k}); err != nil || calls != want {
				t.Errorf("%s: %v, %d calls", k, err, calls)
			}
		}
		fetch(w.Core, "a", 1)
		fetch(w.Core, "b", 2)
		day := later(23 * time.Hour)
		if err := day.Idempotency.Forget(w.Ctx); err != nil {
			t.Fatal(err)
		}
		fetch(day, "a", 2)
		after := later(25 * time.Hour)
		fetch(after, "a", 3)
		if err := after.Idempotency.Forget(w.Ctx); err != nil {
			t.Fatal(err)
		}
		if n := count(t, raw(t, w), "idempotency_keys"); n != 1 {
			t.Errorf("%d rows", n)
		}
		fetch(after, "a", 3)
		fetch(after, "b", 4)
	})
}

// What is kept is sealed.
func TestAnswersAreSealed(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", 0)
	url := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "a diagnosis") }))
	if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url, IdempotencyKey: key("one")}); err != nil {
		t.Fatal(err)
	}
	var answer []byte
	if err := raw(t, w).QueryRow("SELECT answer FROM idempotency_keys").Scan(&answer); err != nil || len(answer) == 0 || bytes.Contains(answer, []byte("diagnosis")) || bytes.Contains(answer, []byte("Body")) {
		t.Errorf("%q %v", answer, err)
	}
}

// Without a key nothing changes: each call is one.
func TestWithoutAKey(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	for range 2 {
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true, Statuses: []transaction.Status{transaction.StatusPending}})
	if err != nil || page.Total != 2 || count(t, raw(t, w), "idempotency_keys") != 0 {
		t.Errorf("%+v %v", page, err)
	}
}
