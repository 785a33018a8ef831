package ws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"

	"bursar/graph/ws"
)

type userKey struct{}

func TestInit(t *testing.T) {
	var log lockedBuffer
	s := serve(t, &ws.Transport{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		InitFunc: func(ctx context.Context, r *http.Request, payload map[string]any) (
			context.Context, any, time.Time, error,
		) {
			token, _ := payload["Authorization"].(string)
			if token == "" {
				token = r.Header.Get("X-API-Key")
			}
			if !strings.HasPrefix(token, "good") {
				return nil, nil, time.Time{}, errors.New("token table is locked")
			}
			return context.WithValue(ctx, userKey{}, token), map[string]string{"user": token}, time.Time{}, nil
		},
	})
	users := make(chan string, 1)
	s.gql.AroundOperations(func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
		users <- fmt.Sprint(ctx.Value(userKey{}), " ", graphql.GetOperationContext(ctx).Headers.Get("X-Extra"))
		return next(ctx)
	})

	c := s.dialAs(t, http.Header{"X-Extra": {"x"}}, ws.Subprotocol)
	c.say(`{"type":"connection_init","payload":{"Authorization":"good one"}}`)
	c.hear(`{"type":"connection_ack","payload":{"user":"good one"}}`)
	c.subscribe("1", "{hello}")
	c.next()
	if got := <-users; got != "good one x" {
		t.Errorf("a resolver sees %q", got)
	}

	c = s.dialAs(t, http.Header{"X-Api-Key": {"good key"}}, ws.Subprotocol)
	c.say(`{"type":"connection_init","payload":null}`)
	c.hear(`{"type":"connection_ack","payload":{"user":"good key"}}`)

	c = s.dial(t)
	c.say(hello)
	c.hearClose(4403, "Forbidden")
	if !strings.Contains(log.String(), "token table is locked") {
		t.Errorf("the log does not say why: %s", &log)
	}
}

// InitFunc has the whole InitTimeout, however late connection_init came.
func TestInitTimeouts(t *testing.T) {
	const limit = 600 * time.Millisecond
	s := serve(t, &ws.Transport{InitTimeout: limit, InitFunc: initFunc(func(context.Context) error {
		time.Sleep(limit * 2 / 3)
		return nil
	})})
	c := s.dial(t)
	time.Sleep(limit * 2 / 3)
	c.say(hello)
	c.hear(`{"type":"connection_ack"}`)
}

// The context of an operation outlives the upgrade request, and keeps its values.
func TestRequestContext(t *testing.T) {
	s := serve(t, nil)
	values := make(chan any, 2)
	s.gql.AroundOperations(func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
		values <- ctx.Value(userKey{})
		return next(ctx)
	})
	s.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), userKey{}, "kept"), time.Second)
		defer cancel()
		s.gql.ServeHTTP(unwrapper{w}, r.WithContext(ctx))
	})
	c := s.ready(t)
	c.subscribe("1", "subscription{count(to:1)}")
	c.hear(`{"id":"1","type":"next","payload":{"data":{"count":1}}}`, `{"id":"1","type":"complete"}`)
	if v := <-values; v != "kept" {
		t.Errorf("value is %v", v)
	}
}

// unwrapper is middleware's response, as http.ResponseController understands it.
type unwrapper struct{ w http.ResponseWriter }

func (u unwrapper) Header() http.Header         { return u.w.Header() }
func (u unwrapper) Write(b []byte) (int, error) { return u.w.Write(b) }
func (u unwrapper) WriteHeader(code int)        { u.w.WriteHeader(code) }
func (u unwrapper) Unwrap() http.ResponseWriter { return u.w }

func TestHandshake(t *testing.T) {
	s := serve(t, &ws.Transport{MaxConnections: 1})
	s.refuses(t, http.StatusForbidden, http.Header{"Origin": {"https://evil.example"}})
	c := s.dialAs(t, http.Header{"Origin": {s.http.URL}}, ws.Subprotocol) // the refusal gave its place back
	s.refuses(t, http.StatusServiceUnavailable, nil)
	_ = c.Close()
	eventually(t, "its place is free", func() bool { return s.Connections() == 0 })
	s.ready(t)
	if s.Supports(httptest.NewRequest(http.MethodGet, "/graphql", nil)) {
		t.Error("a plain GET is supported")
	}
}

func TestCheckOrigin(t *testing.T) {
	s := serve(t, &ws.Transport{CheckOrigin: func(r *http.Request) bool {
		return r.Header.Get("Origin") == "https://dashboard.example"
	}})
	s.dialAs(t, http.Header{"Origin": {"https://dashboard.example"}}, ws.Subprotocol)
	s.refuses(t, http.StatusForbidden, http.Header{"Origin": {s.http.URL}})
}

