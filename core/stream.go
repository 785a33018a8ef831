package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/pay"
)

// An answer goes to its caller as it comes. Its head decides what is booked, and that is on disk before the first byte of
// the body goes on; whatever ends the body after that changes no money.

// StreamLimits bound an answer that is handed on as it comes; zero means the constants below.
type StreamLimits struct {
	Bytes int64         // of the body
	Time  time.Duration // from its head to its end
	Idle  time.Duration // between two of its bytes
}

// Bounds of a stream where the operator sets none.
const (
	streamBytes = 1 << 30
	streamTime  = 10 * time.Minute
	streamIdle  = time.Minute
)

func (l StreamLimits) orDefault() StreamLimits {
	if l.Bytes == 0 {
		l.Bytes = streamBytes
	}
	if l.Time == 0 {
		l.Time = streamTime
	}
	if l.Idle == 0 {
		l.Idle = streamIdle
	}
	return l
}

// deliver hands the caller a service's answer. What it cost is booked; t is nil when it cost nothing.
func (f *Payments) deliver(ctx context.Context, c *call, x *exchange, t *ent.Transaction) (*FetchResult, error) {
	r := f.result(c, &pay.Response{Status: x.status, Header: x.header}, t)
	switch {
	case c.in.Stream && c.in.DryRun: // the verdict is all that is asked for
		x.end()
		return r, nil
	case c.in.Stream:
		r.Stream, r.Length = f.stream(ctx, x), x.length
		return r, nil
	}
	if t != nil {
		x.timer.Reset(clampTimeout(c.in.Timeout)) // the books may have taken their time
		if c.run == nil {                         // else it is read to its end, for a repeat
			defer context.AfterFunc(ctx, x.leave)()
		}
	}
	var err error
	if r.Body, err = x.all(); err != nil {
		return nil, lostBody(t, err)
	}
	if c.request.Header.Get("Accept-Encoding") == "" { // nobody has asked for a packed one
		r.Body = unpacked(r.Header, r.Body)
	}
	return r, nil
}

// lostBody is the error for an answer that did not come to its end; its head has been booked.
func lostBody(t *ent.Transaction, cause error) error {
	e := AsError(cause)
	if t == nil {
		return e
	}
	return &Error{Code: e.Code, Err: e.Err, Payment: t.ID.String(), Message: e.Message + "; " + standing(t)}
}

// standing says how a payment stands whose answer is not there.
func standing(t *ent.Transaction) string {
	switch t.Status {
	case transaction.StatusSuccess:
		return "the call was paid for, and is charged"
	case transaction.StatusFailed:
		return "the payment has failed, nothing was charged"
	case transaction.StatusPending:
		return "the call was paid for, and is charged when the chain shows it"
	case transaction.StatusUnknown:
	}
	return fmt.Sprintf("the payment's outcome is unknown until the chain shows it, or until its proof ends at %s",
		time.Unix(t.ValidBeforeUnix, 0).UTC().Format(time.RFC3339))
}

// stream is an answer's body on its way to the caller.
type stream struct {
	*exchange
	left  int64 // bytes that may still come
	idle  time.Duration
	total *time.Timer
	stay  func() bool // no longer ends it when the caller leaves
}

// errLong ends a stream that is too long.
var errLong = errors.New("core: the service's answer is longer than a stream may be")

// stream hands on a body as it comes, within its limits. It ends when the caller leaves.
func (f *Payments) stream(ctx context.Context, x *exchange) io.ReadCloser {
	limits := f.streams
	x.timer.Stop()
	return &stream{
		exchange: x, left: limits.Bytes, idle: limits.Idle, total: time.AfterFunc(limits.Time, x.expire),
		stay: context.AfterFunc(ctx, x.leave),
	}
}

// Read waits for more of the body. An error but io.EOF means that the answer is cut off.
func (s *stream) Read(p []byte) (int, error) {
	if int64(len(p)) > s.left+1 {
		p = p[:s.left+1]
	}
	s.timer.Reset(s.idle)
	n, err := s.exchange.Read(p)
	s.timer.Stop()
	if s.left -= int64(n); s.left < 0 {
		return n - 1, errLong
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.broke(err)
	}
	return n, err
}

// Close ends the stream; a service that has more to say notices.
func (s *stream) Close() error {
	s.stay()
	s.total.Stop()
	s.end()
	return nil
}

// keepStream hands on a stream, and keeps what came by for a repeat of the request. The run ends with the stream.
func (f *Payments) keepStream(ctx context.Context, r *run, res *FetchResult) {
	whole := *res
	r.goesOn = true
	res.Stream = &keptStream{ReadCloser: res.Stream, end: func(body []byte, ok bool) {
		if !ok {
			r.finish(ctx, nil, errNotKept)
			return
		}
		whole.Stream, whole.Body = nil, body
		r.finish(ctx, keepFetch(&whole), nil)
	}}
}

// errNotKept stands for an answer that is not kept (run.seal).
var errNotKept = E(ServiceFailed, "The answer has not come to its end, or is too large to be kept")

// keptStream keeps what is read of a stream, while it is short enough.
type keptStream struct {
	io.ReadCloser
	body bytes.Buffer
	long bool
	end  func(body []byte, whole bool) // once; nil afterwards
}

// Read is the stream's; its end is told when the answer is kept.
func (s *keptStream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if s.long = s.long || s.body.Len()+n > maxKeptBody; s.long {
		s.body = bytes.Buffer{}
	} else {
		s.body.Write(p[:n])
	}
	if err != nil {
		s.ended(errors.Is(err, io.EOF))
	}
	return n, err
}

func (s *keptStream) ended(whole bool) {
	if s.end != nil {
		s.end(s.body.Bytes(), whole && !s.long)
		s.end = nil
	}
}

// Close ends the stream, and with it the run.
func (s *keptStream) Close() error {
	err := s.ReadCloser.Close()
	s.ended(false)
	return err
}

// again makes a stream of an answer that was kept.
func (r *FetchResult) again() {
	r.Length = int64(len(r.Body))
	r.Stream, r.Body = io.NopCloser(bytes.NewReader(r.Body)), nil
}
