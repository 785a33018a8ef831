package ws_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"bursar/graph/ws"
)

// initFunc makes an InitFunc that only fails or waits.
func initFunc(f func(ctx context.Context) error) ws.InitFunc {
	return func(ctx context.Context, _ *http.Request, _ map[string]any) (context.Context, any, time.Time, error) {
		return ctx, nil, time.Time{}, f(ctx)
	}
}

// hangs is an InitFunc that waits for the connection's end.
var hangs = initFunc(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })

const (
	hello    = `{"type":"connection_init"}`
	count    = `{"id":"1","type":"subscribe","payload":{"query":"subscription{feed}"}}`
	longID   = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	noBody   = "Invalid 'payload' property of subscribe"
	noID     = "Message is missing the 'id' property"
	badJSON  = "Invalid message received"
	unknown  = "Invalid message 'type' property"
	longFeed = `{"id":"` + longID + `","type":"subscribe","payload":{"query":"subscription{feed}"}}`
)

func TestCloseCodes(t *testing.T) {
	const waits = 50 * time.Millisecond
	for _, tc := range []struct {
		name      string
		transport *ws.Transport
		say       []string
		code      int
		reason    string
	}{
		{"no JSON", nil, []string{`{"type":`}, 4400, badJSON},
		{"two values", nil, []string{`{"type":"ping"}{}`}, 4400, badJSON},
		{"an array", nil, []string{`[]`}, 4400, badJSON},
		{"a number for an id", nil, []string{hello, `{"id":1,"type":"complete"}`}, 4400, badJSON},
		{"no type", nil, []string{`{}`}, 4400, "Message is missing the 'type' property"},
		{"null", nil, []string{`null`}, 4400, "Message is missing the 'type' property"},
		{"unknown type", nil, []string{`{"type":"start"}`}, 4400, unknown},
		{"a server's type", nil, []string{hello, `{"id":"1","type":"next","payload":{}}`}, 4400, unknown},
		{"subscribe without id", nil, []string{hello, `{"type":"subscribe","payload":{"query":"{hello}"}}`}, 4400, noID},
		{"complete without id", nil, []string{hello, `{"type":"complete"}`}, 4400, noID},
		{"subscribe without payload", nil, []string{hello, `{"id":"1","type":"subscribe"}`}, 4400, noBody},
		{"payload null", nil, []string{hello, `{"id":"1","type":"subscribe","payload":null}`}, 4400, noBody},
		{"no query", nil, []string{hello, `{"id":"1","type":"subscribe","payload":{}}`}, 4400, noBody},
		{"query a number", nil, []string{hello, `{"id":"1","type":"subscribe","payload":{"query":1}}`}, 4400, noBody},
		{
			"variables a list", nil,
			[]string{hello, `{"id":"1","type":"subscribe","payload":{"query":"{hello}","variables":[]}}`},
			4400, noBody,
		},
		{
			"init payload a text", nil,
			[]string{`{"type":"connection_init","payload":"x"}`},
			4400,
			"Invalid 'payload' property of connection_init",
		},
		{"ping payload a text", nil, []string{`{"type":"ping","payload":"x"}`}, 4400, "Invalid 'payload' property of ping"},

		{"subscribe before init", nil, []string{count}, 4401, "Unauthorized"},
		{"subscribe before ack", &ws.Transport{InitFunc: hangs}, []string{hello, count}, 4401, "Unauthorized"},
		{"init refused", &ws.Transport{InitFunc: initFunc(func(context.Context) error {
			return errors.New("pq: relation \"tokens\" is on fire")
		})}, []string{hello}, 4403, "Forbidden"},
		{"init panics", &ws.Transport{Logger: quiet(), InitFunc: initFunc(func(context.Context) error {
			panic("secret")
		})}, []string{hello}, 4500, "Internal server error"},
		{"expired before init", &ws.Transport{InitFunc: func(ctx context.Context, _ *http.Request, _ map[string]any) (
			context.Context, any, time.Time, error,
		) {
			return ctx, nil, time.Now().Add(-time.Hour), nil
		}}, []string{hello}, 4403, "Token expired"},
		{"no init", &ws.Transport{InitTimeout: waits}, nil, 4408, "Connection initialisation timeout"},
		{
			"ping is no init", &ws.Transport{InitTimeout: waits},
			[]string{`{"type":"pong"}`},
			4408,
			"Connection initialisation timeout",
		},
		{
			"InitFunc hangs", &ws.Transport{InitTimeout: waits, InitFunc: hangs},
			[]string{hello},
			4408,
			"Connection initialisation timeout",
		},
		{"same id", nil, []string{hello, count, count}, 4409, "Subscriber for 1 already exists"},
		{"same long id", nil, []string{hello, longFeed, longFeed}, 4409, "Subscriber already exists"},
		{"second init", nil, []string{hello, hello}, 4429, "Too many initialisation requests"},
		{
			"second init at once", &ws.Transport{InitFunc: hangs},
			[]string{hello, hello},
			4429,
			"Too many initialisation requests",
		},
		{
			"too big", &ws.Transport{MaxMessageBytes: 100},
			[]string{`{"type":"ping"` + strings.Repeat(" ", 87) + "}"},
			1009,
			"Message too big",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tc.transport)
			c := s.dial(t)
			for i, m := range tc.say {
				c.say(m)
				if m == hello && s.InitFunc == nil && i == 0 {
					c.hear(`{"type":"connection_ack"}`)
				}
			}
			c.hearClose(tc.code, tc.reason)
			eventually(t, "the connection is gone", func() bool { return s.Connections() == 0 })
		})
	}
}

