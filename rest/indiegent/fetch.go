package indiegent

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"bursar/core"
	"bursar/ent/transaction"
	"bursar/rest"
)

// fetch is POST /external/fetch: the envelope around the service's answer.
func (a *api) fetch(w http.ResponseWriter, r *http.Request) {
	in, err := fetchInput(w, r)
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
	rest.WriteBody(w, http.StatusOK, fetchBody(res))
}

func fetchInput(w http.ResponseWriter, r *http.Request) (core.FetchInput, error) {
	in := core.FetchInput{Agent: r.Header.Get(rest.AgentHeader), SessionID: r.Header.Get(rest.SessionHeader), Header: http.Header{}}
	if _, err := rest.IndieGent.Query(r); err != nil { // a limit there would not be read
		return in, err
	}
	var raw FetchRequest
	if err := body(w, r, &raw); err != nil {
		return in, err
	}
	in.URL, in.Method, in.DryRun = raw.Url, strings.ToUpper(raw.Method), raw.DryRun
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, in.Method) {
		return in, core.E(core.InvalidRequest, "method must be GET, POST, PUT or DELETE")
	}
	for name, text := range raw.Headers {
		var value *string // nil for null
		if json.Unmarshal(text, &value) != nil || value == nil {
			return in, core.E(core.InvalidRequest, "headers: the value of %q must be a string", name)
		}
		if !plainHeader(name, *value) {
			return in, core.E(core.InvalidRequest, "headers: %q cannot be sent", name)
		}
		in.Header.Set(name, *value)
	}
	var err error
	if in.IdempotencyKey, err = rest.IdempotencyKey(r.Header); err != nil {
		return in, err
	}
	if err := approvalInput(&in, r.Header, raw); err != nil {
		return in, err
	}
	if in.MaxCost, err = rest.Dollars("max_cost", raw.MaxCost); err != nil {
		return in, err
	}
	in.Body = forwarded(raw.Body, in.Header)
	return in, nil
}

// approvalInput reads a person's yes, of the body or else the header, and how long one may be waited for.
func approvalInput(in *core.FetchInput, h http.Header, raw FetchRequest) (err error) {
	if in.ApprovalID, err = rest.ParseApprovalID(cmp.Or(raw.ApprovalId, h.Get(rest.ApprovalHeader))); err != nil {
		return err
	}
	in.ApprovalWait, err = rest.ApprovalWait("approval_wait", string(raw.ApprovalWait))
	return err
}

// forwarded is the body that goes to the service: a string as it is, anything else as JSON, null as nothing.
func forwarded(raw json.RawMessage, h http.Header) []byte {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []byte(text)
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	return raw
}

// plainHeader refuses what could split a request or is no token (RFC 9110 section 5.1).
func plainHeader(name, value string) bool {
	token := name != "" && strings.IndexFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	}) < 0
	return token && strings.IndexFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) < 0
}

// fetchBody writes the envelope. The service's JSON stands in it byte for byte, which encoding/json would not
// do, so the envelope is put together here.
func fetchBody(res *core.FetchResult) []byte {
	headers := make(map[string]string, len(res.Header))
	for name, values := range res.Header {
		headers[name] = strings.Join(values, ", ")
	}
	paid := Receipt{
		Cost: res.Cost.CostUSD(), PaymentMethod: res.Method, Service: res.Service, Agent: res.Agent.Slug, Unpayable: res.Unpayable,
	}
	if res.SessionRemaining != nil {
		paid.SessionRemaining = res.SessionRemaining.RemainingUSD()
	}
	if res.Payment != nil {
		paid.PaymentStatus, paid.TransactionId = res.Payment.Status.String(), &res.Payment.ID
		if res.Payment.Status == transaction.StatusUnknown {
			paid.DecidedBy = transactionBody(res.Payment).DecidedBy
		}
	}
	answer, encoding := embedded(res.Header.Get("Content-Type"), res.Body)
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"status":%d,"headers":%s,"body":%s`, res.Status, bytes.TrimSpace(rest.Encode(headers)), answer)
	if encoding != "" {
		fmt.Fprintf(&b, `,"encoding":%q`, encoding)
	}
	if res.Verdict != nil {
		fmt.Fprintf(&b, `,"verdict":%s`, bytes.TrimSpace(rest.Encode(rest.Verdict(res.Verdict))))
	}
	fmt.Fprintf(&b, `,"_indiegent":%s}`, rest.Encode(paid))
	return b.Bytes()
}

// embedded is an answer inside the envelope: JSON as it came, text as a string, anything else as base64.
func embedded(contentType string, b []byte) (value []byte, encoding string) {
	kind, _, err := mime.ParseMediaType(contentType)
	isJSON := err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
	switch {
	case !utf8.Valid(b):
		return bytes.TrimSpace(rest.Encode(base64.StdEncoding.EncodeToString(b))), "base64"
	case isJSON && json.Valid(b):
		return b, ""
	}
	return bytes.TrimSpace(rest.Encode(string(b))), ""
}
