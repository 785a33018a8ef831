package indiegent

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

const servicePath = "/services/{service}/{endpoint...}"

// serviceMethods are those by which a service of the catalogue is called.
var serviceMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// callService is /services/:service/<endpoint>: the service's own answer, and what it cost.
func (a *api) callService(w http.ResponseWriter, r *http.Request) {
	in, err := serviceInput(w, r)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	res, err := a.app.Payments.Fetch(r.Context(), caller(r), in)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	if res.Payment != nil {
		rest.Note(r.Context(), res.Payment.ID.String())
	}
	serviceAnswer(w, res)
}

func serviceInput(w http.ResponseWriter, r *http.Request) (core.FetchInput, error) {
	in := core.FetchInput{
		Agent: r.Header.Get(rest.AgentHeader), SessionID: r.Header.Get(rest.SessionHeader), Service: r.PathValue("service"), Method: r.Method,
		Header: r.Header,
	}
	// The path goes on as it is written: /services/<name>/<the rest>.
	if _, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/services/"), "/"); ok {
		in.URL = rest
	}
	if r.URL.RawQuery != "" {
		in.URL += "?" + r.URL.RawQuery
	}
	var err error
	if in.IdempotencyKey, err = rest.IdempotencyKey(r.Header); err != nil {
		return in, err
	}
	if in.ApprovalID, err = rest.ApprovalID(r.Header); err != nil {
		return in, err
	}
	in.Body, err = rest.ReadBody(w, r)
	return in, err
}

// serviceReceipt is what the call cost, as the reference shows it.
func serviceReceipt(res *core.FetchResult) ServiceReceipt {
	paid := ServiceReceipt{Payment: "none", Cost: res.Cost.CostUSD(), TxHash: res.TxHash}
	switch {
	case res.SessionID != nil:
		paid.Payment, paid.SessionId, paid.SessionRemaining = core.PaidBySession, res.SessionID, remaining(res.SessionRemaining)
	case res.Paid:
		paid.Payment = "onchain"
	}
	if res.Payment != nil {
		paid.TransactionId = &res.Payment.ID
	}
	return paid
}

func remaining(v *money.USDC) *string {
	text := v.RemainingUSD()
	return &text
}

// serverOnly are headers of a service that a client would take for this server's own word, or a cache between them: an answer
// that somebody has paid for, with what is left of the session, is nobody else's.
var serverOnly = []string{
	"Set-Cookie", "Strict-Transport-Security", "Alt-Svc", "Clear-Site-Data", "X-Request-Id", "X-Content-Type-Options",
	"Cache-Control", "Cdn-Cache-Control", "Surrogate-Control", "Expires", "Age",
}

const receiptHeader = "X-Indiegent-"

func serviceAnswer(w http.ResponseWriter, res *core.FetchResult) {
	h := w.Header()
	h["Content-Type"] = nil // none is guessed where the service has none
	for name, values := range res.Header {
		if !strings.HasPrefix(name, receiptHeader) && !strings.HasPrefix(name, "Access-Control-") && !slices.Contains(serverOnly, name) {
			h[name] = values
		}
	}
	paid := serviceReceipt(res)
	body, merged := withReceipt(res.Header.Get("Content-Type"), res.Body, paid)
	if merged {
		h.Del("ETag") // of other bytes
	} else {
		receiptHeaders(h, paid)
	}
	w.WriteHeader(res.Status)
	_, _ = w.Write(body) // a caller that has gone away is no error
}

func receiptHeaders(h http.Header, paid ServiceReceipt) {
	h.Set(receiptHeader+"Payment", paid.Payment)
	h.Set(receiptHeader+"Cost", paid.Cost)
	if paid.SessionId != nil {
		h.Set(receiptHeader+"Session-Id", paid.SessionId.String())
		h.Set(receiptHeader+"Session-Remaining", *paid.SessionRemaining)
	}
	if paid.TxHash != nil {
		h.Set(receiptHeader+"Tx-Hash", *paid.TxHash)
	}
	if paid.TransactionId != nil {
		h.Set(receiptHeader+"Transaction-Id", paid.TransactionId.String())
	}
}

const receiptKey = "_indiegent"

// withReceipt puts the receipt behind the last field of a JSON object, whose other bytes stay as they are. It reports
// false for any other answer, and for an object that has such a field already.
func withReceipt(contentType string, b []byte, paid ServiceReceipt) ([]byte, bool) {
	kind, _, err := mime.ParseMediaType(contentType)
	var fields map[string]json.RawMessage
	if err != nil || (kind != "application/json" && !strings.HasSuffix(kind, "+json")) || json.Unmarshal(b, &fields) != nil || fields == nil {
		return b, false
	}
	if _, taken := fields[receiptKey]; taken {
		return b, false
	}
	b = bytes.TrimSpace(b)
	out := append(bytes.Clone(b[:len(b)-1]), ","[:min(len(fields), 1)]...)
	out = append(out, `"`+receiptKey+`":`...)
	return append(append(out, bytes.TrimSpace(rest.Encode(paid))...), '}'), true
}
