package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"bursar/core"
)

// What limits a payment is never passed over: a query is read whole or refused, what counts has one value, and a limit under
// a name that its route does not read is refused, though other unknown names are ignored.

// guard is a way to limit what is paid.
type guard struct {
	indieGent, agnic           string   // its name; empty: the dialect has none
	whereIndieGent, whereAgnic string   // what to say where its route does not take it
	also                       []string // what else it is called
}

const (
	ofPolicy = "it is set by PUT /agents/{id}/policy"
	ofFetch  = "it is a field of POST /external/fetch"
	ofToken  = "it is set by POST /api/generate-n8n-token"
	ofQuery  = "it is a parameter of POST /api/x402/fetch"
	ofNobody = "the limits of a token are set by POST /api/generate-n8n-token"
)

// guards are all there are. A name of either dialect, or another, means the same in both, in any letter case, with dashes,
// underscores or without.
var guards = []guard{
	{"max_cost", "maxValue", ofFetch, ofQuery, nil},
	{"dry_run", "dry_run", ofFetch, ofQuery, nil},
	{"per_call_max", "maxPerTransaction", ofPolicy, ofToken, []string{"per_transaction", "max_per_call"}},
	{"daily_limit", "dailyLimit", ofPolicy, ofToken, nil},
	{"monthly_limit", "monthlyLimit", ofPolicy, ofToken, nil},
	{"spending_cap", "", ofPolicy, ofNobody, nil},
	{"require_session", "", ofPolicy, ofNobody, nil},
	{"allowed_services", "", ofPolicy, ofNobody, nil},
	{"blocked_services", "", ofPolicy, ofNobody, nil},
	{"budget_limit", "", "it is set by POST /departments", ofNobody, nil},
}

// guardOf finds a guard by any of its names, without what plain leaves out.
var guardOf = func() map[string]guard {
	out := map[string]guard{}
	for _, g := range guards {
		for _, name := range append([]string{g.indieGent, g.agnic}, g.also...) {
			out[plain(name)] = g
		}
	}
	delete(out, "")
	return out
}()

// plain is a name without its letter case, dashes and underscores.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' {
			return -1
		}
		return foldRune(r)
	}, name)
}

// fold makes names equal that encoding/json takes for the same field.
func fold(name string) string { return strings.Map(foldRune, name) }

// foldRune is the smallest of the runes that differ in their case alone, as in encoding/json.
func foldRune(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}

// unread refuses a name that the route does not read when it means a limit. takes tells which names it reads.
func (d Dialect) unread(kind, name string, takes func(string) bool) error {
	g, ok := guardOf[plain(name)]
	if !ok {
		return nil
	}
	own, where := g.indieGent, g.whereIndieGent
	if d == Agnic {
		own, where = g.agnic, g.whereAgnic
	}
	if own != "" && takes(own) {
		where = "did you mean " + own
	}
	return core.E(core.InvalidRequest, "unknown %s %q: %s", kind, name, where)
}

// malformed refuses a query that url.Values would hold in part.
func malformed(query string) error {
	if _, err := url.ParseQuery(query); err != nil {
		return &core.Error{Code: core.InvalidRequest, Message: "The query is malformed; a percent sign is written %25 there, a semicolon %3B", Err: err}
	}
	return nil
}

// Query reads the parameters of a call that may pay. Each of names counts, and comes once at most.
func (d Dialect) Query(r *http.Request, names ...string) (url.Values, error) {
	q := r.URL.Query() // Handler has refused what is malformed
	for _, name := range names {
		if len(q[name]) > 1 {
			return nil, core.E(core.InvalidRequest, "%s must be sent once", name)
		}
	}
	for name := range q {
		if slices.Contains(names, name) {
			continue
		}
		if err := d.unread("parameter", name, func(own string) bool { return slices.Contains(names, own) }); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// SessionHeader names the session that pays, AgentHeader the agent.
const (
	SessionHeader = "X-Session-Id"
	AgentHeader   = "X-Agent-Wallet"
)

// onePayer refuses headers that do not say clearly who pays, and by whose yes. An empty session would mean the wallet: a
// variable that is not set must not choose it.
func onePayer(h http.Header) error {
	for _, name := range []string{SessionHeader, AgentHeader, ApprovalHeader} {
		values := h.Values(name)
		for _, v := range values {
			if v != values[0] {
				return core.E(core.InvalidRequest, "%s must be sent once", name)
			}
		}
	}
	if values := h.Values(SessionHeader); len(values) > 0 && strings.TrimSpace(values[0]) == "" {
		return core.E(core.InvalidRequest, "%s is empty; without a session leave it out", SessionHeader)
	}
	return nil
}

// clear refuses an object that could mean two things to two readers, or whose limits would not be read. t is what it is
// decoded into. What is no part of t, or a json.RawMessage of it, belongs to others, and is not looked into.
func (d Dialect) clear(object []byte, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	in := json.NewDecoder(bytes.NewReader(object))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return nil //nolint:nilerr // the decoder says what is wrong, with the field's name
	}
	fields, seen := fieldsOf(t), map[string]bool{}
	takes := func(name string) bool { _, ok := fields[fold(name)]; return ok }
	for in.More() {
		key, err := in.Token()
		name, _ := key.(string)
		var value json.RawMessage
		if err != nil || in.Decode(&value) != nil {
			return core.E(core.InvalidRequest, "The request body is not valid JSON")
		}
		folded := fold(name)
		if seen[folded] {
			return core.E(core.InvalidRequest, "The field %q is given twice", name[:min(len(name), maxNameShown)])
		}
		seen[folded] = true
		if t.Kind() == reflect.Map { // its keys are the caller's, and none is a limit of ours
			continue
		}
		if err := d.clearField(name, value, fields[folded], takes); err != nil {
			return err
		}
	}
	return nil
}

const maxNameShown = 64 // bytes of a caller's own name in an error

// clearField is clear for one field; t is nil for what is unknown.
func (d Dialect) clearField(name string, value json.RawMessage, t reflect.Type, takes func(string) bool) error {
	switch {
	case t == nil:
		return d.unread("field", name, takes)
	case t.Kind() == reflect.Bool && isNull(value): // encoding/json takes null for false
		return core.E(core.InvalidRequest, "%s must be a boolean", name)
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return d.clear(value, t)
	}
	return nil
}

// fieldsOf are the types of a struct's fields, by their folded names in JSON; none of a map's.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return out
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		of := f.Type
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		out[fold(name)] = of
	}
	return out
}
