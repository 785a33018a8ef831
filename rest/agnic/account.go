package agnic

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bursar/core"
	"bursar/ent/transaction"
	"bursar/rest"
)

// networks are those that the contract names; the server's own is one more.
var networks = map[string]bool{"base": true, "base-sepolia": true, "solana": true, "solana-devnet": true}

// GetBalance is GET /api/balance: the default wallet's money on one network.
func (a *api) GetBalance(w http.ResponseWriter, r *http.Request, q GetBalanceParams) {
	own := a.app.Network().Name
	asked := own
	if text(q.Network) != "" {
		asked = *q.Network
	}
	if asked != own && !networks[asked] {
		names := "base, base-sepolia, solana or solana-devnet"
		if !networks[own] {
			names = own + ", " + names
		}
		a.door.Fail(w, r, core.E(core.InvalidRequest, "network must be %s", names))
		return
	}
	v, err := a.app.Agents.Default(r.Context(), rest.Principal(r.Context()))
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, balanceBody(v, asked, own))
}

// Bounds of a page of history. Core clamps a page's size; its number is bounded so that the offset cannot overflow.
const (
	defaultLimit = 20
	maxLimit     = 100
	maxPage      = 1_000_000
)

// ListTransactions is GET /api/transactions: the payments of the default wallet.
func (a *api) ListTransactions(w http.ResponseWriter, r *http.Request, q ListTransactionsParams) {
	f, page, err := historyFilter(q)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	res, err := a.app.Transactions.List(r.Context(), rest.Principal(r.Context()), f)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, historyBody(res, page, f.Limit))
}

func historyFilter(q ListTransactionsParams) (f core.TransactionFilter, page int, err error) {
	page, err = whole("page", text(q.Page), 1, maxPage)
	if err != nil {
		return f, 0, err
	}
	limit, err := whole("limit", text(q.Limit), defaultLimit, math.MaxInt32)
	if err != nil {
		return f, 0, err
	}
	limit = min(limit, maxLimit)
	f = core.TransactionFilter{
		DefaultWallet: true, PaymentsOnly: true, Search: text(q.Search), Network: text(q.Network), Limit: limit, Offset: (page - 1) * limit,
	}
	if f.Statuses, err = statuses(text((*string)(q.Status))); err != nil {
		return f, 0, err
	}
	if f.From, err = moment("startDate", text(q.StartDate), false); err != nil {
		return f, 0, err
	}
	f.To, err = moment("endDate", text(q.EndDate), true)
	return f, page, err
}

// statuses are the states of a payment that the contract calls by one name.
func statuses(name string) ([]transaction.Status, error) {
	switch ListTransactionsParamsStatus(name) {
	case "":
		return nil, nil
	case Success:
		return []transaction.Status{transaction.StatusSuccess}, nil
	case Failed:
		return []transaction.Status{transaction.StatusFailed}, nil
	case Pending:
		return []transaction.Status{transaction.StatusPending, transaction.StatusUnknown}, nil
	}
	return nil, core.E(core.InvalidRequest, "status must be success, failed or pending")
}

// moment reads ISO 8601: a time with or without a zone, or a day; a day that ends a range is meant whole. A plus
// sign that was not escaped has become a blank on its way.
func moment(field, text string, end bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	text = strings.ReplaceAll(text, " ", "+")
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		if end && layout == time.DateOnly {
			t = t.AddDate(0, 0, 1).Add(-time.Microsecond)
		}
		return t.UTC(), nil
	}
	return time.Time{}, core.E(core.InvalidRequest, "%s must be an ISO 8601 date or time", field)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// whole reads a whole number from 1; empty counts as absent, as forms send it.
func whole(field, text string, otherwise, most int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < 1 || n > uint64(most) {
		return 0, core.E(core.InvalidRequest, "%s must be a whole number from 1 to %d", field, most)
	}
	return int(n), nil
}
