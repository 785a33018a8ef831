// Package resolvers is the GraphQL door: each method reads its input, makes one call into core, and returns.
package resolvers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/extension"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/core"
	"bursar/graph"
	"bursar/graph/ws"
	"bursar/rest"
)

// Options is what the door takes from server.go.
type Options struct {
	Log      *slog.Logger
	Clock    core.Clock
	GraphiQL bool // serve the page at /graphiql
}

// Resolver answers the schema's fields.
type Resolver struct{ *core.Core }

// Server is the mounted door.
type Server struct{ sockets *ws.Transport }

// Shutdown tells every websocket client that the server stops, and waits for operations under way.
func (s *Server) Shutdown(ctx context.Context) error { return s.sockets.Shutdown(ctx) }

// Bounds of a request. They are judged before validation, which is quadratic in what it is given.
const (
	maxBody       = 1 << 20 // bytes
	maxTokens     = 2000
	maxSelections = 400 // fields and fragments of a document
	maxDepth      = 12
	maxAliases    = 30
	maxComplexity = 1500
	cachedQueries = 500
)

// Mount serves /graphql over HTTP and websocket, and the page.
func Mount(mux *http.ServeMux, app *core.Core, o Options) *Server {
	s := &Server{sockets: &ws.Transport{InitFunc: initFunc(app), Clock: o.Clock, Logger: o.Log}}
	h := handler.New(graph.NewExecutableSchema(graph.Config{Resolvers: &Resolver{app}}))
	h.AddTransport(s.sockets)
	h.AddTransport(transport.Options{})
	h.AddTransport(transport.GET{})
	h.AddTransport(transport.POST{})
	h.SetParserTokenLimit(maxTokens)
	h.SetDisableSuggestion(true)
	h.SetQueryCache(newQueryCache(cachedQueries))
	h.SetErrorPresenter(present(o.Log))
	h.SetRecoverFunc(func(ctx context.Context, fault any) error {
		o.Log.ErrorContext(ctx, "panic in a resolver", "panic", fault)
		return &core.Error{Code: core.ServerError}
	})
	h.Use(limits{})
	h.Use(extension.FixedComplexityLimit(maxComplexity))
	h.Use(extension.Introspection{})
	mux.Handle("/graphql", authenticated(app, h))
	if o.GraphiQL {
		mux.HandleFunc("GET /graphiql", page)
	}
	return s
}

type principalKey struct{}

// caller is who sent the request; the zero Principal, which core refuses, when nobody said.
func caller(ctx context.Context) core.Principal {
	p, _ := ctx.Value(principalKey{}).(core.Principal)
	return p
}

// authenticated puts the caller into the request's context. A request without a credential goes on: registering
// and signing in need none.
func authenticated(app *core.Core, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		c := rest.Credentials(r.Header)
		if c == (core.Credentials{}) || r.Header.Get("Upgrade") != "" {
			next.ServeHTTP(w, r) // a socket's credential is judged by initFunc
			return
		}
		p, _, err := app.Auth.Authenticate(r.Context(), c)
		if err != nil {
			e := core.AsError(err)
			rest.WriteJSON(w, http.StatusUnauthorized, map[string]any{"errors": []any{
				map[string]any{"message": e.Message, "extensions": map[string]any{"code": codeOf(e)}},
			}})
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, p)))
	})
}

// initFunc authenticates a websocket from connection_init ("Authorization", "X-API-Key" or "X-Agnic-Token", in any
// letter case), or from the headers of its upgrade request.
func initFunc(app *core.Core) ws.InitFunc {
	return func(ctx context.Context, r *http.Request, payload map[string]any) (context.Context, any, time.Time, error) {
		h := http.Header{}
		for name, value := range payload {
			if text, ok := value.(string); ok {
				h.Set(strings.ReplaceAll(name, "_", "-"), text)
			}
		}
		c := rest.Credentials(h)
		if c == (core.Credentials{}) {
			c = rest.Credentials(r.Header)
		}
		p, until, err := app.Auth.Authenticate(ctx, c)
		if err != nil {
			return nil, nil, time.Time{}, errors.New("Forbidden")
		}
		return context.WithValue(ctx, principalKey{}, p), nil, until, nil
	}
}

func codeOf(e *core.Error) string { return strings.ToUpper(string(e.Code)) }

// present spells an error: the code upper-cased, which limit refused, and which payment it concerns. The cause of
// a server error is logged and stays here.
func present(log *slog.Logger) graphql.ErrorPresenterFunc {
	return func(ctx context.Context, err error) *gqlerror.Error {
		var own *gqlerror.Error
		if errors.As(err, &own) && own.Err == nil {
			return own // the request's own fault: syntax, validation, limits
		}
		e := core.AsError(err)
		out := &gqlerror.Error{Message: e.Message, Path: graphql.GetPath(ctx), Extensions: map[string]any{"code": codeOf(e)}}
		if own != nil {
			out.Path, out.Locations = own.Path, own.Locations
		}
		if e.Code == core.ServerError {
			log.ErrorContext(ctx, "request failed", "path", out.Path.String(), "error", e.Err)
			out.Message = "Internal server error"
		}
		if e.Payment != "" {
			out.Extensions["transactionId"] = e.Payment
		}
		if l := e.Limit; l != nil {
			out.Extensions["limit"] = map[string]any{"rule": l.Rule, "current": l.Current.String(), "requested": l.Requested.String(), "max": l.Max.String()}
		}
		return out
	}
}

// Query, Mutation, Subscription and Transaction are the schema's roots and the one record with a computed field.

// Query answers queries.
func (r *Resolver) Query() graph.QueryResolver { return query{r} }

// Mutation answers mutations.
func (r *Resolver) Mutation() graph.MutationResolver { return mutation{r} }

// Subscription answers subscriptions.
func (r *Resolver) Subscription() graph.SubscriptionResolver { return subscription{r} }

// Transaction answers the computed fields of a record.
func (r *Resolver) Transaction() graph.TransactionResolver { return transactionFields{} }

type (
	query             struct{ *Resolver }
	mutation          struct{ *Resolver }
	subscription      struct{ *Resolver }
	transactionFields struct{}
)
