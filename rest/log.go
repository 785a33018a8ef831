package rest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"bursar/core"
)

const (
	requestIDHeader = "X-Request-Id"
	maxRequestID    = 64 // characters of a caller's own request id
	stackBytes      = 4 << 10
)

// record is what the log line of one request gathers on its way.
type record struct {
	requestID   string
	principal   core.Principal
	transaction string
	cut         string // why an answer was cut off after it had begun
}

type recordKey struct{}

func recordOf(ctx context.Context) *record {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		return r
	}
	return &record{}
}

// RequestID returns the request's id, the caller's own when it sent a usable one.
func RequestID(ctx context.Context) string { return recordOf(ctx).requestID }

// Note remembers for the log line which history record the request made.
func Note(ctx context.Context, transactionID string) { recordOf(ctx).transaction = transactionID }

// Handler is the door itself: it gives every request an id and one log line, recovers from panics, refuses a malformed
// query, and answers what no route takes with 404 or 405 in the dialect's shape. Routes must be registered with methods.
// Below the paths of passedOn a query is somebody else's, and goes there as it is written.
func (d *Door) Handler(routes *http.ServeMux, passedOn ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := d.clock()
		rec := &record{requestID: requestID(r)}
		w.Header().Set(requestIDHeader, rec.requestID)
		w.Header().Set("Cache-Control", "no-store") // balances, tokens and keys
		w.Header().Set("X-Content-Type-Options", "nosniff")
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		out := &recorder{ResponseWriter: w}
		next, pattern := routes.Handler(r)
		defer func() { d.logRequest(r, rec, pattern, out.status, start) }()
		defer func() {
			if fault := recover(); fault != nil {
				d.recovered(out, r, fault)
			}
		}()
		if pattern == "" || redirects(next) {
			d.noRoute(out, r, next)
			return
		}
		others := slices.ContainsFunc(passedOn, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) })
		if err := malformed(r.URL.RawQuery); err != nil && !others {
			d.Fail(out, r, err)
			return
		}
		routes.ServeHTTP(out, r)
	})
}

// requestID takes the caller's id if it is short and plain, so that it cannot forge log lines.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	plain := strings.IndexFunc(id, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}) < 0
	if id == "" || len(id) > maxRequestID || !plain {
		return uuid.NewString()
	}
	return id
}

// recovered answers 500 after a panic, unless the answer has begun; then the connection is cut.
func (d *Door) recovered(out *recorder, r *http.Request, fault any) {
	if fault == any(http.ErrAbortHandler) { // an answer that is cut off on purpose
		panic(fault)
	}
	stack := debug.Stack()
	d.log.LogAttrs(r.Context(), slog.LevelError, "panic", slog.String("request_id", RequestID(r.Context())),
		slog.String("panic", fmt.Sprint(fault)), slog.String("stack", string(stack[:min(len(stack), stackBytes)])))
	if out.status != 0 {
		panic(http.ErrAbortHandler)
	}
	d.Dialect.Write(out, &core.Error{Code: core.ServerError})
}

func (d *Door) logRequest(r *http.Request, rec *record, pattern string, status int, start time.Time) {
	took := d.clock().Sub(start)
	d.observe(pattern, status, took)
	attrs := []slog.Attr{
		slog.String("request_id", rec.requestID), slog.String("method", r.Method), slog.String("route", pattern),
		slog.Int("status", status), slog.Int64("duration_ms", took.Milliseconds()),
	}
	if rec.principal.UserID != uuid.Nil {
		attrs = append(attrs, slog.String("principal_id", rec.principal.UserID.String()))
	}
	if rec.principal.CredentialID != uuid.Nil {
		attrs = append(attrs, slog.String("credential_id", rec.principal.CredentialID.String()))
	}
	if rec.transaction != "" {
		attrs = append(attrs, slog.String("transaction_id", rec.transaction))
	}
	if rec.cut != "" {
		attrs = append(attrs, slog.String("cut", rec.cut))
	}
	d.log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

// noRoute answers what no route takes. ServeMux knows whether the path or only the method is wrong.
func (d *Door) noRoute(w http.ResponseWriter, r *http.Request, verdict http.Handler) {
	p := &probe{header: http.Header{}}
	verdict.ServeHTTP(p, r)
	if p.status == http.StatusMethodNotAllowed {
		d.notAllowed(w, p.header.Get("Allow"))
		return
	}
	d.Dialect.Write(w, core.E(core.NotFound, "Not found"))
}

func (d *Door) notAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	d.Dialect.Write(w, core.E(methodNotAllowed, "Method not allowed"))
}

// Only answers 405 by methods other than these: a route for what ServeMux would allow besides, as HEAD with every GET.
func (d *Door) Only(methods ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { d.notAllowed(w, strings.Join(methods, ", ")) })
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach Flush, which streams need.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// probe takes an answer that is never sent.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }
