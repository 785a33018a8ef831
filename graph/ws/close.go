package ws

import (
	"errors"
	"time"

	"github.com/gorilla/websocket"
)

// The close codes of the protocol. The standard ones are used beside them: 1001 when the server stops, 1009 for a
// message over the limit, 1013 for a client that answers no pings.
const (
	closeInternal       = 4500
	closeBadRequest     = 4400
	closeUnauthorized   = 4401
	closeForbidden      = 4403
	closeBadSubprotocol = 4406
	closeInitTimeout    = 4408
	closeDuplicate      = 4409
	closeTooManyInits   = 4429
	closeGoingAway      = websocket.CloseGoingAway
)

const (
	reasonForbidden = "Forbidden"
	reasonExpired   = "Token expired"
	reasonGoingAway = "Server is shutting down"
)

// maxReasonBytes is what a control frame holds beside the code; gorilla refuses to send more.
const maxReasonBytes = 123

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// close ends the connection from our side, once: operations are cancelled, the frame is sent after the message that
// is being written, and the client gets closeGrace to answer it. The reader then frees the rest.
func (c *conn) close(code int, reason string) {
	if !c.silence() {
		return
	}
	c.cancel()
	c.writing.Lock()
	err := c.write(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason))
	c.writing.Unlock()
	if err == nil {
		c.lastCall()
	}
	// Nobody waits for this line, and the connection's own context has ended.
	c.transport.logger().Debug("websocket closed", "code", code, "reason", reason)
}

// silence is the one step into closing: no message is sent after it, no operation or timer starts. It says
// whether this call took it.
func (c *conn) silence() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.closing = true
	c.initWait.Stop()
	if c.begin != nil {
		c.pinger.Stop()
		c.revoked()
	}
	if c.expiry != nil {
		c.expiry.Stop()
	}
	for id, op := range c.active {
		op.cancel() // InitFunc's context need not be a child of the connection's
		delete(c.active, id)
	}
	return true
}

// lastCall tells the client that no more bytes come, and stops waiting for its own after closeGrace. Closing at once
// instead could reset the socket under a client that still sends, and lose the frame with the reason.
func (c *conn) lastCall() {
	if half, ok := c.socket.NetConn().(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.initWait.Stop()
	c.initWait = time.AfterFunc(closeGrace, func() { _ = c.socket.Close() })
}

// gone is called by the reader when the socket has ended or failed. A client that said why gets its own code back,
// as RFC 6455 asks; where gorilla met a broken frame it has answered already.
func (c *conn) gone(err error) {
	var said *websocket.CloseError
	if errors.As(err, &said) {
		c.close(said.Code, "")
		return
	}
	c.silence()
}

// release frees what the connection holds. Operations notice their cancelled context.
func (c *conn) release() {
	c.cancel()
	_ = c.socket.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.initWait.Stop()
	c.watchdog.Stop()
}

// beginNothing refuses operations from now on.
func (c *conn) beginNothing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
}

// drain closes with 1001, after the answers that are owed. It follows beginNothing.
func (c *conn) drain() {
	c.mu.Lock()
	idle := c.awaited == 0
	c.mu.Unlock()
	if idle {
		c.close(closeGoingAway, reasonGoingAway)
	}
}

func (c *conn) initTimeout() { c.close(closeInitTimeout, "Connection initialisation timeout") }

// pingFunc pings, and ends a connection that stayed silent over maxSilentPings of them; any message is a sign of
// life. It sends both kinds of ping: the protocol's, by which a client can watch the server, and WebSocket's, which
// the library of every client answers.
func (c *conn) pingFunc() func() {
	silent := 0
	return func() {
		if c.heard.Swap(false) {
			silent = 0
		} else if silent++; silent >= maxSilentPings {
			c.close(websocket.CloseTryAgainLater, "No answer to pings")
			return
		}
		if c.send(nil, false, pingMessage) != nil || c.frame(websocket.PingMessage, nil, false, nil) != nil {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closing {
			c.pinger.Reset(or(c.transport.PingInterval, DefaultPingInterval))
		}
	}
}