// refuses wants the upgrade to fail with an answer in JSON.
func (s *server) refuses(t *testing.T, want int, header http.Header) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{ws.Subprotocol}}
	c, r, err := d.Dial(s.url(), header)
	if err == nil {
		_ = c.Close()
		t.Fatal("let in")
	}
	if r == nil || r.StatusCode != want || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v, %v, want %d", r, err, want)
	}
}

func TestPingFromClient(t *testing.T) {
	s := serve(t, nil)
	c := s.dial(t)
	c.settled() // also before the ack
	c.say(`{"type":"ping","payload":{"n":9007199254740993}}`)
	c.hear(`{"type":"pong","payload":{"n":9007199254740993}}`)
	c.say(`{"type":"ping","payload":null}`)
	c.hear(`{"type":"pong"}`)
	c.say(`{"type":"pong"}`) // unsolicited
	c.settled()
}

func TestPingFromServer(t *testing.T) {
	const every = 100 * time.Millisecond
	s := serve(t, &ws.Transport{PingInterval: every})
	silent := func(c *client) { c.SetPingHandler(func(string) error { return nil }) }

	mute := s.ready(t)
	silent(mute)
	start := time.Now()
	mute.hear(`{"type":"ping"}`, `{"type":"ping"}`)
	mute.hearClose(1013, "No answer to pings")
	if since := time.Since(start); since < 2*every {
		t.Errorf("given up after %v", since)
	}

	pongs := s.ready(t) // answers the protocol's ping only
	silent(pongs)
	browser := s.ready(t) // its library answers WebSocket's ping only
	for range 6 {
		pongs.hear(`{"type":"ping"}`)
		pongs.say(`{"type":"pong"}`)
		browser.hear(`{"type":"ping"}`)
	}
}

func TestShutdown(t *testing.T) {
	s := serve(t, nil)
	new, idle, busy, paying := s.dial(t), s.ready(t), s.ready(t), s.ready(t)
	busy.subscribe("1", "subscription{feed}")
	eventually(t, "the feed runs", func() bool { return s.api.Feeds() == 1 })
	paying.subscribe("1", "mutation{pay(amount:5)}")
	<-s.api.Started

	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	for _, c := range []*client{new, idle, busy} {
		c.hearClose(1001, "Server is shutting down")
	}
	paying.subscribe("2", "{hello}") // is not begun
	paying.settled()
	if _, r, err := websocket.DefaultDialer.Dial(s.url(), nil); err == nil || r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a new connection: %v, %v", r, err)
	}
	select {
	case err := <-done:
		t.Fatalf("did not wait for the payment: %v", err)
	default:
	}
	close(s.api.Release)
	paying.hear(`{"id":"1","type":"next","payload":{"data":{"pay":5}}}`, `{"id":"1","type":"complete"}`)
	paying.hearClose(1001, "Server is shutting down")
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if n := goroutines(); n != 0 {
		t.Errorf("%d goroutines are left", n)
	}
}

// When Shutdown's patience ends, what still runs is cut off, and a client that does not read holds up nobody.
func TestShutdownForced(t *testing.T) {
	s := serve(t, &ws.Transport{WriteTimeout: time.Second})
	slow, stuck := s.ready(t), s.ready(t)
	slow.subscribe("1", "{slow}")
	<-s.api.Started
	stuck.subscribe("1", "subscription{blobs(to:1000000000,bytes:60000)}")
	stuck.next()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	slow.hearClose(1001, "Server is shutting down")
	if s.api.Ended.Load() != 1 {
		eventually(t, "the query was cancelled", func() bool { return s.api.Ended.Load() == 1 })
	}
}

// Many clients that come and go at random, while the server stops in their midst. The race detector watches.
func TestStorm(t *testing.T) {
	s := serve(t, &ws.Transport{PingInterval: 5 * time.Millisecond, MaxSubscriptions: 5})
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() {
			for j := range 10 {
				d := websocket.Dialer{Subprotocols: []string{ws.Subprotocol}}
				c, _, err := d.Dial(s.url(), nil)
				if err != nil {
					return
				}
				say := func(m string) { _ = c.WriteMessage(websocket.TextMessage, []byte(m)) }
				say(hello)
				_, _, _ = c.ReadMessage()
				for k := range 8 {
					id := fmt.Sprint(k)
					say(`{"id":"` + id + `","type":"subscribe","payload":{"query":"subscription{count(to:50)}"}}`)
					if (i+j+k)%3 == 0 {
						say(`{"id":"` + id + `","type":"complete"}`)
					}
				}
				for range (i + j) % 50 {
					_, _, _ = c.NextReader()
					say(`{"type":"pong"}`)
				}
				if (i+j)%2 == 0 {
					say(hello)
				}
				_ = c.Close()
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	clients.Wait()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
