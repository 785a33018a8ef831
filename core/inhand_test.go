package core_test

import (
	"net/http"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
)

// slow has one call show the hash of an earlier call's transfer, and its service take its time. shown is closed when the
// service has the hash; answer lets it answer by a status, and returns what the call is told.
func (s *sender) slow(in core.FetchInput) (shown chan struct{}, answer func(status int) (*core.FetchResult, error)) {
	type told struct {
		r   *core.FetchResult
		err error
	}
	status, out := make(chan int, 1), make(chan told, 1)
	shown = make(chan struct{})
	s.till.set(func() {
		s.till.first = func() int {
			close(shown)
			return <-status
		}
	})
	s.Head()
	go func() {
		in.Agent, in.URL = "bot", s.link
		r, err := s.Core.Payments.Fetch(s.Ctx, s.p, in)
		out <- told{r, err}
	}()
	return shown, func(with int) (*core.FetchResult, error) {
		status <- with
		t := <-out
		return t.r, t.err
	}
}

// owing leaves a transfer that is paid and not served, some time ago.
func (s *sender) owing(in core.FetchInput, ago time.Duration) string {
	s.T.Helper()
	s.till.set(func() { s.till.broken = true })
	_, err := s.call(in)
	if code(err) != core.ServiceFailed || core.AsError(err).Payment == "" {
		s.T.Fatal(err)
	}
	s.till.set(func() { s.till.broken = false })
	s.later(ago)
	return core.AsError(err).Payment
}

// later lets time go by in one block.
func (s *sender) later(d time.Duration) {
	s.T.Helper()
	if d > 0 {
		must(s.World, s.Net.Node.Advance(d))
		s.Clock.Ahead(d)
	}
}

func (s *sender) statusOf(id string) int {
	s.T.Helper()
	page, err := s.Core.Transactions.List(s.Ctx, s.p, core.TransactionFilter{PaymentsOnly: true})
	must(s.World, err)
	for _, t := range page.Items {
		if t.ID.String() == id {
			return t.UpstreamStatus
		}
	}
	s.T.Fatalf("no payment %s", id)
	return 0
}

// A transfer that a call shows is that call's, however old it is: another call of the same pays for itself.
func TestATransferIsInOneHand(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		for i, in := range []core.FetchInput{{}, {SessionID: s.session}} {
			first := s.owing(in, 8*time.Minute)
			shown, answer := s.slow(in)
			<-shown
			w.Jobs()
			other := process(t, w, func(*core.Deps) {})
			s.Head()
			r, err := other.Payments.Fetch(w.Ctx, s.p, core.FetchInput{Agent: "bot", URL: s.link, SessionID: in.SessionID})
			if err != nil || r.Status != http.StatusOK || r.Payment.ID.String() == first {
				t.Errorf("while another shows it: %+v %v", r, err)
			}
			r, err = answer(0)
			if err != nil || r.Status != http.StatusOK || r.Payment.ID.String() != first {
				t.Errorf("the first: %+v %v", r, err)
			}
			s.earned(money.USDC(2 * (i + 1)))
		}
	})
}

// A call that is slower than any should be finds its transfer in another's hand, which its own answer does not concern.
func TestASlowCallChangesNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		first := s.owing(core.FetchInput{}, 0)
		shown, answer := s.slow(core.FetchInput{})
		<-shown
		s.later(8 * time.Minute)
		w.Jobs()
		r, err := s.call(core.FetchInput{})
		if err != nil || r.Status != http.StatusOK || r.Payment.ID.String() != first {
			t.Errorf("after the slow one's time: %+v %v", r, err)
		}
		if _, err = answer(http.StatusBadGateway); err != nil {
			t.Error(err)
		}
		if got := s.statusOf(first); got != http.StatusOK {
			t.Errorf("the history says that the service answered %d", got)
		}
		if r, err := s.call(core.FetchInput{}); err != nil || r.Status != http.StatusOK || r.Payment.ID.String() == first {
			t.Errorf("the next call: %+v %v", r, err)
		}
		s.earned(2)
	})
}

// A call under a caller's key goes on with what is owed, and its repeats are told of that payment: it died, or it was served.
func TestAKeyGoesOnWithATransfer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		first, key := s.owing(core.FetchInput{}, 0), "key"
		in := core.FetchInput{Agent: "bot", URL: s.link, IdempotencyKey: &key}
		dies(t, w, core.StepMined, func(c *core.Core) { _, _ = c.Payments.Fetch(w.Ctx, s.p, in) })
		lapse(w)
		if _, err := s.call(in); code(err) != core.Conflict || core.AsError(err).Payment != first {
			t.Errorf("a repeat of the call that died: %v", err)
		}
		s.later(7 * time.Minute)
		other := "other"
		in.IdempotencyKey = &other
		for range 2 {
			r, err := s.call(in)
			if err != nil || r.Status != http.StatusOK || r.Payment.ID.String() != first {
				t.Errorf("another key: %+v %v", r, err)
			}
		}
		s.earned(1)
	})
}
