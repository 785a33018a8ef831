package ws

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// ErrTooManySubscriptions answers a subscribe over MaxSubscriptions. An error presenter may look for it; the default
// one sends it with extensions.code TOO_MANY_SUBSCRIPTIONS.
var ErrTooManySubscriptions = errors.New("too many subscriptions on this connection")

// operation is one subscribe message while it is served.
type operation struct {
	id     string
	cancel context.CancelFunc

	// Guarded by conn.mu.
	counted bool // among conn.running
	owes    bool // an answer to a query or mutation, or it is not known yet which it is
}

// subscribe starts an operation on a goroutine of its own, where it is also parsed and validated: an expensive query
// holds up nothing else.
func (c *conn) subscribe(m *incoming, start time.Time) {
	c.mu.Lock()
	if c.begin == nil {
		c.mu.Unlock()
		c.close(closeUnauthorized, "Unauthorized")
		return
	}
	if c.active[m.ID] != nil {
		c.mu.Unlock()
		c.close(closeDuplicate, duplicate(m.ID))
		return
	}
	if c.closing || c.draining {
		c.mu.Unlock() // no answer: 1001 tells the client that nothing of it was run
		return
	}
	ctx, cancel := c.begin()
	ctx = graphql.StartOperationTrace(ctx)
	m.params.Headers = c.header
	m.params.ReadTime = graphql.TraceTiming{Start: start, End: graphql.Now()}
	limit := or(c.transport.MaxSubscriptions, DefaultMaxSubscriptions)
	// An operation that the client completed may take a moment to end; only many such are held against it.
	if len(c.active) >= limit || c.running >= 2*limit {
		c.mu.Unlock()
		defer cancel()
		c.refuse(ctx, m)
		return
	}
	op := &operation{id: m.ID, cancel: cancel, counted: true, owes: true}
	c.active[op.id] = op
	c.running++
	c.awaited++
	c.mu.Unlock()
	params := m.params
	c.transport.running.Go(func() { c.run(ctx, op, params) })
}

// duplicate is the protocol's text for 4409, without an id that would not fit.
func duplicate(id string) string {
	reason := "Subscriber for " + id + " already exists"
	if len(reason) > maxReasonBytes {
		return "Subscriber already exists"
	}
	return reason
}

// refuse answers a subscribe that is over the limit. The id stays free.
func (c *conn) refuse(ctx context.Context, m *incoming) {
	err := gqlerror.Wrap(ErrTooManySubscriptions)
	err.Extensions = map[string]any{"code": "TOO_MANY_SUBSCRIPTIONS"}
	ctx = graphql.WithOperationContext(ctx, &graphql.OperationContext{
		RawQuery: m.params.Query, OperationName: m.params.OperationName, Headers: c.header,
	})
	_ = c.send(nil, false, c.errorMessage(m.ID, c.present(ctx, gqlerror.List{err})))
}

// complete is the client's: the operation ends, and nothing more is sent for its id.
func (c *conn) complete(id string) {
	c.mu.Lock()
	op := c.active[id]
	delete(c.active, id)
	c.mu.Unlock()
	if op != nil { // else our last message crossed the client's; that is no mistake
		op.cancel()
	}
}

// run serves one operation to its end. A panic ends it with an error, and nothing but it.
func (c *conn) run(ctx context.Context, op *operation, params *graphql.RawParams) {
	defer c.finish(op)
	failed := &failure{}
	ctx = context.WithValue(ctx, failureKey{}, failed)
	defer func() {
		if p := recover(); p != nil {
			_ = c.send(op, true, c.errorMessage(op.id, c.presentPanic(ctx, p)))
		}
	}()
	opCtx, errs := c.exec.CreateOperationContext(ctx, params)
	ctx = graphql.WithOperationContext(ctx, opCtx)
	if len(errs) > 0 {
		_ = c.send(op, true, c.errorMessage(op.id, c.present(ctx, errs)))
		return
	}
	if opCtx.Operation.Operation == ast.Subscription {
		c.answered(op)
	}
	responses, ctx := c.exec.DispatchOperation(ctx, opCtx)
	for response := responses(ctx); response != nil; response = responses(ctx) {
		if response.Data == nil && len(response.Errors) > 0 {
			// Nothing was executed: a subscription that was refused, or an interceptor's own answer. Leaving here
			// also ends an interceptor that would give the same answer for ever.
			_ = c.send(op, true, c.errorMessage(op.id, response.Errors))
			return
		}
		msg, err := json.Marshal(outgoing{ID: op.id, Type: typeNext, Payload: response})
		if err != nil {
			panic(err)
		}
		if c.send(op, false, msg) != nil {
			return
		}
	}
	msg := completeMessage(op.id)
	if err := failed.err.Load(); err != nil {
		msg = c.errorMessage(op.id, c.present(ctx, gqlerror.List{gqlerror.WrapIfUnwrapped(*err)}))
	}
	_ = c.send(op, true, msg)
}

