package indiegent

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/rest"
)

const secondsPerDay = 24 * 60 * 60

// ListSessions is GET /sessions.
func (a *api) ListSessions(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		views, err := a.app.Sessions.List(r.Context(), caller(r), nil)
		if err != nil {
			return nil, err
		}
		return SessionList{Sessions: each(views, sessionBody)}, nil
	})
}

// OpenSession is POST /sessions.
func (a *api) OpenSession(w http.ResponseWriter, r *http.Request, params OpenSessionParams) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var raw SessionRequest
		if err := body(w, r, &raw); err != nil {
			return nil, err
		}
		if raw.AgentWalletId == "" {
			return nil, core.E(core.InvalidRequest, "agent_wallet_id is required")
		}
		id, err := parseID(raw.AgentWalletId, "Agent wallet")
		if err != nil {
			return nil, err
		}
		deposit, err := rest.Dollars("deposit_amount", raw.DepositAmount)
		if err != nil {
			return nil, err
		}
		if deposit == nil {
			return nil, core.E(core.InvalidRequest, "deposit_amount is required")
		}
		in := core.OpenSessionInput{AgentID: id, Deposit: *deposit, IdempotencyKey: params.IdempotencyKey}
		seconds, err := rest.Integer("duration", raw.Duration, 1, secondsPerDay)
		if err != nil {
			return nil, err
		}
		if seconds != nil {
			in.Duration = time.Duration(*seconds) * time.Second
		}
		v, err := a.app.Sessions.Open(r.Context(), caller(r), in)
		if err != nil {
			return nil, err
		}
		return SessionAnswer{Session: sessionBody(v)}, nil
	})
}

// GetSession is GET /sessions/{id}.
func (a *api) GetSession(w http.ResponseWriter, r *http.Request, path SessionID) {
	a.withSession(w, r, path, a.app.Sessions.Get)
}

// CloseSession is POST /sessions/{id}/close.
func (a *api) CloseSession(w http.ResponseWriter, r *http.Request, path SessionID, params CloseSessionParams) {
	a.withSession(w, r, path, func(ctx context.Context, p core.Principal, id uuid.UUID) (*core.SessionView, error) {
		return a.app.Sessions.Close(ctx, p, id, params.IdempotencyKey)
	})
}

type sessionFunc func(context.Context, core.Principal, uuid.UUID) (*core.SessionView, error)

func (a *api) withSession(w http.ResponseWriter, r *http.Request, path SessionID, f sessionFunc) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		id, err := parseID(path, "Session")
		if err != nil {
			return nil, err
		}
		v, err := f(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return SessionAnswer{Session: sessionBody(v)}, nil
	})
}
