// Package ws speaks the graphql-transport-ws protocol on gorilla/websocket, as a transport for gqlgen's server.
//
// A connection is one goroutine that reads, and one more for each running operation. There is no writing goroutine
// and no queue of messages: an operation writes its own message, under the connection's lock, before it asks for
// its next event. So a slow client holds back its own subscriptions only, at most one message each, and the source
// of the events decides what a slow reader loses. A client that takes nothing for WriteTimeout is cut off.
//
// https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
package ws

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// The limits of a connection, used where the Transport's field is zero.
const (
	DefaultInitTimeout      = 10 * time.Second // for connection_init to arrive, and again for InitFunc to answer
	DefaultMaxMessageBytes  = 64 << 10         // a long query with its variables is a tenth of it
	DefaultMaxSubscriptions = 100              // running operations of one connection
	DefaultMaxConnections   = 10_000           // about 170 MB at the measured 17 KiB a subscriber
	DefaultPingInterval     = 20 * time.Second // below the 30 to 60 s after which proxies drop an idle socket
	DefaultWriteTimeout     = 10 * time.Second // for one message to leave
)

const (
	maxSilentPings = 2               // pings in a row without a sign of life; then the client is gone
	closeGrace     = 5 * time.Second // for the client to answer a close frame before the socket is dropped
	bufferBytes    = 1 << 10         // read buffer of each connection; larger messages pass through it
)

// InitFunc authenticates a connection from the payload of connection_init (nil without one) and from the headers of
// the upgrade request r. It returns the context of all operations of the connection, derived from ctx; the payload of
// connection_ack, or nil; and the moment the credential expires, or the zero time for never. Any error closes
// the connection with 4403 "Forbidden": the error itself is logged and never sent. Ending the returned context
// also closes the connection with 4403, which serves a revoked credential.
//
// ctx ends with the connection, not with the upgrade request.
type InitFunc func(ctx context.Context, r *http.Request, payload map[string]any) (
	opCtx context.Context, ack any, expires time.Time, err error)

// Transport is a graphql.Transport; use it by pointer. Its zero value works: everybody is let in from the same
// origin, with the default limits. Fields must not change after the first request.
type Transport struct {
	InitFunc    InitFunc                   // nil accepts every connection
	CheckOrigin func(r *http.Request) bool // nil allows the request's own host and clients that are no browsers
	Clock       func() time.Time           // tells how long a credential still lives; nil is gqlgen's clock
	Logger      *slog.Logger               // nil is silent

	InitTimeout      time.Duration
	PingInterval     time.Duration
	WriteTimeout     time.Duration
	MaxMessageBytes  int64
	MaxSubscriptions int
	MaxConnections   int

	mu       sync.Mutex
	open     int // admitted connections, those still in their handshake included
	conns    map[*conn]struct{}
	stopping bool
	running  sync.WaitGroup // readers, operations and InitFuncs
}

var _ graphql.Transport = (*Transport)(nil)

// writeBuffers are shared, because a connection needs one only while it writes.
var writeBuffers sync.Pool

// Supports says whether the request asks for a WebSocket.
func (t *Transport) Supports(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// Do upgrades the request and returns; the connection lives on in goroutines of its own. That frees the memory of
// the HTTP server's side of the connection, and keeps middleware made for requests (time-outs, logs, counts of
// requests in flight) from meeting a request that lasts for days.
func (t *Transport) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	if reason := t.admit(); reason != "" {
		w.Header().Set("Retry-After", "5")
		refuse(w, r, http.StatusServiceUnavailable, errors.New(reason))
		return
	}
	u := websocket.Upgrader{
		CheckOrigin:     t.CheckOrigin,
		Subprotocols:    []string{Subprotocol},
		ReadBufferSize:  bufferBytes,
		WriteBufferSize: bufferBytes,
		WriteBufferPool: &writeBuffers,
		Error:           refuse,
	}
	socket, err := u.Upgrade(hijacker{w}, r, nil)
	if err != nil {
		t.leave(nil)
		return
	}
	// The request's context ends when this method returns, while its values stay meaningful.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	c := newConn(t, socket, exec, r, cancel)
	t.join(c)
	go c.serve(ctx)
}

// Connections is the number of open connections.
func (t *Transport) Connections() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// Shutdown refuses new connections, lets queries and mutations that are running answer, ends subscriptions, and
// tells every client 1001. It returns when all goroutines of the transport have ended. When ctx ends first,
// running operations are cut off and ctx's error is returned. http.Server.Shutdown does not do this: it knows
// nothing of upgraded connections.
func (t *Transport) Shutdown(ctx context.Context) error {
	t.stop((*conn).drain)
	done := make(chan struct{})
	go func() {
		t.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	t.stop(func(c *conn) { c.close(closeGoingAway, reasonGoingAway) })
	return ctx.Err()
}

// stop closes the door and ends every connection, not in turn: one that does not read would hold up the others.
// No connection begins anything new once the first client can hear of the end. Each is counted as running while it
// is listed, so the goroutines join a wait that cannot be over.
func (t *Transport) stop(end func(*conn)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopping = true
	for c := range t.conns {
		c.beginNothing()
	}
	for c := range t.conns {
		t.running.Go(func() { end(c) })
	}
}

// admit takes a place for a connection, or says why there is none.
func (t *Transport) admit() (refusal string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopping:
		return reasonGoingAway
	case t.open >= or(t.MaxConnections, DefaultMaxConnections):
		return "Too many connections"
	}
	t.open++
	t.running.Add(1) // under the lock, so that Shutdown never waits before it is counted
	return ""
}

// join lists an upgraded connection. One that was admitted just before Shutdown is told at once.
func (t *Transport) join(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		t.conns = map[*conn]struct{}{}
	}
	t.conns[c] = struct{}{}
	if t.stopping {
		c.beginNothing()
		t.running.Go(c.drain)
	}
}

// leave gives a place back. c is nil when the upgrade failed.
func (t *Transport) leave(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
	t.open--
	t.running.Done()
}

func (t *Transport) logger() *slog.Logger {
	if t.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Logger
}

func (t *Transport) now() time.Time {
	if t.Clock == nil {
		return graphql.Now()
	}
	return t.Clock()
}

// or is the limit that was set, or its default.
func or[T int | int64 | time.Duration](set, standard T) T {
	if set > 0 {
		return set
	}
	return standard
}

// refuse answers a request that is not upgraded, in the shape of GraphQL's errors.
func refuse(w http.ResponseWriter, _ *http.Request, status int, reason error) {
	w.Header().Set("Sec-Websocket-Version", "13")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(graphql.Response{Errors: gqlerror.List{{Message: reason.Error()}}})
}

// hijacker finds the connection under middleware that wraps the response and offers Unwrap only; gorilla by itself
// asks the outermost wrapper and gives up.
type hijacker struct{ http.ResponseWriter }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}
