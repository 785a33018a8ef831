package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"unicode/utf8"

	"bursar/core"
	"bursar/money"
)

// MaxBody bounds a request's body, in bytes.
const MaxBody = 1 << 20

// ReadBody reads a request's whole body within the bound.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return nil, &core.Error{Code: core.InvalidRequest, Message: "The request body could not be read", Err: err}
	}
	return b, err
}

// checkObject refuses what is not exactly one JSON object in UTF-8.
func checkObject(b []byte) error {
	b = bytes.TrimLeft(b, " \t\r\n")
	switch {
	case len(b) == 0:
		return core.E(core.InvalidRequest, "A JSON body is required")
	case !utf8.Valid(b) || !json.Valid(b):
		return core.E(core.InvalidRequest, "The request body is not valid JSON")
	case b[0] != '{':
		return core.E(core.InvalidRequest, "The request body must be a JSON object")
	}
	return nil
}

// Decode reads a JSON object into v, which spells amounts as json.RawMessage. Unknown fields are
// ignored, as the published documentation allows additions, but for limits; a field that comes twice is refused.
func (d Dialect) Decode(b []byte, v any) error {
	if err := checkObject(b); err != nil {
		return err
	}
	if err := d.clear(b, reflect.TypeOf(v)); err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return badBody(err)
	}
	return nil
}

// badBody turns an error of encoding/json into one for people, which names the field.
func badBody(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return core.E(core.InvalidRequest, "%s must be %s", wrong.Field, kindName(wrong.Type))
	}
	return core.E(core.InvalidRequest, "The request body is not valid JSON")
}

func kindName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if name, ok := kindNames[t.Kind()]; ok {
		return name
	}
	return "a number"
}

var kindNames = map[reflect.Kind]string{
	reflect.String: "a string", reflect.Bool: "a boolean", reflect.Slice: "a list", reflect.Array: "a list",
	reflect.Map: "an object", reflect.Struct: "an object",
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 }

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// number takes a JSON number's literal; json.Number alone would take a string in quotes as well.
func number(raw json.RawMessage) (json.Number, bool) {
	text := string(bytes.TrimSpace(raw))
	if text == "" || !(text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) {
		return "", false
	}
	return json.Number(text), true
}

func badAmount(field, what string, err error) error {
	switch {
	case errors.Is(err, money.ErrNegative):
		return core.E(core.InvalidRequest, "%s must not be negative", field)
	case errors.Is(err, money.ErrPrecision):
		return core.E(core.InvalidRequest, "%s has more than %d decimals", field, money.Decimals)
	case errors.Is(err, money.ErrOutOfRange):
		return core.E(core.InvalidRequest, "%s is out of range", field)
	}
	return core.E(core.InvalidRequest, "%s must be %s", field, what)
}

const (
	wantDollars = "a plain number of US dollars, as in 5.00"
	wantAtomic  = "a whole number of atomic USDC, as in 50000000"
	wantText    = "a string of atomic USDC, as in \"25000000\""
)

// Dollars reads a JSON number of dollars from its literal. Absent is nil; null is refused, because "no limit" must
// not come about by accident.
func Dollars(field string, raw json.RawMessage) (*money.USDC, error) {
	if absent(raw) {
		return nil, nil
	}
	n, ok := number(raw)
	if !ok {
		return nil, badAmount(field, wantDollars, money.ErrSyntax)
	}
	v, err := money.FromJSONDollars(n)
	if err != nil {
		return nil, badAmount(field, wantDollars, err)
	}
	return &v, nil
}

// Atomic reads a JSON number of atomic units from its literal; null clears.
func Atomic(field string, raw json.RawMessage) (core.Optional[money.USDC], error) {
	var o core.Optional[money.USDC]
	if absent(raw) || isNull(raw) {
		o.Set = !absent(raw)
		return o, nil
	}
	n, ok := number(raw)
	if !ok {
		return o, badAmount(field, wantAtomic+", or null", money.ErrSyntax)
	}
	v, err := money.FromJSONAtomic(n)
	if err != nil {
		return o, badAmount(field, wantAtomic+", or null", err)
	}
	return core.Set(v), nil
}

// AtomicText reads a required string of atomic units.
func AtomicText(field string, raw json.RawMessage) (money.USDC, error) {
	if absent(raw) {
		return 0, core.E(core.InvalidRequest, "%s is required", field)
	}
	var text string
	if isNull(raw) || json.Unmarshal(raw, &text) != nil {
		return 0, badAmount(field, wantText, money.ErrSyntax)
	}
	v, err := money.ParseAtomic(text)
	if err != nil {
		return 0, badAmount(field, wantText, err)
	}
	return v, nil
}

// Integer reads an optional whole number within bounds; null counts as absent.
func Integer(field string, raw json.RawMessage, low, high int64) (*int64, error) {
	if absent(raw) || isNull(raw) {
		return nil, nil
	}
	n, ok := number(raw)
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if !ok || err != nil || v < low || v > high {
		return nil, core.E(core.InvalidRequest, "%s must be a whole number between %d and %d", field, low, high)
	}
	return &v, nil
}

// Text reads a string or null.
func Text(field string, raw json.RawMessage) (core.Optional[string], error) {
	var o core.Optional[string]
	if absent(raw) || isNull(raw) {
		o.Set = !absent(raw)
		return o, nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return o, core.E(core.InvalidRequest, "%s must be a string or null", field)
	}
	return core.Set(text), nil
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) { WriteBody(w, status, Encode(v)) }

// Encode is v as JSON, as it is: nothing is escaped for HTML. Only a programmer's error can make v unwritable, so
// that is a panic, which Handler turns into an answer.
func Encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Errorf("rest: encode answer: %w", err))
	}
	return b.Bytes()
}

// WriteBody answers with JSON that is written already.
func WriteBody(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
