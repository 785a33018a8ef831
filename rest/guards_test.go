package rest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"bursar/core"
	"bursar/rest"
	"bursar/rest/agnic"
	"bursar/rest/indiegent"
)

// TestGuardsAreOfTheContract: what a refusal points to is in the dialect's contract, under exactly that name.
func TestGuardsAreOfTheContract(t *testing.T) {
	spec := map[rest.Dialect]string{rest.IndieGent: string(indiegent.Spec), rest.Agnic: string(agnic.Spec)}
	for d, text := range spec {
		for _, name := range []string{
			"maxcost", "MAXVALUE", "dry-run", "per_transaction", "DailyLimit", "monthly_limit_", "spendingCap", "requireSession", "allowed-services",
			"blockedservices", "budgetLimit", "MaxPerTransaction", "max_per_call",
		} {
			var v struct{}
			err := d.Decode([]byte(`{"`+name+`":1}`), &v)
			if core.AsError(err) == nil || core.AsError(err).Code != core.InvalidRequest {
				t.Errorf("%d: %s: %v", d, name, err)
				continue
			}
			_, where, _ := strings.Cut(core.AsError(err).Message, `": `)
			_, route, found := strings.Cut(where, " /")
			if path, _, _ := strings.Cut("/"+route, " "); !found || !strings.Contains(text, "\n  "+path+":\n") {
				t.Errorf("%d: %s: the contract has nothing of %q", d, name, where)
			}
		}
	}
	fields := map[rest.Dialect]string{
		rest.IndieGent: "max_cost dry_run per_call_max daily_limit monthly_limit spending_cap require_session allowed_services blocked_services budget_limit",
		rest.Agnic:     "maxPerTransaction dailyLimit monthlyLimit",
	}
	for d, names := range fields {
		for name := range strings.FieldsSeq(names) {
			if !strings.Contains(spec[d], " "+name+":") {
				t.Errorf("%d: the contract has no %s", d, name)
			}
		}
	}
}

// TestOneMeaning: which keys are the same is for encoding/json to say, and what is not ours is not looked into.
func TestOneMeaning(t *testing.T) {
	var v struct {
		Max    json.RawMessage            `json:"max"`
		Link   string                     `json:"link"`
		Dry    bool                       `json:"dry"`
		Other  *struct{ A, B int }        `json:"other"`
		Header map[string]json.RawMessage `json:"header"`
	}
	for body, ok := range map[string]bool{
		`{"max":1,"link":"x","dry":true}`:              true,
		`{"max":1,"max":1}`:                            false,
		`{"max":1,"MAX":2}`:                            false,
		`{"link":"a","lin\u212a":"b"}`:                 false, // the Kelvin sign
		`{"dry":null}`:                                 false,
		`{"DRY":null}`:                                 false,
		`{"other":null}`:                               true,
		`{"other":{"a":1,"A":2}}`:                      false,
		`{"other":{"daily_limit":2}}`:                  false,
		`{"other":[1]}`:                                false, // of the wrong type
		`{"header":{"X":"1","x":"2"}}`:                 false,
		`{"header":{"daily_limit":"2","Max-Cost":""}}`: true,
		`{"max":{"a":1,"a":2,"daily_limit":3}}`:        true,
		`{"unknown":{"a":1,"a":2,"daily_limit":3}}`:    true,
		`{"unknown":1,"unknown":2}`:                    false,
		`{"limit":1,"cap":2,"daily":3,"":4}`:           true,
		`{"":1,"":2}`:                                  false,
		`{"_":1,"-":2}`:                                true,
	} {
		if err := rest.IndieGent.Decode([]byte(body), &v); (err == nil) != ok || err != nil && core.AsError(err).Code != core.InvalidRequest {
			t.Errorf("%s: %v", body, err)
		}
	}
}
