package core

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"bursar/pay"
)

// exchange is a request to a service that has begun to answer: the head of the answer is here, its body comes as it is
// read. Who has one ends it.
type exchange struct {
	status int
	header http.Header
	length int64         // of the body, in bytes; -1: the service has not said
	body   io.ReadCloser // what is still to come
	begun  []byte        // what peek has read of the body

	timer  *time.Timer           // expires it
	expire func()                // ends it, since its time is over
	leave  func()                // ends it, since nobody waits for it
	why    func(err error) error // what has ended it, if anything has
}

// roundTrip sends a request and waits for the head of its answer. The time counts on until it is changed.
func (s *store) roundTrip(ctx context.Context, r *pay.Request, body io.Reader, patience time.Duration) (*exchange, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	expire := func() { cancel(context.DeadlineExceeded) }
	x := &exchange{
		timer: time.AfterFunc(patience, expire), expire: expire, leave: func() { cancel(nil) },
		why: func(err error) error {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		},
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err != nil {
		x.end()
		return nil, E(InvalidRequest, "The request cannot be sent: bad method or URL")
	}
	req.ContentLength, req.Header = int64(len(r.Body)), r.Header
	resp, err := s.upstream.Do(req) //nolint:bodyclose // it is the exchange's, which ends it
	if err != nil {
		err = upstreamError(x.why(err))
		x.end()
		return nil, err
	}
	x.status, x.header, x.length, x.body = resp.StatusCode, resp.Header, resp.ContentLength, resp.Body
	if x.status < http.StatusOK { // no final answer that HTTP knows
		x.end()
		return nil, E(ServiceFailed, "The service answered with status %03d", x.status)
	}
	if r.Method == http.MethodHead {
		x.length = 0
	}
	dropConnectionHeaders(x.header)
	return x, nil
}

// end lets the connection go: for another request if the whole answer was read, else it is closed and the service
// notices. It may be called again.
func (x *exchange) end() {
	if x == nil {
		return
	}
	x.timer.Stop()
	if x.body != nil {
		_ = x.body.Close()
	}
	x.leave()
}

// peek reads the beginning of the body, at most so many bytes; it is read again afterwards.
func (x *exchange) peek(most int64) error {
	b, err := io.ReadAll(io.LimitReader(x.body, most))
	x.begun = b
	if err != nil {
		err = x.broke(err)
	}
	return err
}

// Read reads the body from its beginning.
func (x *exchange) Read(p []byte) (int, error) {
	if len(x.begun) > 0 {
		n := copy(p, x.begun)
		x.begun = x.begun[n:]
		return n, nil
	}
	return x.body.Read(p)
}

// response is the answer as protocols read it: its head, and what peek has seen of the body.
func (x *exchange) response() *pay.Response {
	body := x.begun
	if plain, ok := unzip(x.header, body, pay.MaxBody+1); ok {
		body = plain
	}
	return &pay.Response{Status: x.status, Header: x.header, Body: body}
}

// all reads the whole body and ends the exchange.
func (x *exchange) all() ([]byte, error) {
	defer x.end()
	var b bytes.Buffer
	b.Grow(int(min(max(x.length, 0), maxFirstRead) + bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(x, maxUpstreamBody+1)); err != nil {
		return nil, x.broke(err)
	}
	if b.Len() > maxUpstreamBody {
		return nil, E(ServiceFailed, "The service's answer is larger than %d bytes", maxUpstreamBody)
	}
	return b.Bytes(), nil
}

// whole is an answer that is read to its end before it is judged.
func (s *store) whole(ctx context.Context, r *pay.Request, patience time.Duration) (*pay.Response, error) {
	x, err := s.sendOnce(ctx, r, patience)
	if err != nil {
		return nil, err
	}
	body, err := x.all()
	if err != nil {
		return nil, err
	}
	return &pay.Response{Status: x.status, Header: x.header, Body: unpacked(x.header, body)}, nil
}

// broke is the error for a body that does not come to its end.
func (x *exchange) broke(err error) error {
	if err = x.why(err); errors.Is(err, context.DeadlineExceeded) {
		return upstreamError(err)
	}
	return &Error{Code: ServiceFailed, Message: "The service's answer broke off", Err: err}
}

// unpacked is a body as it was before it was packed, if it was and is not too large then; the header says so.
func unpacked(h http.Header, body []byte) []byte {
	plain, ok := unzip(h, body, maxUpstreamBody+1)
	if !ok || len(plain) > maxUpstreamBody {
		return body
	}
	h.Del("Content-Encoding")
	return plain
}

// codings are the ways in which a body was packed, in their order; none: it is as it was.
func codings(h http.Header) []string {
	var out []string
	for _, v := range h.Values("Content-Encoding") {
		for c := range strings.SplitSeq(v, ",") {
			if c = strings.ToLower(strings.TrimSpace(c)); c != "" && c != notPacked {
				out = append(out, c)
			}
		}
	}
	return out
}

const notPacked = "identity"

// unzip is a body that came packed by gzip as it was before, at most so many bytes of it; ok is false when it was not, or
// cannot be unpacked.
func unzip(h http.Header, body []byte, most int64) (plain []byte, ok bool) {
	if !slices.Equal(codings(h), []string{"gzip"}) {
		return nil, false
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	plain, err = io.ReadAll(io.LimitReader(z, most))
	return plain, err == nil
}
