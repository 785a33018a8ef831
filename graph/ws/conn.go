package ws

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
)

// errStopped says that a message may not be sent any more: the operation was completed, or the connection closed.
var errStopped = errors.New("stopped")

// conn is one client.
type conn struct {
	transport *Transport
	socket    *websocket.Conn
	exec      graphql.GraphExecutor
	header    http.Header        // of the upgrade request
	cancel    context.CancelFunc // ends InitFunc and all operations

	// writing is held while one message leaves, so messages of one operation keep their order. It is taken
	// before mu, never after it.
	writing  sync.Mutex
	watchdog *time.Timer // drops the socket when a write takes too long

	heard atomic.Bool // something came from the client since the last ping

	mu       sync.Mutex
	request  *http.Request // for InitFunc; nil once connection_init came
	closing  bool          // a close frame was or is being sent; nothing else follows it
	draining bool          // the server stops: nothing new begins, and closing follows the last answer
	initWait *time.Timer
	expiry   *time.Timer
	pinger   *time.Timer
	revoked  func() bool // stops watching the context that InitFunc returned

	// begin makes the context of an operation; it is nil before the ack.
	begin func() (context.Context, context.CancelFunc)
	// active has the operations by id, until the client or our last message completes them.
	active map[string]*operation
	// running counts operations, those included that the client completed and that have not ended yet.
	running int
	// awaited counts those that owe an answer: queries, mutations, and what is not parsed yet.
	awaited int
}

func newConn(
	t *Transport, socket *websocket.Conn, exec graphql.GraphExecutor, r *http.Request, cancel context.CancelFunc,
) *conn {
	c := &conn{transport: t, socket: socket, exec: exec, header: r.Header, request: r, cancel: cancel}
	c.heard.Store(true)
	c.watchdog = time.AfterFunc(or(t.WriteTimeout, DefaultWriteTimeout), func() { _ = socket.Close() })
	c.watchdog.Stop()
	alive := func(string) error { c.heard.Store(true); return nil }
	pong := socket.PingHandler()
	socket.SetPongHandler(alive)
	socket.SetPingHandler(func(data string) error { c.heard.Store(true); return pong(data) })
	// close answers for us, with the client's own code.
	socket.SetCloseHandler(func(int, string) error { return nil })
	c.mu.Lock() // the timer may fire before it is stored
	defer c.mu.Unlock()
	c.initWait = time.AfterFunc(or(t.InitTimeout, DefaultInitTimeout), c.initTimeout)
	return c
}

// serve reads until the socket ends, then frees everything.
func (c *conn) serve(ctx context.Context) {
	defer c.transport.leave(c)
	defer c.release()
	if c.socket.Subprotocol() != Subprotocol {
		c.close(closeBadSubprotocol, "Subprotocol not acceptable")
	}
	for {
		data, tooBig, err := c.read()
		if err != nil {
			c.gone(err)
			return
		}
		c.heard.Store(true)
		switch {
		case c.isClosing(): // wait for the client's own close frame
		case tooBig:
			c.close(websocket.CloseMessageTooBig, "Message too big")
		default:
			c.handle(ctx, data)
		}
	}
}

// read takes one message. The rest of one that is too big is skipped by the next read: a socket that is closed over
// unread bytes is reset, and the client would not see why.
func (c *conn) read() (data []byte, tooBig bool, err error) {
	_, r, err := c.socket.NextReader()
	if err != nil {
		return nil, false, err
	}
	limit := or(c.transport.MaxMessageBytes, DefaultMaxMessageBytes)
	data, err = io.ReadAll(io.LimitReader(r, limit+1))
	return data, int64(len(data)) > limit, err
}

func (c *conn) handle(ctx context.Context, data []byte) {
	start := graphql.Now()
	m, reason := parse(data)
	if reason != "" {
		c.close(closeBadRequest, reason)
		return
	}
	switch m.Type {
	case typeInit:
		c.initialise(ctx, m)
	case typePing:
		c.pong(m.Payload)
	case typeSubscribe:
		c.subscribe(m, start)
	case typeComplete:
		c.complete(m.ID)
	}
}