// finish gives back what the operation still holds.
func (c *conn) finish(op *operation) {
	op.cancel()
	c.mu.Lock()
	c.forget(op)
	c.mu.Unlock()
	c.answered(op)
}

// forget frees the operation's id and its place under the limit; it needs the lock mu. Both are free before
// the client can read the operation's last message, since it may use them the moment it does.
func (c *conn) forget(op *operation) {
	if c.active[op.id] == op {
		delete(c.active, op.id)
	}
	if op.counted {
		op.counted = false
		c.running--
	}
}

// answered notes that the server's end need not wait for this operation, and goes on with it if it was the last.
func (c *conn) answered(op *operation) {
	c.mu.Lock()
	if op.owes {
		op.owes = false
		c.awaited--
	}
	end := c.draining && c.awaited == 0
	c.mu.Unlock()
	if end {
		c.close(closeGoingAway, reasonGoingAway)
	}
}

type failureKey struct{}

type failure struct{ err atomic.Pointer[error] }

// Fail makes a subscription end with err, through the error presenter, in place of a plain end. A resolver calls it
// with its own context before it closes its channel; the first error counts. Over another transport it does
// nothing, and gqlgen's transport.AddSubscriptionError must not be used here: it panics where it finds no
// connection of its own.
func Fail(ctx context.Context, err error) {
	if f, ok := ctx.Value(failureKey{}).(*failure); ok && err != nil {
		f.err.CompareAndSwap(nil, &err)
	}
}

// present passes errors through the server's error presenter and response interceptors.
func (c *conn) present(ctx context.Context, errs gqlerror.List) (presented gqlerror.List) {
	defer func() {
		if p := recover(); p != nil {
			presented = c.presentPanic(ctx, p)
		}
	}()
	if response := c.exec.DispatchError(ctx, errs); response != nil && len(response.Errors) > 0 {
		return response.Errors
	}
	return internalError()
}

// presentPanic makes the error for a panic: what the server's recover function and presenter say, if they can.
func (c *conn) presentPanic(ctx context.Context, p any) (presented gqlerror.List) {
	defer func() {
		if again := recover(); again != nil {
			c.transport.logger().ErrorContext(ctx, "websocket operation panicked", "panic", p, "while_presenting", again)
			presented = internalError()
		}
	}()
	// The method is gqlgen's Executor's; graphql.GraphExecutor does not name it.
	if e, ok := c.exec.(interface {
		PresentRecoveredError(ctx context.Context, p any) error
	}); ok {
		var shown *gqlerror.Error
		if errors.As(e.PresentRecoveredError(ctx, p), &shown) && shown != nil {
			return gqlerror.List{shown}
		}
	}
	c.transport.logger().ErrorContext(ctx, "websocket operation panicked", "panic", p)
	return internalError()
}

func internalError() gqlerror.List { return gqlerror.List{{Message: "internal system error"}} }

func completeMessage(id string) []byte {
	msg, _ := json.Marshal(outgoing{ID: id, Type: typeComplete}) // strings always marshal
	return msg
}

// errorMessage ends an operation. Errors whose extensions are no JSON are replaced.
func (c *conn) errorMessage(id string, errs gqlerror.List) []byte {
	msg, err := json.Marshal(outgoing{ID: id, Type: typeError, Payload: errs})
	if err != nil {
		c.transport.logger().Error("websocket error cannot be sent", "error", err)
		msg, _ = json.Marshal(outgoing{ID: id, Type: typeError, Payload: internalError()})
	}
	return msg
}
