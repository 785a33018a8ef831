package agnic

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

// ownHeaders are the request headers that speak to this server and are not forwarded.
var ownHeaders = []string{"X-Agnic-Token", "X-Api-Key", "X-Session-Id", "Cookie", "X-Request-Id", "Origin", "Referer"}

// fetch is POST /api/x402/fetch: the target's own answer, unchanged, and what it cost in headers.
func (a *api) fetch(w http.ResponseWriter, r *http.Request) {
	in, err := fetchInput(w, r)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	res, err := a.app.Payments.Fetch(r.Context(), rest.Principal(r.Context()), in)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	for name, values := range res.Header {
		if !strings.HasPrefix(strings.ToLower(name), "x-agnic-") { // what is paid is for us to say
			w.Header()[name] = values
		}
	}
	w.Header().Set("X-Agnic-Paid", strconv.FormatBool(res.Paid))
	if res.Paid {
		w.Header().Set("X-Agnic-Amount", res.Cost.Dollars().String())
		w.Header().Set("X-Agnic-Network", res.Network)
		w.Header().Set("X-Agnic-Scheme", res.Scheme)
		w.Header().Set("X-Agnic-Transaction", transactionID(res.Payment))
		rest.Note(r.Context(), res.Payment.ID.String())
	}
	w.WriteHeader(res.Status)
	_, _ = w.Write(res.Body)
}

// fetchInput reads the query, headers and body. The method is the query's; without one it is GET, whatever the
// body (contracts: "default GET").
func fetchInput(w http.ResponseWriter, r *http.Request) (core.FetchInput, error) {
	q := r.URL.Query()
	in := core.FetchInput{
		DefaultWallet: true, URL: q.Get("url"), Method: strings.ToUpper(q.Get("method")), SessionID: r.Header.Get("X-Session-Id"), Header: r.Header.Clone(),
	}
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch}, in.Method) {
		return in, core.E(core.InvalidRequest, "method must be GET, POST, PUT, DELETE or PATCH")
	}
	for _, name := range ownHeaders {
		in.Header.Del(name)
	}
	if text := q.Get("maxValue"); text != "" {
		v, err := money.ParseAtomic(text)
		if err != nil {
			return in, core.E(core.InvalidRequest, "maxValue must be a whole number of atomic USDC")
		}
		in.MaxCost = &v
	}
	if text := q.Get("timeout"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 31)
		if err != nil || ms == 0 {
			return in, core.E(core.InvalidRequest, "timeout must be a number of milliseconds")
		}
		in.Timeout = time.Duration(ms) * time.Millisecond
	}
	body, err := rest.ReadBody(w, r)
	if err != nil {
		return in, err
	}
	if in.Method != http.MethodGet {
		in.Body = body
		return in, nil
	}
	in.Header.Del("Content-Type") // of a body that is not forwarded
	return in, nil
}
