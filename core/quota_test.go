package core_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay/paytest"
)

// TestCallsAtOnce: a credential has only so many calls under way, with the streams of their answers; what has ended makes room,
// and others are not touched.
func TestCallsAtOnce(t *testing.T) {
	w := coretest.New(t)
	w.Deps.CallsAtOnce = 2
	limited, err := core.New(w.Ctx, w.Deps)
	must(w, err)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	f := newFeed(t, w)
	open := func(p core.Principal) (*core.FetchResult, error) {
		return limited.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: f.free, Stream: true})
	}
	first, err := open(p)
	must(w, err)
	second, err := open(p)
	must(w, err)
	for range 2 {
		_, err := open(p)
		if e := core.AsError(err); e.Code != core.RateLimited || e.RetryAfter == 0 {
			t.Errorf("a third: %v", err)
		}
	}
	if _, err := limited.Payments.Sign(w.Ctx, p, core.SignInput{}); code(err) != core.RateLimited {
		t.Errorf("a signature: %v", err)
	}
	key, err := limited.APIKeys.Create(w.Ctx, p, "another")
	must(w, err)
	other, _, err := limited.Auth.Authenticate(w.Ctx, core.Credentials{APIKey: key.Secret})
	must(w, err)
	third, err := open(other)
	must(w, err)
	must(w, first.Stream.Close())
	must(w, first.Stream.Close()) // is closed once
	again, err := open(p)
	must(w, err)
	if _, err := open(p); code(err) != core.RateLimited {
		t.Errorf("a stream that was closed twice made room for two: %v", err)
	}
	for _, r := range []*core.FetchResult{second, third, again} {
		must(w, r.Stream.Close())
	}
	for range 3 { // neither errors nor whole answers keep a place
		if _, err := limited.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: "no URL"}); code(err) != core.InvalidRequest {
			t.Error(err)
		}
		ctx, leave := context.WithTimeout(w.Ctx, 50*time.Millisecond)
		r, err := limited.Payments.Fetch(ctx, p, core.FetchInput{URL: f.free, Stream: true})
		must(w, err)
		if _, err := io.Copy(io.Discard, r.Stream); err == nil {
			t.Error("it has an end")
		}
		leave()
		must(w, r.Stream.Close())
	}
}

// TestHeadersThatCannotBeSent: nothing is reserved for a call that would not leave, and its caller is told that it was his
// mistake.
func TestHeadersThatCannotBeSent(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w, slug((*api).perCall, "search"))
	for name, value := range map[string]string{"a b": "x", "": "x", "X-Split": "a\r\nX-Other: b", "X-Zero": "\x00", "X:": "x", "X-\xff": "x"} {
		for _, in := range []core.FetchInput{{Service: "search", URL: "find"}, {URL: m.api.URL + "/other"}} {
			in.Agent, in.Header = "bot", http.Header{name: {value}}
			if _, err := w.Core.Payments.Fetch(w.Ctx, m.p, in); code(err) != core.InvalidRequest || core.AsError(err).Payment != "" {
				t.Errorf("%q: %q: %v", name, value, err)
			}
		}
	}
	if n := m.api.calls.Load(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// A call that dies in its handler, as a server outlives it, keeps no place.
func TestCallThatPanicsKeepsNoPlace(t *testing.T) {
	w := coretest.New(t)
	w.Deps.CallsAtOnce = 1
	panics := true
	w.Deps.Step = func(name string) {
		if panics && name == core.StepHeld {
			panic(name)
		}
	}
	limited, err := core.New(w.Ctx, w.Deps)
	must(w, err)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	in := core.FetchInput{URL: w.Seller(cent).Link(2, paytest.Serve, 0)}
	if got := recovered(func() { _, _ = limited.Payments.Fetch(w.Ctx, p, in) }); got != core.StepHeld {
		t.Fatal(got)
	}
	panics = false
	if r, err := limited.Payments.Fetch(w.Ctx, p, in); err != nil || !r.Paid {
		t.Errorf("%+v %v", r, err)
	}
}
