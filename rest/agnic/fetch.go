package agnic

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/rest"
)

// ownHeaders are the request headers that speak to this server and are not forwarded. Credentials are sorted out by
// credentials; core strips what belongs to the connection, and any credential of ours, wherever it stands.
var ownHeaders = []string{"X-Agnic-Token", rest.SessionHeader, rest.ApprovalHeader, "Cookie"}

// fetch is POST /api/x402/fetch: the target's own answer, unchanged, and what it cost in headers.
func (a *api) fetch(w http.ResponseWriter, r *http.Request) {
	ours, theirs := credentials(r.Header)
	r.Header = ours
	a.door.Paying(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := fetchInput(w, r, theirs)
		if err != nil {
			a.door.Fail(w, r, err)
			return
		}
		res, err := a.app.Payments.Fetch(r.Context(), rest.Principal(r.Context()), in)
		if err != nil {
			a.door.Fail(w, r, published(err))
			return
		}
		if res.Verdict != nil {
			rest.WriteJSON(w, http.StatusOK, rest.Verdict(res.Verdict))
			return
		}
		a.answer(w, r, res)
	})).ServeHTTP(w, r)
}

// credentials splits a request's header: the caller proves itself by the first of X-Agnic-Token, Authorization and
// X-API-Key; the others are meant for the target.
func credentials(h http.Header) (ours, theirs http.Header) {
	ours, theirs = maps.Clone(h), maps.Clone(h) // names are taken out; values stay as they are
	c := rest.Credentials(h)
	switch {
	case c.AgnicToken != "":
		ours.Del("Authorization")
		ours.Del("X-API-Key")
	case c.Bearer != "":
		ours.Del("X-API-Key")
		theirs.Del("Authorization")
	default:
		theirs.Del("X-API-Key")
	}
	for _, name := range ownHeaders {
		theirs.Del(name)
	}
	return ours, theirs
}

// methods that the target may be called with.
var methods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true, http.MethodDelete: true,
}

// fetchInput reads the query, header and body. The method is the query's; without one it is GET, whatever the body
// (contracts: "default GET").
func fetchInput(w http.ResponseWriter, r *http.Request, header http.Header) (core.FetchInput, error) {
	q, err := rest.Agnic.Query(r, "url", "method", "maxValue", "dry_run", "timeout", "approvalWait")
	in := core.FetchInput{
		DefaultWallet: true, Stream: true, URL: q.Get("url"), Method: strings.ToUpper(q.Get("method")), SessionID: r.Header.Get(rest.SessionHeader), Header: header,
	}
	if err != nil {
		return in, err
	}
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if !methods[in.Method] {
		return in, core.E(core.InvalidRequest, "method must be GET, HEAD, POST, PUT, PATCH or DELETE")
	}
	if q.Has("maxValue") {
		v, err := money.ParseAtomic(q.Get("maxValue"))
		if err != nil {
			return in, &core.Error{Code: core.InvalidRequest, Message: "maxValue must be a whole number of atomic USDC", Err: err}
		}
		in.MaxCost = &v
	}
	if q.Has("dry_run") {
		if in.DryRun, err = strconv.ParseBool(q.Get("dry_run")); err != nil {
			return in, core.E(core.InvalidRequest, "dry_run must be true or false")
		}
	}
	if in.IdempotencyKey, err = rest.IdempotencyKey(r.Header); err != nil { // ours, and the target's as well
		return in, err
	}
	if in.ApprovalID, err = rest.ApprovalID(r.Header); err != nil {
		return in, err
	}
	if in.ApprovalWait, err = rest.ApprovalWait("approvalWait", q.Get("approvalWait")); err != nil {
		return in, err
	}
	if in.Timeout, err = timeout(q.Get("timeout")); err != nil {
		return in, err
	}
	body, err := rest.ReadBody(w, r)
	if err != nil {
		return in, err
	}
	if in.Method != http.MethodGet && in.Method != http.MethodHead {
		in.Body = body
		return in, nil
	}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Expect"} { // of a body that is not forwarded
		in.Header.Del(name)
	}
	return in, nil
}

// timeout reads milliseconds; core brings them into its bounds. Absent is zero, which is core's default.
func timeout(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseUint(text, 10, 31)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is a very long time: ms is the longest
		return 0, core.E(core.InvalidRequest, "timeout must be a whole number of milliseconds")
	}
	return max(time.Duration(ms)*time.Millisecond, 1), nil
}

// published gives an error the description that the dialect's programs know: a limit's figures have fields of their
// own.
func published(err error) error {
	var e *core.Error
	if !errors.As(err, &e) {
		return err
	}
	known := *e
	switch {
	case e.Code == core.CostExceedsMax:
		known.Message = "Payment exceeds maximum allowed value"
	case e.Limit != nil:
		known.Message, _, _ = strings.Cut(e.Message, ":")
	}
	return &known
}

// answer is the target's, with what is ours to say.
func (a *api) answer(w http.ResponseWriter, r *http.Request, res *core.FetchResult) {
	h := w.Header()
	h["Content-Type"] = nil // none is guessed where the target has none
	for name, values := range res.Header {
		if forwarded(name, fromBrowser(r)) {
			h[name] = values
		}
	}
	paidHeaders(h, res)
	if res.Payment != nil {
		rest.Note(r.Context(), res.Payment.ID.String())
	}
	a.door.Stream(w, r, res.Status, res.Stream, res.Length)
}

// paidHeaders tell what the call cost. A proof that the service did not honour is not "paid" (contracts: B.1), though
// its amount stays reserved until the chain has spoken: X-Agnic-Transaction names it.
func paidHeaders(h http.Header, res *core.FetchResult) {
	paid := res.Paid && res.Payment.Status != transaction.StatusUnknown
	h.Set("X-Agnic-Paid", strconv.FormatBool(paid))
	if res.Payment != nil {
		h.Set("X-Agnic-Transaction", transactionID(res.Payment))
		if at := core.DecidedBy(res.Payment); at != nil && res.Payment.Status == transaction.StatusUnknown {
			h.Set("X-Agnic-Decided-By", stamp(*at))
		}
	}
	if paid {
		h.Set("X-Agnic-Amount", res.Cost.Dollars().String())
		h.Set("X-Agnic-Network", res.Network)
		h.Set("X-Agnic-Scheme", res.Scheme)
	}
}

// originHeaders are those that a browser would take for this server's own word about its origin.
var originHeaders = map[string]bool{"Set-Cookie": true, "Strict-Transport-Security": true, "Alt-Svc": true, "Clear-Site-Data": true}

// forwarded tells which of the target's headers are passed on: all but what is for us to say.
func forwarded(name string, browser bool) bool {
	if strings.HasPrefix(name, "X-Agnic-") {
		return false
	}
	return !browser || !(originHeaders[name] || strings.HasPrefix(name, "Access-Control-"))
}

func transactionID(t *ent.Transaction) string { return "tx_" + t.ID.String() }
