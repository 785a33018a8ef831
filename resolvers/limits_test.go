package resolvers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBombs sends documents that are dear to validate, to cost or to run. Each is refused at once, to a caller
// without a credential as well.
func TestBombs(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	doubling := func(n int) string {
		var b strings.Builder
		b.WriteString("query { ...f0 }")
		for i := range n {
			fmt.Fprintf(&b, " fragment f%d on Query { ...f%d ...f%d }", i, i+1, i+1)
		}
		fmt.Fprintf(&b, " fragment f%d on Query { me { role } }", n)
		return b.String()
	}
	chain := func(n int) string {
		var b strings.Builder
		b.WriteString("query { __schema { types { ...f0 } } }")
		for i := range n {
			fmt.Fprintf(&b, " fragment f%d on __Type { ofType { ...f%d } }", i, i+1)
		}
		fmt.Fprintf(&b, " fragment f%d on __Type { name }", n)
		return b.String()
	}
	aliases := func(n int, field string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a%d: %s ", i, field)
		}
		return b.String()
	}
	bombs := map[string]string{
		"one field 8,000 times":     "{" + strings.Repeat(" me", 8000) + " }",
		"one field 900 times":       "{ me {" + strings.Repeat(" role", 900) + " } }",
		"doubling fragments":        doubling(100),
		"a ring of fragments":       "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }",
		"nested":                    "{ me " + strings.Repeat("{ user ", 100) + "{ id }" + strings.Repeat("}", 100) + " }",
		"nested by fragments":       chain(60),
		"aliases":                   "{" + aliases(100, "me { role }") + "}",
		"many roots":                "{" + aliases(25, "agents { id }") + "}",
		"lists of everything":       "{" + aliases(19, "sessions { id agentId status deposit used remaining refunded }") + "}",
		"conflicts":                 `{ __type(name: "Agent") {` + strings.Repeat(" fields(includeDeprecated: true) { name } fields(includeDeprecated: false) { name }", 100) + " } }",
		"unknown fields":            "{ me {" + strings.Repeat(" nothing", 400) + " } }",
		"unknown fragments":         "{ me {" + strings.Repeat(" ...nothing", 400) + " } }",
		"deep brackets":             "{ me(a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + ") }",
		"many sign-ins":             "mutation {" + aliases(2, `login(input: {email: "a@b.c", password: "12345678"}) { token }`) + "}",
		"many sign-ins by fragment": `mutation { ...m a: login(input: {email: "a@b.c", password: "12345678"}) { token } } fragment m on Mutation { login(input: {email: "a@b.c", password: "12345678"}) { token } }`,
	}
	// Judged before validation, which would have another code.
	early := map[string]string{
		"one field 8,000 times": "GRAPHQL_PARSE_FAILED", "one field 900 times": "DOCUMENT_TOO_LARGE", "doubling fragments": "DOCUMENT_TOO_LARGE",
		"nested by fragments": "DOCUMENT_TOO_LARGE", "aliases": "DOCUMENT_TOO_LARGE", "many sign-ins by fragment": "DOCUMENT_TOO_LARGE",
	}
	for name, query := range bombs {
		t.Run(name, func(t *testing.T) {
			for _, h := range []http.Header{nil, me} {
				start := time.Now()
				a := d.ask(h, query, nil)
				// Some milliseconds, and room for the race detector; the first would take 14 s and the third for ever.
				if took := time.Since(start); took > 500*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if want := early[name]; want != "" {
					a.refused(want)
				}
				if len(a.Errors) == 0 || a.Data != nil || len(a.text) > 2000 {
					t.Errorf("not refused: %d %.300s", a.status, a.text)
				}
			}
		})
	}
	s := d.live(me)
	s.subscribe("1", bombs["doubling fragments"], nil)
	if code := s.failure(); code == "" {
		t.Error("no code over the websocket")
	}
}

// TestLargest measures the dearest documents that are let through.
func TestLargest(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	for name, query := range map[string]string{
		"wide":      "{ me {" + strings.Repeat(" role", 310) + " } }",
		"twice":     "{ " + strings.Repeat("me {"+strings.Repeat(" role", 15)+" } ", 19) + "}",
		"fragments": "{ me {" + strings.Repeat(" ...f", 155) + " } } fragment f on Me { role }",
	} {
		start := time.Now()
		a := d.ask(me, query, nil)
		took := time.Since(start)
		t.Logf("%s: %v, %s", name, took, a.code())
		if took > 500*time.Millisecond {
			t.Errorf("%s took %v", name, took)
		}
	}
}
