// Package golden runs documented examples against a handler. A file holds a request, a line of three dashes, and the
// documented answer:
//
//	GET /api/balance HTTP/1.1
//	X-Agnic-Token: {{token}}
//
//	---
//	HTTP/1.1 200 OK
//	Content-Type: application/json; charset=utf-8
//
//	{"usdcBalance": "50.000000", "address": "<address>"}
//
// {{name}} is replaced by a value of the test, in both halves. In the answer "<uuid>" and its like (see Kinds) name
// what differs from run to run. Everything else must be equal: the status, the named headers, the set of keys, the
// types and the values; numbers are compared exactly. "Name: <absent>" demands that a header is missing. A key that
// begins with "+" is an addition of ours, which the published answer lacks.
package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Kinds are what may differ, by name; <name> stands for it in a string or a header of the answer. <unix> stands for
// a JSON number.
var Kinds = map[string]string{
	"uuid":    `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
	"hash":    `0x[0-9a-f]{64}`,
	"address": `0x[0-9a-fA-F]{40}`,
	"rfc3339": `[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z`,
	"unix":    `1[0-9]{9}`,
	"hex":     `[0-9a-f]+`,
	"token":   `[0-9a-f]{64}`,
	"text":    `.+`,
}

const absent = "<absent>"

// Case is one file.
type Case struct {
	Name         string // the file's, without its ending
	Method, Path string // of the request; the path without its query, variables not replaced

	request, answer string
}

// Load reads the files that match, in the order of their names. It fails the test when there are none.
func Load(t testing.TB, pattern string) []*Case {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("golden: no file matches %s (%v)", pattern, err)
	}
	slices.Sort(files)
	cases := make([]*Case, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := &Case{Name: strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))}
		var ok bool
		if c.request, c.answer, ok = strings.Cut(string(text), "\n---\n"); !ok {
			t.Fatalf("%s: no line of three dashes", file)
		}
		line := strings.Fields(c.request)
		if len(line) < 2 {
			t.Fatalf("%s: no request line", file)
		}
		c.Method = line[0]
		c.Path, _, _ = strings.Cut(line[1], "?")
		cases[i] = c
	}
	return cases
}

// Request is the file's request with its variables replaced.
func (c *Case) Request(t testing.TB, vars map[string]string) *http.Request {
	t.Helper()
	m := parse(t, c.Name, fill(t, c.Name, c.request, vars))
	line := strings.Fields(m.first)
	r := httptest.NewRequestWithContext(t.Context(), line[0], line[1], strings.NewReader(m.body))
	for _, h := range m.header {
		r.Header.Add(h[0], h[1])
	}
	return r
}

// Run sends the file's request to h and compares the answer with the documented one.
func (c *Case) Run(t testing.TB, h http.Handler, vars map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, c.Request(t, vars))
	c.Compare(t, w, vars)
	return w
}

// Compare reports every difference between an answer and the documented one.
func (c *Case) Compare(t testing.TB, got *httptest.ResponseRecorder, vars map[string]string) {
	t.Helper()
	want := parse(t, c.Name, fill(t, c.Name, c.answer, vars))
	line := strings.Fields(want.first)
	if len(line) < 2 || line[1] != fmt.Sprint(got.Code) {
		t.Errorf("status %d, want %q; body %s", got.Code, want.first, got.Body)
		return
	}
	for _, h := range want.header {
		value, have := strings.Join(got.Header().Values(h[0]), ", "), len(got.Header().Values(h[0])) > 0
		if h[1] == absent {
			if have {
				t.Errorf("header %s: %q, want none", h[0], value)
			}
		} else if !have || !same(h[1], value) {
			t.Errorf("header %s: %q, want %q", h[0], value, h[1])
		}
	}
	if !strings.Contains(got.Header().Get("Content-Type"), "json") {
		if body := strings.TrimSuffix(got.Body.String(), "\n"); !same(want.body, body) {
			t.Errorf("body %q, want %q", body, want.body)
		}
		return
	}
	for _, difference := range Differences([]byte(want.body), got.Body.Bytes()) {
		t.Error(difference)
	}
}

// Differences compares two JSON texts, of which the first may name what differs. None means equal.
func Differences(want, got []byte) []string {
	w, err := decode(want)
	if err != nil {
		return []string{fmt.Sprintf("the documented body is not JSON: %v", err)}
	}
	g, err := decode(got)
	if err != nil {
		return []string{fmt.Sprintf("the body is not JSON: %v: %s", err, got)}
	}
	return differences("$", w, g)
}

func decode(b []byte) (any, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value")
	}
	return v, nil
}

func differences(at string, want, got any) []string {
	different := []string{fmt.Sprintf("%s: %s, want %s", at, text(got), text(want))}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return different
		}
		return objects(at, w, g)
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return different
		}
		var all []string
		for i := range w {
			all = append(all, differences(fmt.Sprintf("%s[%d]", at, i), w[i], g[i])...)
		}
		return all
	case json.Number:
		if g, ok := got.(json.Number); ok && equal(w, g) {
			return nil
		}
	case string:
		if g, ok := got.(string); ok && same(w, g) {
			return nil
		}
		if g, ok := got.(json.Number); ok && w == "<unix>" && same(w, g.String()) {
			return nil
		}
	default: // true, false, null
		if want == got {
			return nil
		}
	}
	return different
}

func objects(at string, want, got map[string]any) []string {
	var all []string
	documented := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		k := strings.TrimPrefix(key, "+")
		documented[k] = true
		if v, ok := got[k]; ok {
			all = append(all, differences(at+"."+k, want[key], v)...)
		} else {
			all = append(all, fmt.Sprintf("%s.%s is missing", at, k))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if !documented[k] {
			all = append(all, fmt.Sprintf("%s.%s is not documented: %s", at, k, text(got[k])))
		}
	}
	return all
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func equal(a, b json.Number) bool {
	x, ok := new(big.Rat).SetString(a.String())
	y, also := new(big.Rat).SetString(b.String())
	return ok && also && x.Cmp(y) == 0
}

var kind = regexp.MustCompile(`<([a-z0-9]+)>`)

// same compares a text with one that may name what differs.
func same(want, got string) bool {
	var pattern strings.Builder
	rest := want
	for {
		at := kind.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		pattern.WriteString(regexp.QuoteMeta(rest[:at[0]]))
		if p, known := Kinds[rest[at[2]:at[3]]]; known {
			pattern.WriteString("(?:" + p + ")")
		} else {
			pattern.WriteString(regexp.QuoteMeta(rest[at[0]:at[1]]))
		}
		rest = rest[at[1]:]
	}
	pattern.WriteString(regexp.QuoteMeta(rest))
	return regexp.MustCompile(`(?s)\A` + pattern.String() + `\z`).MatchString(got)
}

var variable = regexp.MustCompile(`\{\{([a-zA-Z0-9_]+)\}\}`)

func fill(t testing.TB, name, text string, vars map[string]string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		value, ok := vars[v[2:len(v)-2]]
		if !ok {
			t.Fatalf("%s: the test has no variable %s", name, v)
		}
		return value
	})
}

type message struct {
	first  string
	header [][2]string
	body   string
}

func parse(t testing.TB, name, text string) message {
	t.Helper()
	head, body, _ := strings.Cut(strings.Trim(text, "\n")+"\n", "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	m := message{first: lines[0], body: strings.TrimSpace(body)}
	for _, line := range lines[1:] {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("%s: %q is no header", name, line)
		}
		m.header = append(m.header, [2]string{strings.TrimSpace(key), strings.TrimSpace(value)})
	}
	return m
}
