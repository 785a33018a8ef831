package agnic_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bursar/core"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
	"bursar/rest"
)

// teller is what a service does that tells an event when it is asked for the next, and notices when nobody listens.
func teller(next <-chan string, left chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		for http.NewResponseController(w).Flush() == nil {
			select {
			case text, more := <-next:
				if !more {
					return
				}
				_, _ = io.WriteString(w, text)
				continue
			case <-r.Context().Done():
			}
			break
		}
		left <- struct{}{}
	}
}

// open asks the door over a socket and returns an answer whose body is still to come.
func (l *lab) open(ctx context.Context, p *person, target string) *http.Response {
	l.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/api/x402/fetch?url="+url.QueryEscape(target), http.NoBody)
	l.no(err)
	r.Header.Set("X-Agnic-Token", p.token)
	resp, err := http.DefaultTransport.RoundTrip(r)
	l.no(err)
	l.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// TestStream: each event reaches the caller before the next is told, after the head with what it cost; when the caller
// leaves the service notices; and what is cut off does not look whole.
func TestStream(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	var next chan string
	left := make(chan struct{}, 1)
	tell := func(w http.ResponseWriter, r *http.Request) { teller(next, left)(w, r) }
	paid := paytest.New(t, paytest.Options{
		Network: l.Net.Network(), PayTo: l.seller.PayTo, Clock: l.Clock.Now, Price: quarter,
		Answer: func(w http.ResponseWriter, r *http.Request, _ x402.Ask, _ pay.Proof) { tell(w, r) },
	})
	for target, amount := range map[string]string{l.Serve(http.HandlerFunc(tell)): "", paid.Link(2, paytest.Serve, 0): "0.25"} {
		for end, cut := range map[string]bool{"well": false, "left": false, "broken": true} {
			next = make(chan string)
			ctx, leave := context.WithCancel(l.Ctx)
			resp := l.open(ctx, p, target)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("X-Agnic-Amount") != amount {
				t.Errorf("%d %v", resp.StatusCode, resp.Header)
			}
			lines := bufio.NewReader(resp.Body)
			for n := range 3 {
				event := fmt.Sprintf("data: %d\n", n)
				next <- event
				if got, err := lines.ReadString('\n'); err != nil || got != event {
					t.Fatalf("event %d: %q %v", n, got, err)
				}
			}
			switch end {
			case "well":
				close(next)
			case "left":
				leave()
				<-left
				continue
			case "broken":
				next <- strings.Repeat("x", longest+1)
			}
			_, err := io.Copy(io.Discard, lines)
			if cut != errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", end, err)
			}
			if cut {
				<-left
			}
			leave()
		}
	}
	l.Settle()
	l.Balanced()
}
