// Package resolvers is the GraphQL door: each method reads its input, makes one call into core, and returns.
package resolvers

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/extension"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/vektah/gqlparser/v2/ast"

	"bursar/core"
	"bursar/graph"
	"bursar/graph/ws"
)

// Options is what the door takes from server.go.
type Options struct {
	Log      *slog.Logger
	Clock    core.Clock
	GraphiQL bool // serve the page at /graphiql
	// Observe hears of each answered HTTP request, not of websockets: its route, its status, its time. May be nil.
	Observe func(route string, status int, took time.Duration)
	Recheck time.Duration // how often the credential of an open websocket is judged again; zero: 2 min
}

// Resolver answers the schema's fields.
type Resolver struct{ *core.Core }

// Server is the mounted door.
type Server struct {
	app         *core.Core
	log         *slog.Logger
	recheck     time.Duration
	sockets     *ws.Transport
	connections core.Quota
	streams     core.Quota
}

// Shutdown tells every websocket client that the server stops, and waits for operations under way.
func (s *Server) Shutdown(ctx context.Context) error { return s.sockets.Shutdown(ctx) }

// cachedQueries is how many documents are kept parsed and validated.
const cachedQueries = 500

// Mount serves /graphql over HTTP and websocket, and the page.
func Mount(mux *http.ServeMux, app *core.Core, o Options) *Server {
	s := &Server{app: app, log: o.Log, recheck: o.Recheck}
	if s.recheck <= 0 {
		s.recheck = recheckEvery
	}
	s.connections.Max, s.streams.Max = maxConnections, maxStreams
	s.sockets = &ws.Transport{InitFunc: s.init, Clock: o.Clock, Logger: o.Log}
	mux.Handle("/graphql", s.observed(o, s.authenticated(s.handler(&Resolver{app}))))
	if o.GraphiQL {
		mux.HandleFunc("GET /graphiql", page)
	}
	return s
}

// handler is gqlgen's server with our transports and limits.
func (s *Server) handler(root graph.ResolverRoot) http.Handler {
	h := handler.New(graph.NewExecutableSchema(graph.Config{Resolvers: root, Complexity: weights()}))
	h.AddTransport(s.sockets)
	h.AddTransport(transport.Options{})
	h.AddTransport(overHTTP{})
	h.SetParserTokenLimit(maxTokens)
	h.SetDisableSuggestion(true)
	h.SetQueryCache(lru.New[*ast.QueryDocument](cachedQueries))
	h.SetErrorPresenter(s.present)
	h.SetRecoverFunc(s.recovered)
	h.AroundFields(coded)
	h.Use(limits{})
	h.Use(extension.FixedComplexityLimit(maxComplexity))
	h.Use(extension.Introspection{})
	h.AroundOperations(s.admit)
	h.AroundResponses(brief)
	return h
}

var _ graphql.Transport = overHTTP{}

// Query answers queries.
func (r *Resolver) Query() graph.QueryResolver { return query{r} }

// Mutation answers mutations.
func (r *Resolver) Mutation() graph.MutationResolver { return mutation{r} }

// Subscription answers subscriptions.
func (r *Resolver) Subscription() graph.SubscriptionResolver { return subscription{r} }

// Transaction answers the computed fields of a record.
func (r *Resolver) Transaction() graph.TransactionResolver { return transactionFields{r} }

// Agent answers the computed fields of an agent.
func (r *Resolver) Agent() graph.AgentResolver { return agentFields{r} }

// Session answers the computed fields of a session.
func (r *Resolver) Session() graph.SessionResolver { return sessionFields{r} }

// Trace answers the computed fields of a trace.
func (r *Resolver) Trace() graph.TraceResolver { return traceFields{r} }

// Approval answers the computed fields of a request for a person's yes.
func (r *Resolver) Approval() graph.ApprovalResolver { return approvalFields{r} }

// Policy answers the fields of a policy that are of one kind here and of three in the records.
func (r *Resolver) Policy() graph.PolicyResolver { return policyFields{} }

type (
	query             struct{ *Resolver }
	mutation          struct{ *Resolver }
	subscription      struct{ *Resolver }
	transactionFields struct{ *Resolver }
	agentFields       struct{ *Resolver }
	sessionFields     struct{ *Resolver }
	traceFields       struct{ *Resolver }
	approvalFields    struct{ *Resolver }
	policyFields      struct{}
)
