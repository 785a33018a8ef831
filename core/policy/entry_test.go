package policy_test

import (
	"errors"
	"testing"
	"time"

	"bursar/core/policy"
)

// TestCheckEntry: what names a service of the catalogue. A rule that blocks means everything that it may mean; one that allows,
// only what it says.
func TestCheckEntry(t *testing.T) {
	own := policy.Entry{Name: "search", Host: "api.exa.ai", Domain: "exa.ai"}
	strange := policy.Entry{Name: policy.StrangerName("search"), Host: "api.exa.ai", Domain: "exa.ai", Stranger: true}
	for rule, c := range map[string]struct{ own, strange, blocksStrange bool }{
		"search":         {own: true, blocksStrange: true},
		" Search ":       {own: true, blocksStrange: true},
		"gateway/search": {strange: true, blocksStrange: true},
		"exa":            {own: true, blocksStrange: true},
		"exa.ai":         {own: true, blocksStrange: true},
		"api.exa.ai":     {own: true, blocksStrange: true},
		"gateway":        {},
		"gateway/":       {},
		"sear":           {},
		"":               {},
	} {
		for _, e := range []struct {
			entry           policy.Entry
			allowed, blocks bool
		}{{own, c.own, c.own}, {strange, c.strange, c.blocksStrange}} {
			var d *policy.Denial
			err := policy.Policy{Allowed: []string{rule}}.CheckEntry(e.entry, false)
			if (err == nil) != e.allowed || (err != nil && (!errors.As(err, &d) || d.Rule != policy.RuleAllowed)) {
				t.Errorf("allowed %q: %s: %v", rule, e.entry.Name, err)
			}
			err = policy.Policy{Blocked: []string{rule}}.CheckEntry(e.entry, false)
			if (err != nil) != e.blocks || (err != nil && (!errors.As(err, &d) || d.Rule != policy.RuleBlocked)) {
				t.Errorf("blocked %q: %s: %v", rule, e.entry.Name, err)
			}
			// History has the name and the host, and a replay judges as the call was judged.
			past := policy.Past{At: time.Unix(1e9, 0), Host: e.entry.Host, Domain: e.entry.Domain, Service: e.entry.Name}
			if err := policy.NewReplay(policy.Policy{Allowed: []string{rule}}, past.At, policy.Before{}).Judge(past); (err == nil) != e.allowed {
				t.Errorf("replay, allowed %q: %s: %v", rule, e.entry.Name, err)
			}
		}
	}
	if err := (policy.Policy{RequireSession: true}).CheckEntry(own, false); err == nil {
		t.Error("a session is not required")
	}
	if err := (policy.Policy{RequireSession: true}).CheckEntry(own, true); err != nil {
		t.Error(err)
	}
}
