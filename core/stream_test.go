package core_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

// feed is a service that answers by events, each when it is told to: free at /free, and for a cent under /v1 and /v2.
type feed struct {
	*paytest.Service
	free string        // URL
	left chan struct{} // gets one when an answer has ended because nobody reads it

	mu   sync.Mutex
	next chan string
}

// events are those of the answers that begin from now on; closed: the end.
func (f *feed) events() chan string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// anew gives the answers that begin from now on events of their own.
func (f *feed) anew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = make(chan string)
}

func newFeed(t *testing.T, w *coretest.World) *feed {
	t.Helper()
	_, settle := w.Facilitator()
	f := &feed{next: make(chan string), left: make(chan struct{}, 10)}
	f.Service = paytest.New(t, paytest.Options{
		Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent,
		Answer: func(rw http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
			if _, err := settle(w.Ctx, p); err != nil {
				t.Error(err)
			}
			serve("")(rw, r, a, p)
			f.tell(rw, r)
		},
	})
	f.free = w.Serve(http.HandlerFunc(f.tell)) + "/free"
	return f
}

func (f *feed) tell(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.WriteHeader(http.StatusOK)
	next := f.events()
	for http.NewResponseController(rw).Flush() == nil {
		select {
		case text, more := <-next:
			if !more {
				return
			}
			_, _ = io.WriteString(rw, text)
		case <-r.Context().Done():
		}
		if r.Context().Err() != nil {
			break
		}
	}
	f.left <- struct{}{}
}

// gone waits until the service has noticed that nobody reads on.
func (f *feed) gone(t *testing.T) {
	t.Helper()
	select {
	case <-f.left:
	case <-time.After(10 * time.Second):
		t.Fatal("the service goes on telling")
	}
}

// eachStream runs f for a free call, and for calls paid from a wallet and from a session, on both databases.
func eachStream(t *testing.T, f func(t *testing.T, b buyer, s *feed, in core.FetchInput)) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		for _, name := range []string{"free", "wallet", "session"} {
			t.Run(name, func(t *testing.T) {
				w.Head()
				s := newFeed(t, w)
				in := core.FetchInput{URL: s.Link(2, paytest.Serve, 0), Stream: true}
				switch name {
				case "free":
					in.URL = s.free
				case "session":
					in.SessionID = b.session.ID.String()
				}
				f(t, b, s, in)
			})
		}
		w.Settle()
		w.Balanced()
	})
}

// booked demands that what a call's head has told is in the books.
func (b buyer) booked(t *testing.T, in core.FetchInput, r *core.FetchResult) {
	t.Helper()
	if r.Payment == nil {
		if in.SessionID != "" || strings.Contains(in.URL, "/v2/") {
			t.Error("nothing was paid")
		}
		return
	}
	got, err := b.w.Core.Transactions.Get(b.w.Ctx, b.p, r.Payment.ID)
	if err != nil || got.UpstreamStatus != 200 {
		t.Fatalf("%+v %v", got, err)
	}
	if in.SessionID != "" && (got.Status != transaction.StatusSuccess || got.Amount != cent) {
		t.Errorf("the session is not charged: %+v", got)
	}
}

func TestStreamComesEventByEvent(t *testing.T) {
	eachStream(t, func(t *testing.T, b buyer, s *feed, in core.FetchInput) {
		r, err := b.w.Core.Payments.Fetch(b.w.Ctx, b.p, in)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stream.Close()
		if r.Status != 200 || r.Body != nil || r.Length != -1 || r.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%+v", r)
		}
		b.booked(t, in, r) // before any of the body
		lines := bufio.NewReader(r.Stream)
		for n := range 5 { // the service tells an event when the one before has been read
			want := fmt.Sprintf("data: %d\n", n)
			s.events() <- want
			if got, err := lines.ReadString('\n'); err != nil || got != want {
				t.Fatalf("event %d: %q %v", n, got, err)
			}
		}
		close(s.events())
		if n, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %q %v", n, err)
		}
	})
}

func TestStreamStopsAtItsLimit(t *testing.T) {
	for name, limits := range map[string]core.StreamLimits{
		"bytes": {Bytes: 100},
		"time":  {Time: 200 * time.Millisecond},
		"idle":  {Idle: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachStream(t, func(t *testing.T, b buyer, s *feed, in core.FetchInput) {
				c := process(t, b.w, func(d *core.Deps) { d.Streams = limits })
				r, err := c.Payments.Fetch(b.w.Ctx, b.p, in)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Stream.Close()
				done := make(chan struct{})
				defer close(done)
				go func() { // it tells without end, but is silent after the first event in case of idle
					for n := 0; name != "idle" || n == 0; n++ {
						select {
						case s.events() <- "data: more\n":
						case <-done:
							return
						}
					}
				}()
				got, err := io.ReadAll(r.Stream)
				if err == nil || len(got) == 0 || (name == "bytes" && len(got) != 100) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if name != "bytes" && core.AsError(err).Code != core.Timeout {
					t.Error(err)
				}
				_ = r.Stream.Close()
				s.gone(t)
				b.booked(t, in, r)
			})
		})
	}
}