func TestSubprotocolNotAcceptable(t *testing.T) {
	s := serve(t, nil)
	s.dialAs(t, nil, "graphql-ws").hearClose(4406, "Subprotocol not acceptable")
	s.dialAs(t, nil).hearClose(4406, "Subprotocol not acceptable")
	c := s.dialAs(t, nil, "graphql-ws", ws.Subprotocol)
	if c.Subprotocol() != ws.Subprotocol {
		t.Errorf("chose %q", c.Subprotocol())
	}
}

func TestMessageLimit(t *testing.T) {
	s := serve(t, nil)
	c := s.dial(t)
	fits := `{"type":"ping"` + strings.Repeat(" ", ws.DefaultMaxMessageBytes-len(`{"type":"ping"}`)) + "}"
	c.say(fits)
	c.hear(`{"type":"pong"}`)
	// The client is still sending when the limit is passed, and must see the reason nevertheless.
	c.say(strings.Repeat("x", 16*ws.DefaultMaxMessageBytes))
	c.hearClose(1009, "Message too big")
}

func TestExpiry(t *testing.T) {
	then := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := serve(t, &ws.Transport{
		Clock: func() time.Time { return then },
		InitFunc: func(ctx context.Context, _ *http.Request, _ map[string]any) (context.Context, any, time.Time, error) {
			return ctx, nil, then.Add(300 * time.Millisecond), nil
		},
	})
	c := s.ready(t)
	c.subscribe("1", "subscription{feed}")
	eventually(t, "the feed runs", func() bool { return s.api.Feeds() == 1 })
	s.api.Publish(7)
	c.hear(`{"id":"1","type":"next","payload":{"data":{"feed":7}}}`)
	c.hearClose(4403, "Token expired")
	eventually(t, "the feed ended", func() bool { return s.api.Feeds() == 0 })
}

func TestRevoked(t *testing.T) {
	revoke := make(chan context.CancelFunc, 1)
	s := serve(t, &ws.Transport{
		InitFunc: func(ctx context.Context, _ *http.Request, _ map[string]any) (context.Context, any, time.Time, error) {
			ctx, cancel := context.WithCancel(ctx)
			revoke <- cancel
			return ctx, nil, time.Time{}, nil
		},
	})
	c := s.ready(t)
	(<-revoke)()
	c.hearClose(4403, "Forbidden")
}

// A context that InitFunc made from another one must not keep operations alive.
func TestForeignContext(t *testing.T) {
	s := serve(t, &ws.Transport{
		InitFunc: func(context.Context, *http.Request, map[string]any) (context.Context, any, time.Time, error) {
			return context.Background(), nil, time.Time{}, nil
		},
	})
	c := s.ready(t)
	c.subscribe("1", "subscription{feed}")
	eventually(t, "the feed runs", func() bool { return s.api.Feeds() == 1 })
	_ = c.Close()
	eventually(t, "the feed ended", func() bool { return s.api.Feeds() == 0 })
}

func TestClientCloses(t *testing.T) {
	s := serve(t, nil)
	for _, how := range []func(c *client){
		func(c *client) { // politely: the answer is its own code
			_ = c.WriteControl(8, []byte{0x03, 0xe8}, time.Now().Add(patience))
			c.hearClose(1000, "")
		},
		func(c *client) { // without a code
			_ = c.WriteControl(8, nil, time.Now().Add(patience))
			c.hearClose(1005, "")
		},
		func(c *client) { _ = c.NetConn().Close() }, // rudely
	} {
		c := s.ready(t)
		c.subscribe("1", "subscription{feed}")
		c.subscribe("2", "{slow}")
		eventually(t, "both run", func() bool { return s.api.Feeds() == 1 && len(s.api.Started) == 1 })
		<-s.api.Started
		ended := s.api.Ended.Load()
		how(c)
		eventually(t, "both ended", func() bool { return s.api.Feeds() == 0 && s.api.Ended.Load() == ended+1 })
	}
}
