package rest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"bursar/core"
)

// Dialect is one of the two spellings of this API.
type Dialect int

// The dialects.
const (
	IndieGent Dialect = iota // {"error": message}
	Agnic                    // {"error": code, "error_description": message}
)

// row is one line of the table: what a kind of error is in each dialect.
type row struct {
	indieGent int
	agnic     int
	agnicCode string
}

// table is THE error table. Statuses outside the published ones are chosen by HTTP meaning; see docs/adr.
var table = map[core.Code]row{
	core.InvalidRequest:      {http.StatusBadRequest, http.StatusBadRequest, "invalid_request"},
	core.Unauthorized:        {http.StatusUnauthorized, http.StatusUnauthorized, "unauthorized"},
	core.Forbidden:           {http.StatusForbidden, http.StatusForbidden, "insufficient_scope"},
	core.InsufficientBalance: {http.StatusPaymentRequired, http.StatusPaymentRequired, "insufficient_balance"},
	core.SpendingLimit:       {http.StatusPaymentRequired, http.StatusPaymentRequired, "spending_limit_exceeded"},
	core.CostExceedsMax:      {http.StatusUnprocessableEntity, http.StatusPaymentRequired, "payment_exceeds_max"},
	core.ApprovalRequired:    {http.StatusAccepted, http.StatusAccepted, "approval_required"},
	core.NotFound:            {http.StatusNotFound, http.StatusNotFound, "not_found"},
	core.Conflict:            {http.StatusConflict, http.StatusConflict, "conflict"},
	core.RateLimited:         {http.StatusTooManyRequests, http.StatusTooManyRequests, "rate_limited"},
	core.ServiceFailed:       {http.StatusBadGateway, http.StatusBadGateway, "upstream_error"},
	core.Timeout:             {http.StatusGatewayTimeout, http.StatusGatewayTimeout, "timeout"},
	core.ServerError:         {http.StatusInternalServerError, http.StatusInternalServerError, "server_error"},
}

// methodNotAllowed is the one answer of the door that is no error of core.
const methodNotAllowed core.Code = "method_not_allowed"

// serverErrorText is all that leaves the process of an error without a code.
const serverErrorText = "Internal server error"

// spell finds an error's status and code text. An unknown code is a server error.
func (d Dialect) spell(e *core.Error) (status int, code string) {
	if e.Code == methodNotAllowed {
		return http.StatusMethodNotAllowed, string(methodNotAllowed)
	}
	r, ok := table[e.Code]
	if !ok {
		r = table[core.ServerError]
	}
	if d == Agnic {
		return r.agnic, r.agnicCode
	}
	if e.Code == core.Conflict && e.Closed {
		return http.StatusBadRequest, r.agnicCode // contracts.md A.3: a closed or expired session is a bad request
	}
	return r.indieGent, r.agnicCode
}

// body is an error's JSON in the dialect.
func (d Dialect) body(e *core.Error) map[string]any {
	_, code := d.spell(e)
	message := e.Message
	if code == "server_error" {
		message = serverErrorText
	}
	b := map[string]any{"error": message}
	if d == Agnic {
		b["error"], b["error_description"] = code, message
		if l := e.Limit; l != nil {
			b["limit"], b["current"], b["requested"], b["max"] = limitName(l.Rule), l.Current.Dollars(), l.Requested.Dollars(), l.Max.Dollars()
		}
	}
	if e.Code == core.ApprovalRequired {
		d.waiting(b, e)
	}
	if e.Payment != "" {
		b["transaction_id"] = d.transactionID(e.Payment)
	}
	if e.Trace != "" {
		b["trace_id"] = e.Trace
	}
	if e.Offer != nil {
		b["offer"] = offer(*e.Offer)
	}
	return b
}

// waiting is the answer to a call that waits for a person, which is no error in the IndieGent dialect.
func (d Dialect) waiting(b map[string]any, e *core.Error) {
	if d == IndieGent {
		delete(b, "error")
		b["status"] = string(core.ApprovalRequired)
	}
	if e.Approval == nil {
		return
	}
	b["approval_id"] = e.Approval.ID
	if d == IndieGent {
		b["approval"] = approvalBody(e.Approval)
	}
}

func (d Dialect) transactionID(id string) string {
	if d == Agnic {
		return "tx_" + id
	}
	return id
}

// Write answers with an error. Use Door.Fail, which also logs it.
func (d Dialect) Write(w http.ResponseWriter, e *core.Error) {
	status, _ := d.spell(e)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(e.RetrySeconds(), 10))
	}
	WriteJSON(w, status, d.body(e))
}

// Fail answers a request that failed. An error without a code is logged with its cause and tells the caller
// nothing.
func (d *Door) Fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	if e.Payment != "" {
		Note(r.Context(), e.Payment)
	}
	d.logError(r.Context(), e)
	d.Dialect.Write(w, e)
}

// asError is core.AsError, knowing besides what the door itself meets: a body that is too large, and a client
// that has gone away (whose answer nobody reads).
func asError(err error) *core.Error {
	var e *core.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &tooLarge):
		return core.E(core.InvalidRequest, "The request body is larger than %d bytes", tooLarge.Limit)
	case errors.Is(err, context.Canceled):
		return &core.Error{Code: core.ServiceFailed, Message: "The client closed the request", Err: err}
	}
	return core.AsError(err)
}

func (d *Door) logError(ctx context.Context, e *core.Error) {
	level := slog.LevelInfo
	if _, known := table[e.Code]; e.Code == core.ServerError || (!known && e.Code != methodNotAllowed) {
		level = slog.LevelError
	} else if e.Code != core.ServiceFailed && e.Code != core.Timeout {
		return
	}
	d.log.LogAttrs(ctx, level, "request failed", slog.String("request_id", RequestID(ctx)), slog.String("message", e.Message), slog.Any("error", e.Err))
}

// limitNames spells a rule as the Agnic limit detail does; other rules keep their name.
var limitNames = map[string]string{
	"token_daily": "daily", "token_monthly": "monthly", "max_per_transaction": "per_transaction", "per_call_max": "per_transaction",
	"org_daily": "daily", "org_monthly": "monthly", "org_cap": "spending_cap",
}

func limitName(rule string) string {
	if n, ok := limitNames[rule]; ok {
		return n
	}
	return rule
}
