package resolvers

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/core"
	"bursar/rest"
)

// What one credential may have open at once, and how often an open websocket's is judged again.
const (
	maxConnections = 100 // websockets: a dashboard in many tabs, or a fleet of agents under one key
	maxStreams     = 200 // subscriptions, over all its websockets
	recheckEvery   = 2 * time.Minute
)

type (
	principalKey  struct{}
	credentialKey struct{} // of a websocket: its credential, to be judged again
)

// caller is who sent the request; the zero Principal, which core refuses, when nobody said.
func caller(ctx context.Context) core.Principal {
	p, _ := ctx.Value(principalKey{}).(core.Principal)
	return p
}

func anonymous(ctx context.Context) bool { return caller(ctx).UserID == uuid.Nil }

func as(ctx context.Context, p core.Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// authenticated puts the caller into the request's context. A request without a credential goes on: registering
// and signing in need none. A websocket's credential is judged by init.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		c := rest.Credentials(r.Header)
		if c == (core.Credentials{}) || s.sockets.Supports(r) {
			next.ServeHTTP(w, r)
			return
		}
		p, _, err := s.app.Auth.Authenticate(r.Context(), c)
		if err != nil {
			shown := s.present(r.Context(), core.AsError(err))
			reply(w, r, statusOf(shown), &graphql.Response{Errors: gqlerror.List{shown}})
			return
		}
		next.ServeHTTP(w, r.WithContext(as(r.Context(), p)))
	})
}

// init authenticates a websocket from connection_init, or from the headers of its upgrade request. The
// connection ends with its credential, and when that is found revoked.
func (s *Server) init(ctx context.Context, r *http.Request, payload map[string]any) (context.Context, any, time.Time, error) {
	c := fromPayload(payload)
	if c == (core.Credentials{}) {
		c = rest.Credentials(r.Header)
	}
	p, until, err := s.app.Auth.Authenticate(ctx, c)
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	if !take(ctx, &s.connections, p) {
		return nil, nil, time.Time{}, errors.New("too many connections of one credential")
	}
	ctx, end := context.WithCancel(ctx)
	s.watch(ctx, c, end)
	return context.WithValue(as(ctx, p), credentialKey{}, c), nil, until, nil
}

// fromPayload reads the names of the HTTP headers, in any letter case, and apiKey and api_key.
func fromPayload(payload map[string]any) core.Credentials {
	h := http.Header{}
	for name, value := range payload {
		if text, ok := value.(string); ok {
			h.Set(strings.ReplaceAll(name, "_", "-"), text)
		}
	}
	for _, alias := range []string{"Apikey", "Api-Key"} {
		if h.Get("X-API-Key") == "" {
			h.Set("X-API-Key", h.Get(alias))
		}
	}
	return rest.Credentials(h)
}

// watch judges the credential of an open connection from time to time, until the connection ends.
func (s *Server) watch(ctx context.Context, c core.Credentials, end context.CancelFunc) {
	time.AfterFunc(s.recheck, func() {
		if ctx.Err() != nil {
			return
		}
		if _, _, err := s.app.Auth.Authenticate(ctx, c); err != nil && core.AsError(err).Code == core.Unauthorized {
			end()
			return
		}
		s.watch(ctx, c, end)
	})
}

// admit stands before every operation. Over a websocket it judges the credential anew, so that a revoked one
// neither reads nor spends over a connection that is still open; and it counts subscriptions.
func (s *Server) admit(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	if c, ok := ctx.Value(credentialKey{}).(core.Credentials); ok {
		p, _, err := s.app.Auth.Authenticate(ctx, c)
		if err != nil {
			return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{s.present(ctx, core.AsError(err))}})
		}
		ctx = as(ctx, p)
	}
	if graphql.GetOperationContext(ctx).Operation.Operation == ast.Subscription && !take(ctx, &s.streams, caller(ctx)) {
		return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{fault("TOO_MANY_SUBSCRIPTIONS",
			"Too many subscriptions: at most %d", s.streams.Max)}})
	}
	return next(ctx)
}

// take counts one more of a quota until ctx ends, or reports that there are too many.
func take(ctx context.Context, q *core.Quota, p core.Principal) bool {
	done, ok := q.Take(p)
	if ok {
		context.AfterFunc(ctx, done)
	}
	return ok
}