// A limit that ends a stream changes nothing of what is booked: what the chain shows is charged, and no more is held.
func TestMoneyOfStreamsThatWereCut(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		c := process(t, w, func(d *core.Deps) { d.Streams = core.StreamLimits{Bytes: 10} })
		s := newFeed(t, w)
		for _, id := range []string{"", b.session.ID.String()} {
			w.Head()
			r, err := c.Payments.Fetch(w.Ctx, b.p, core.FetchInput{SessionID: id, URL: s.Link(1, paytest.Serve, 0), Stream: true})
			if err != nil {
				t.Fatal(err)
			}
			s.events() <- "data: more than ten\n"
			if got, err := io.ReadAll(r.Stream); err == nil || string(got) != "data: more" {
				t.Errorf("%q %v", got, err)
			}
			_ = r.Stream.Close()
			s.gone(t)
		}
		w.Jobs()
		b.spent(t, cent, cent)
		w.Pass(11 * time.Minute)
		w.Jobs()
		b.spent(t, cent, cent)
	})
}

func TestCallerWhoLeavesEndsTheStream(t *testing.T) {
	eachStream(t, func(t *testing.T, b buyer, s *feed, in core.FetchInput) {
		ctx, leave := context.WithCancel(b.w.Ctx)
		defer leave()
		r, err := b.w.Core.Payments.Fetch(ctx, b.p, in)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stream.Close()
		s.events() <- "data: 0\n"
		if got, err := bufio.NewReader(r.Stream).ReadString('\n'); err != nil || got != "data: 0\n" {
			t.Fatal(got, err)
		}
		leave()
		s.gone(t)
		if _, err := io.ReadAll(r.Stream); err == nil {
			t.Error("it has ended well")
		}
		b.booked(t, in, r)
	})
}

// slow is a seller that has a proof and waits with the head of its answer.
func slow(t *testing.T, w *coretest.World) (shop *paytest.Service, proved, answer, left chan struct{}) {
	t.Helper()
	proved, answer, left = make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	shop = paytest.New(t, paytest.Options{
		Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent,
		Answer: func(rw http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
			proved <- struct{}{}
			<-answer
			serve("")(rw, r, a, p)
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
			left <- struct{}{}
		},
	})
	return shop, proved, answer, left
}

// A caller may leave while a proof is under way. The outcome is learnt all the same; the body is nobody's then.
func TestCallerLeavesBeforeThePaidAnswer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		for _, in := range []core.FetchInput{{Stream: true}, {}, {Stream: true, SessionID: b.session.ID.String()}, {SessionID: b.session.ID.String()}} {
			shop, proved, answer, left := slow(t, w)
			ctx, leave := context.WithCancel(w.Ctx)
			in.URL = shop.Link(2, paytest.Serve, 0)
			var wg sync.WaitGroup
			wg.Go(func() {
				r, err := w.Core.Payments.Fetch(ctx, b.p, in)
				if in.Stream {
					if err != nil {
						t.Error(err)
						return
					}
					_, err = io.ReadAll(r.Stream)
					_ = r.Stream.Close()
				} else if core.AsError(err).Payment == "" {
					t.Errorf("%v names no payment", err)
				}
				if err == nil {
					t.Error("the answer has come to its end")
				}
			})
			<-proved
			leave()
			close(answer)
			wg.Wait()
			<-left
			page, err := w.Core.Transactions.List(w.Ctx, b.p, core.TransactionFilter{PaymentsOnly: true, Limit: 1})
			if err != nil || page.Items[0].UpstreamStatus != 200 {
				t.Fatalf("%+v %v", page, err)
			}
			if want := map[bool]transaction.Status{true: transaction.StatusPending, false: transaction.StatusSuccess}[in.SessionID == ""]; page.Items[0].Status != want {
				t.Errorf("%s, want %s", page.Items[0].Status, want)
			}
		}
	})
}

func TestCallerLeavesBeforeAnythingIsPaid(t *testing.T) {
	w := coretest.New(t)
	b := newBuyer(t, w)
	for _, stream := range []bool{true, false} {
		asked, left := make(chan struct{}), make(chan struct{})
		url := w.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
			close(left)
		}))
		ctx, leave := context.WithCancel(w.Ctx)
		go func() {
			<-asked
			leave()
		}()
		if r, err := w.Core.Payments.Fetch(ctx, b.p, core.FetchInput{URL: url, Stream: stream}); err == nil {
			t.Errorf("%+v", r)
		}
		<-left
	}
}

