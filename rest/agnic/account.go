package agnic

import (
	"net/http"
	"strconv"
	"time"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/rest"
)

// balance is GET /api/balance: the default wallet's money on one network. The server works on one chain; on the
// others the same address has nothing that it could spend, and Solana wallets do not exist here.
func (a *api) balance(w http.ResponseWriter, r *http.Request) {
	own := a.app.Network().Name
	asked := r.URL.Query().Get("network")
	if asked == "" {
		asked = own
	}
	switch asked {
	case own, "base", "base-sepolia", "solana", "solana-devnet":
	default:
		a.door.Fail(w, r, core.E(core.InvalidRequest, "network must be base, base-sepolia, solana or solana-devnet"))
		return
	}
	v, err := a.app.Agents.Default(r.Context(), rest.Principal(r.Context()))
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, balanceBody(v, asked, own))
}

const (
	defaultLimit = 20
	maxPageNo    = 1_000_000
)

// transactions is GET /api/transactions: the payments of the default wallet.
func (a *api) transactions(w http.ResponseWriter, r *http.Request) {
	f, page, err := historyFilter(r)
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

func historyFilter(r *http.Request) (core.TransactionFilter, int, error) {
	q := r.URL.Query()
	f := core.TransactionFilter{DefaultWallet: true, PaymentsOnly: true, Search: q.Get("search"), Network: q.Get("network")}
	page, err := positive(q.Get("page"), "page", 1, maxPageNo)
	if err != nil {
		return f, 0, err
	}
	if f.Limit, err = positive(q.Get("limit"), "limit", defaultLimit, maxPageNo); err != nil {
		return f, 0, err
	}
	f.Limit = min(f.Limit, 100)
	f.Offset = (page - 1) * f.Limit
	switch status := q.Get("status"); status {
	case "":
	case "success":
		f.Statuses = []transaction.Status{transaction.StatusSuccess}
	case "failed":
		f.Statuses = []transaction.Status{transaction.StatusFailed}
	case "pending":
		f.Statuses = []transaction.Status{transaction.StatusPending, transaction.StatusUnknown}
	default:
		return f, 0, core.E(core.InvalidRequest, "status must be success, failed or pending")
	}
	if f.From, err = date(q.Get("startDate"), "startDate", false); err != nil {
		return f, 0, err
	}
	f.To, err = date(q.Get("endDate"), "endDate", true)
	return f, page, err
}

func positive(text, name string, otherwise, most int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, core.E(core.InvalidRequest, "%s must be a whole number from 1", name)
	}
	return n, nil
}

// date reads an ISO moment or a day; a day that ends a range is meant whole.
func date(text, name string, end bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, core.E(core.InvalidRequest, "%s must be an ISO 8601 date", name)
	}
	if end {
		t = t.AddDate(0, 0, 1).Add(-time.Microsecond)
	}
	return t, nil
}

func transactionID(t *ent.Transaction) string { return "tx_" + t.ID.String() }