func (c *conn) pong(payload json.RawMessage) {
	if payload == nil {
		_ = c.send(nil, false, pongMessage)
		return
	}
	msg, err := json.Marshal(outgoing{Type: typePong, Payload: payload})
	if err == nil {
		_ = c.send(nil, false, msg)
	}
}

// initialise starts InitFunc. It has a goroutine of its own, so that a subscribe or a second connection_init that
// does not wait for the answer meets the right close code.
func (c *conn) initialise(ctx context.Context, m *incoming) {
	c.mu.Lock()
	r := c.request
	c.request = nil
	if r != nil && !c.closing {
		c.initWait.Reset(or(c.transport.InitTimeout, DefaultInitTimeout))
	}
	c.mu.Unlock()
	if r == nil {
		c.close(closeTooManyInits, "Too many initialisation requests")
		return
	}
	c.transport.running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				c.transport.logger().ErrorContext(ctx, "websocket init panicked", "panic", p)
				c.close(closeInternal, "Internal server error")
			}
		}()
		c.authenticate(ctx, r, m.object)
	})
}

func (c *conn) authenticate(ctx context.Context, r *http.Request, payload map[string]any) {
	opCtx, ack, expires, err := ctx, any(nil), time.Time{}, error(nil)
	if c.transport.InitFunc != nil {
		opCtx, ack, expires, err = c.transport.InitFunc(ctx, r, payload)
	}
	if err != nil {
		if ctx.Err() == nil { // else the client went away meanwhile, and the error tells only that
			c.transport.logger().InfoContext(ctx, "websocket init refused", "error", err)
		}
		c.close(closeForbidden, reasonForbidden)
		return
	}
	if opCtx == nil {
		opCtx = ctx
	}
	left := expires.Sub(c.transport.now())
	if !expires.IsZero() && left <= 0 {
		c.close(closeForbidden, reasonExpired)
		return
	}
	msg, err := json.Marshal(outgoing{Type: typeAck, Payload: ack})
	if err != nil {
		panic(err) // the programmer's: an ack that is no JSON
	}
	c.accept(opCtx, expires, left)
	_ = c.send(nil, false, msg)
}

// accept opens the connection for operations. It comes before the ack is sent, since the client may answer at once.
func (c *conn) accept(ctx context.Context, expires time.Time, left time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.initWait.Stop()
	c.begin = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	c.active = map[string]*operation{}
	c.pinger = time.AfterFunc(or(c.transport.PingInterval, DefaultPingInterval), c.pingFunc())
	if !expires.IsZero() {
		c.expiry = time.AfterFunc(left, func() { c.close(closeForbidden, reasonExpired) })
	}
	c.revoked = context.AfterFunc(ctx, func() { c.close(closeForbidden, reasonForbidden) })
}

// send writes one message. That of an operation is dropped, with errStopped, when the operation is over for the
// client; last makes it over.
func (c *conn) send(op *operation, last bool, msg []byte) error {
	return c.frame(websocket.TextMessage, op, last, msg)
}

func (c *conn) frame(kind int, op *operation, last bool, data []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	stopped := c.closing || op != nil && c.active[op.id] != op
	if last && !stopped {
		c.forget(op)
	}
	c.mu.Unlock()
	if stopped {
		return errStopped
	}
	return c.write(kind, data)
}

// write needs the lock writing. A socket whose write failed is of no use: its reader is woken to end it.
func (c *conn) write(kind int, data []byte) error {
	c.watchdog.Reset(or(c.transport.WriteTimeout, DefaultWriteTimeout))
	defer c.watchdog.Stop()
	err := c.socket.WriteMessage(kind, data)
	if err != nil {
		_ = c.socket.Close()
	}
	return err
}
