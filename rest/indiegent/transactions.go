package indiegent

import (
	"net/http"

	"github.com/google/uuid"

	"bursar/core"
)

// ListAgentTransactions is GET /agents/{id}/transactions.
func (a *api) ListAgentTransactions(w http.ResponseWriter, r *http.Request, path AgentID, params ListAgentTransactionsParams) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) { return a.history(r, &id, ListTransactionsParams(params)) })
}

// ListTransactions is GET /transactions.
func (a *api) ListTransactions(w http.ResponseWriter, r *http.Request, params ListTransactionsParams) {
	a.serve(w, r, http.StatusOK, func() (any, error) { return a.history(r, nil, params) })
}

func (a *api) history(r *http.Request, agent *uuid.UUID, params ListTransactionsParams) (any, error) {
	f := core.TransactionFilter{AgentID: agent}
	if params.Limit != nil {
		f.Limit = *params.Limit
	}
	if params.Offset != nil {
		f.Offset = *params.Offset
	}
	page, err := a.app.Transactions.List(r.Context(), caller(r), f)
	if err != nil {
		return nil, err
	}
	return TransactionPage{Transactions: each(page.Items, transactionBody), Total: page.Total}, nil
}
