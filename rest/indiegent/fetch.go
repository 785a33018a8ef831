package indiegent

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"bursar/core"
	"bursar/rest"
)

// fetch is POST /external/fetch: the envelope around the service's answer.
func (a *api) fetch(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		in, err := fetchInput(w, r)
		if err != nil {
			return nil, err
		}
		res, err := a.app.Payments.Fetch(r.Context(), caller(r), in)
		if err != nil {
			return nil, err
		}
		if res.Payment != nil {
			rest.Note(r.Context(), res.Payment.ID.String())
		}
		return fetchBody(res), nil
	})
}

func fetchInput(w http.ResponseWriter, r *http.Request) (core.FetchInput, error) {
	in := core.FetchInput{Agent: r.Header.Get("X-Agent-Wallet"), SessionID: r.Header.Get("X-Session-Id"), Header: http.Header{}}
	var raw struct {
		URL     string            `json:"url"`
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
		MaxCost json.RawMessage   `json:"max_cost"`
	}
	if err := body(w, r, &raw); err != nil {
		return in, err
	}
	in.URL, in.Method = raw.URL, strings.ToUpper(raw.Method)
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, in.Method) {
		return in, core.E(core.InvalidRequest, "method must be GET, POST, PUT or DELETE")
	}
	for name, value := range raw.Headers {
		if !plainHeader(name, value) {
			return in, core.E(core.InvalidRequest, "headers: %q cannot be sent", name)
		}
		in.Header.Set(name, value)
	}
	var err error
	if in.MaxCost, err = rest.Dollars("max_cost", raw.MaxCost); err != nil {
		return in, err
	}
	in.Body = forwarded(raw.Body, in.Header)
	return in, nil
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

type fetchWire struct {
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Body      any               `json:"body"`
	Encoding  string            `json:"encoding,omitempty"`
	IndieGent paidWire          `json:"_indiegent"`
}

type paidWire struct {
	Cost             string `json:"cost"`
	PaymentMethod    string `json:"payment_method"`
	SessionRemaining string `json:"session_remaining,omitempty"`
	Service          string `json:"service"`
	Agent            string `json:"agent"`
	PaymentStatus    string `json:"payment_status,omitempty"`
	TransactionID    string `json:"transaction_id,omitempty"`
	Unpayable        string `json:"unpayable,omitempty"`
}

func fetchBody(res *core.FetchResult) fetchWire {
	f := fetchWire{Status: res.Status, Headers: make(map[string]string, len(res.Header))}
	for name, values := range res.Header {
		f.Headers[name] = strings.Join(values, ", ")
	}
	f.Body, f.Encoding = embedded(res.Header.Get("Content-Type"), res.Body)
	f.IndieGent = paidWire{
		Cost: res.Cost.CostUSD(), PaymentMethod: res.Method, Service: res.Service, Agent: res.Agent.Slug, Unpayable: res.Unpayable,
	}
	if res.SessionRemaining != nil {
		f.IndieGent.SessionRemaining = res.SessionRemaining.RemainingUSD()
	}
	if res.Payment != nil {
		f.IndieGent.PaymentStatus, f.IndieGent.TransactionID = res.Payment.Status.String(), res.Payment.ID.String()
	}
	return f
}

// embedded is an answer inside the envelope: JSON byte for byte, text as a string, anything else as base64.
func embedded(contentType string, b []byte) (value any, encoding string) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")) && json.Valid(b) {
		return json.RawMessage(b), ""
	}
	if utf8.Valid(b) {
		return string(b), ""
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}
