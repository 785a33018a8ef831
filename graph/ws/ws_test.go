package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/graph/ws"
	"bursar/graph/ws/internal/wstest"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// server is the test API behind the transport.
type server struct {
	*ws.Transport
	gql  *handler.Server
	api  *wstest.Resolver
	http *httptest.Server
}

// serve starts the test API. At the end of the test everything is shut down, and no goroutine may be left.
func serve(t testing.TB, transport *ws.Transport) *server {
	t.Helper()
	if transport == nil {
		transport = &ws.Transport{}
	}
	s := &server{Transport: transport, api: wstest.New()}
	s.gql = handler.New(wstest.NewExecutableSchema(wstest.Config{Resolvers: s.api}))
	s.gql.AddTransport(transport)
	s.gql.SetErrorPresenter(func(ctx context.Context, err error) *gqlerror.Error {
		e := graphql.DefaultErrorPresenter(ctx, err)
		if errors.Is(err, wstest.ErrOverflow) {
			e.Extensions = map[string]any{"code": "SUBSCRIPTION_OVERFLOW"}
		}
		if errors.Is(err, wstest.ErrRefused) {
			e.Extensions = map[string]any{"code": "FORBIDDEN"}
		}
		return e
	})
	s.gql.SetRecoverFunc(func(context.Context, any) error { return errors.New("internal error") })
	s.http = httptest.NewServer(s.gql)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		s.http.Close()
		eventually(t, "no goroutine of the transport is left", func() bool { return goroutines() == 0 })
		eventually(t, "no subscription is left", func() bool { return s.api.Live.Load() == 0 })
		if n := s.Connections(); n != 0 {
			t.Errorf("%d connections left", n)
		}
	})
	return s
}

// goroutines counts those of the package under test.
func goroutines() int {
	buf := make([]byte, 8<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "bursar/graph/ws.(") {
			n++
		}
	}
	return n
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// client is a WebSocket that knows nothing of the protocol.
type client struct {
	*websocket.Conn
	t testing.TB
}

func (s *server) url() string { return "ws" + strings.TrimPrefix(s.http.URL, "http") }

// dial connects with the right sub-protocol.
func (s *server) dial(t testing.TB) *client { return s.dialAs(t, nil, ws.Subprotocol) }

func (s *server) dialAs(t testing.TB, header http.Header, protocols ...string) *client {
	t.Helper()
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	c, _, err := d.Dial(s.url(), header)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c, t}
}

// ready connects and is acknowledged.
func (s *server) ready(t testing.TB) *client {
	t.Helper()
	c := s.dial(t)
	c.say(`{"type":"connection_init"}`)
	c.hear(`{"type":"connection_ack"}`)
	return c
}

func (c *client) say(msg string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(msg)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// subscribe sends an operation.
func (c *client) subscribe(id, query string) {
	c.t.Helper()
	b, _ := json.Marshal(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": query}})
	c.say(string(b))
}

// next is the text of the next message.
func (c *client) next() string {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, b, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return string(b)
}

// hear wants exactly these messages, in this order.
func (c *client) hear(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("heard %s\nwant  %s", got, w)
		}
	}
}

// hearClose wants the close frame, after nothing else.
func (c *client) hearClose(code int, reason string) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, b, err := c.ReadMessage()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		c.t.Fatalf("heard %s, %v, want close %d %s", b, err, code, reason)
	}
	if closed.Code != code || closed.Text != reason {
		c.t.Fatalf("closed with %d %q, want %d %q", closed.Code, closed.Text, code, reason)
	}
}

// settled wants nothing between a ping and its pong: all that was sent before has been handled.
func (c *client) settled() {
	c.t.Helper()
	c.say(`{"type":"ping"}`)
	c.hear(`{"type":"pong"}`)
}

// drainTo skips messages up to the given one.
func (c *client) drainTo(want string) {
	c.t.Helper()
	for c.next() != want {
		continue
	}
}

// message is what a test needs of one.
type message struct {
	ID      string
	Type    string
	Payload json.RawMessage
}

func (c *client) nextMessage() message {
	c.t.Helper()
	var m message
	if err := json.Unmarshal([]byte(c.next()), &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
