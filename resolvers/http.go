package resolvers

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/core"
)

// The media types of answers. Only the first promises that the status tells a refusal from an answer.
const (
	typeGraphQL = "application/graphql-response+json"
	typeJSON    = "application/json"
)

// overHTTP answers POST, and GET for queries, as the GraphQL-over-HTTP draft says. gqlgen's own transports repeat a
// body that they cannot read, and have no status for a missing credential.
type overHTTP struct{}

// observed tells of each request that is not a websocket.
func (s *Server) observed(o Options, next http.Handler) http.Handler {
	if o.Observe == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.sockets.Supports(r) {
			next.ServeHTTP(w, r)
			return
		}
		out, start := &statusWriter{ResponseWriter: w, status: http.StatusOK}, o.Clock()
		defer func() { o.Observe("/graphql", out.status, o.Clock().Sub(start)) }()
		next.ServeHTTP(out, r)
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Supports takes whatever the websocket leaves.
func (overHTTP) Supports(*http.Request) bool { return true }

// Do answers one request.
func (overHTTP) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	start := graphql.Now()
	params, status, problem := readParams(r)
	if problem != "" {
		reply(w, r, status, &graphql.Response{Errors: gqlerror.List{invalid(problem)}})
		return
	}
	params.Headers, params.ReadTime = r.Header, graphql.TraceTiming{Start: start, End: graphql.Now()}
	op, errs := exec.CreateOperationContext(r.Context(), params)
	ctx := graphql.WithOperationContext(r.Context(), op)
	if len(errs) > 0 {
		response := exec.DispatchError(ctx, errs)
		reply(w, r, statusOf(response.Errors...), response)
		return
	}
	switch kind := op.Operation.Operation; {
	case kind == ast.Subscription:
		reply(w, r, http.StatusBadRequest, &graphql.Response{Errors: gqlerror.List{invalid("Subscriptions need a WebSocket")}})
	case kind != ast.Query && r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		reply(w, r, http.StatusMethodNotAllowed, &graphql.Response{Errors: gqlerror.List{invalid("Mutations need POST")}})
	default:
		responses, opCtx := exec.DispatchOperation(ctx, op)
		if response := responses(opCtx); response != nil { // else the client has gone
			reply(w, r, http.StatusOK, response)
		}
	}
}

func invalid(problem string) *gqlerror.Error {
	return fault(strings.ToUpper(string(core.InvalidRequest)), "%s", problem)
}

// readParams reads a request, or says what is wrong with it.
func readParams(r *http.Request) (p *graphql.RawParams, status int, problem string) {
	switch r.Method {
	case http.MethodPost:
		return fromBody(r)
	case http.MethodGet:
		return fromURL(r.URL)
	}
	return nil, http.StatusMethodNotAllowed, "Use POST, or GET for a query"
}

func fromBody(r *http.Request) (p *graphql.RawParams, status int, problem string) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != typeJSON {
		return nil, http.StatusUnsupportedMediaType, "Content-Type must be application/json"
	}
	p = &graphql.RawParams{}
	d := json.NewDecoder(r.Body)
	d.UseNumber()
	err := d.Decode(p)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return p, 0, ""
		}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, "The body may have at most 1 MiB"
	}
	return nil, http.StatusBadRequest, "The body must be one JSON object"
}

func fromURL(u *url.URL) (p *graphql.RawParams, status int, problem string) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil { // nothing is read in part
		return nil, http.StatusBadRequest, "The query of the URL is malformed"
	}
	p = &graphql.RawParams{Query: q.Get("query"), OperationName: q.Get("operationName")}
	for name, into := range map[string]*map[string]any{"variables": &p.Variables, "extensions": &p.Extensions} {
		if !q.Has(name) {
			continue
		}
		d := json.NewDecoder(strings.NewReader(q.Get(name)))
		d.UseNumber()
		if d.Decode(into) != nil {
			return nil, http.StatusBadRequest, name + " must be a JSON object"
		}
	}
	return p, 0, ""
}

// statusOf is the status of a request that was not executed.
func statusOf(errs ...*gqlerror.Error) int {
	for _, e := range errs {
		switch e.Extensions["code"] {
		case strings.ToUpper(string(core.Unauthorized)):
			return http.StatusUnauthorized
		case strings.ToUpper(string(core.ServerError)):
			return http.StatusInternalServerError
		}
	}
	return http.StatusBadRequest
}

// reply writes an answer. In application/json a document's mistake is told with 200, which clients of that type
// expect.
func reply(w http.ResponseWriter, r *http.Request, status int, response *graphql.Response) {
	kind := accepted(r.Header.Get("Accept"))
	if status == http.StatusBadRequest && kind == typeJSON && response.Errors[0].Extensions["code"] != strings.ToUpper(string(core.InvalidRequest)) {
		status = http.StatusOK
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", kind+"; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(response)
}

// accepted is the first of our two types that the client names; who names none gets application/json.
func accepted(header string) string {
	for part := range strings.SplitSeq(header, ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case typeGraphQL, typeJSON:
			return kind
		}
	}
	return typeJSON
}