// A streamed answer is kept for a repeat while it goes by. One that was cut, or is too large, is lost: a paid call is not
// paid again, and a free one is made again.
func TestStreamUnderAKey(t *testing.T) {
	eachStream(t, func(t *testing.T, b buyer, s *feed, in core.FetchInput) {
		paid := in.URL != s.free
		call := func(name string) (*core.FetchResult, error) {
			in.IdempotencyKey = key(name)
			return b.w.Core.Payments.Fetch(b.w.Ctx, b.p, in)
		}
		name := in.SessionID + in.URL
		first, err := call(name)
		if err != nil {
			t.Fatal(err)
		}
		next := s.events()
		go func() { next <- "data: 0\n"; next <- "data: 1\n"; next <- ""; close(next) }()
		body, err := io.ReadAll(first.Stream)
		if err != nil || string(body) != "data: 0\ndata: 1\n" {
			t.Fatalf("%q %v", body, err)
		}
		again, err := call(name) // before the stream is closed
		if err != nil {
			t.Fatal(err)
		}
		_ = first.Stream.Close()
		repeated, err := io.ReadAll(again.Stream)
		if err != nil || !bytes.Equal(repeated, body) || again.Length != int64(len(body)) || again.Status != 200 {
			t.Errorf("again: %q %v %+v", repeated, err, again)
		}
		if paid && (again.Payment == nil || again.Payment.ID != first.Payment.ID) {
			t.Errorf("again: %+v", again.Payment)
		}

		for what, end := range map[string]func(io.ReadCloser) error{
			"left": func(c io.ReadCloser) error { return c.Close() },
			"long": func(c io.ReadCloser) error {
				next := s.events()
				go func() { next <- strings.Repeat("x", 1<<20+1); close(next) }()
				_, err := io.Copy(io.Discard, c)
				return errors.Join(err, c.Close())
			},
		} {
			s.anew()
			first, err := call(name + what)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(first.Stream); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			s.anew()
			again, err := call(name + what)
			if paid {
				if e := core.AsError(err); err == nil || e.Code != core.Conflict || e.Payment != first.Payment.ID.String() {
					t.Errorf("%s: again %v", what, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: again %v", what, err)
				continue
			}
			_ = again.Stream.Close()
		}
	})
}

// A key whose answer is still on its way is a running request.
func TestRepeatWhileStreaming(t *testing.T) {
	w := coretest.New(t)
	b := newBuyer(t, w)
	s := newFeed(t, w)
	in := core.FetchInput{URL: s.Link(2, paytest.Serve, 0), Stream: true, IdempotencyKey: key("one")}
	first, err := w.Core.Payments.Fetch(w.Ctx, b.p, in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.Ctx, 100*time.Millisecond)
	defer cancel()
	if r, err := w.Core.Payments.Fetch(ctx, b.p, in); err == nil {
		t.Errorf("a second answer: %+v", r)
	}
	close(s.events())
	if _, err := io.ReadAll(first.Stream); err != nil {
		t.Error(err)
	}
	_ = first.Stream.Close()
	if len(s.Seen()) != 1 {
		t.Errorf("%d proofs", len(s.Seen()))
	}
}

// Under a key an envelope's answer is read to its end although its caller has left: it is there for the repeat.
func TestKeyedAnswerIsReadForTheRepeat(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		b := newBuyer(t, w)
		begun, rest := make(chan struct{}, 1), make(chan struct{})
		shop := paytest.New(t, paytest.Options{
			Network: w.Net.Network(), PayTo: address("0x5e11e2"), Clock: w.Clock.Now, Price: cent,
			Answer: func(rw http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
				serve("")(rw, r, a, p)
				_, _ = io.WriteString(rw, "first ")
				_ = http.NewResponseController(rw).Flush()
				begun <- struct{}{}
				<-rest
				_, _ = io.WriteString(rw, "last")
			},
		})
		in := core.FetchInput{URL: shop.Link(2, paytest.Serve, 0), IdempotencyKey: key("left")}
		ctx, leave := context.WithCancel(w.Ctx)
		go func() {
			<-begun
			leave()
			close(rest)
		}()
		if _, err := w.Core.Payments.Fetch(ctx, b.p, in); err != nil {
			t.Error(err)
		}
		r, err := w.Core.Payments.Fetch(w.Ctx, b.p, in)
		if err != nil || string(r.Body) != "first last" || len(shop.Seen()) != 1 {
			t.Errorf("%+v %v, %d proofs", r, err, len(shop.Seen()))
		}
	})
}
