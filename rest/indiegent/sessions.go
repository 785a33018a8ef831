package indiegent

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/rest"
)

const secondsPerDay = 24 * 60 * 60

func (a *api) sessions(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		views, err := a.app.Sessions.List(r.Context(), caller(r), nil)
		if err != nil {
			return nil, err
		}
		return map[string]any{"sessions": each(views, sessionBody)}, nil
	})
}

func (a *api) openSession(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var raw struct {
			Agent    string          `json:"agent_wallet_id"`
			Deposit  json.RawMessage `json:"deposit_amount"`
			Duration json.RawMessage `json:"duration"`
		}
		if err := body(w, r, &raw); err != nil {
			return nil, err
		}
		id, err := parseID(raw.Agent, "Agent")
		if err != nil {
			return nil, err
		}
		deposit, err := rest.Dollars("deposit_amount", raw.Deposit)
		if err != nil {
			return nil, err
		}
		if deposit == nil {
			return nil, core.E(core.InvalidRequest, "deposit_amount is required")
		}
		in := core.OpenSessionInput{AgentID: id, Deposit: *deposit}
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
		return map[string]any{"session": sessionBody(v)}, nil
	})
}

func (a *api) session(w http.ResponseWriter, r *http.Request) {
	a.withSession(w, r, a.app.Sessions.Get)
}

func (a *api) closeSession(w http.ResponseWriter, r *http.Request) {
	a.withSession(w, r, a.app.Sessions.Close)
}

func (a *api) withSession(w http.ResponseWriter, r *http.Request, f sessionFunc) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		id, err := pathID(r, "Session")
		if err != nil {
			return nil, err
		}
		v, err := f(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return map[string]any{"session": sessionBody(v)}, nil
	})
}

func (a *api) agentTransactions(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) { return a.history(r, &id) })
}

func (a *api) transactions(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) { return a.history(r, nil) })
}

func (a *api) history(r *http.Request, agent *uuid.UUID) (any, error) {
	f := core.TransactionFilter{AgentID: agent}
	var err error
	if f.Limit, err = count(r, "limit"); err != nil {
		return nil, err
	}
	if f.Offset, err = count(r, "offset"); err != nil {
		return nil, err
	}
	page, err := a.app.Transactions.List(r.Context(), caller(r), f)
	if err != nil {
		return nil, err
	}
	return map[string]any{"transactions": each(page.Items, transactionBody), "total": page.Total}, nil
}

// count reads a page's bound; absent is zero, which means the default.
func count(r *http.Request, name string) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 31)
	if err != nil || n < 0 {
		return 0, core.E(core.InvalidRequest, "%s must be a whole number from 0", name)
	}
	return int(n), nil
}
