package golden_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bursar/rest/golden"
)

func TestDifferences(t *testing.T) {
	const id, hash = "0190a000-0000-7000-8000-0123456789ab", "0x0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		want, got string
		n         int
	}{
		{`{"a":1,"b":[true,null,"x"]}`, `{"b":[true,null,"x"],"a":1.0}`, 0},
		{`{"a":"<uuid>","b":"tx_<uuid>","c":"<unix>","d":"<hash>"}`, `{"a":"` + id + `","b":"tx_` + id + `","c":1700000000,"d":"` + hash + `"}`, 0},
		{`{"a":1,"+b":"<uuid>"}`, `{"a":1,"b":"` + id + `"}`, 0},
		{`{"a":1,"+b":2}`, `{"a":1}`, 1},
		{`{"a":1}`, `{"a":"1"}`, 1},
		{`{"a":0.1}`, `{"a":0.1000000000000000001}`, 1},
		{`{"a":1}`, `{}`, 1},
		{`{}`, `{"a":1}`, 1},
		{`{"a":null}`, `{"a":0}`, 1},
		{`{"a":[1,2]}`, `{"a":[1]}`, 1},
		{`{"a":[1,2]}`, `{"a":[1,3]}`, 1},
		{`{"a":{"b":1}}`, `{"a":[]}`, 1},
		{`{"a":"<uuid>"}`, `{"a":"x` + id + `"}`, 1},
		{`{"a":"<uuid>"}`, `{"a":"<uuid>"}`, 1},
		{`{"a":"<other>"}`, `{"a":"<other>"}`, 0},
		{`{"a":true}`, `{"a":false}`, 1},
		{`{"a":1`, `{"a":1}`, 1},
		{`{"a":1}`, `{"a":1} {}`, 1},
	} {
		if got := golden.Differences([]byte(c.want), []byte(c.got)); len(got) != c.n {
			t.Errorf("%s and %s: %q, want %d", c.want, c.got, got, c.n)
		}
	}
}

// fake collects what a comparison reports.
type fake struct {
	testing.TB
	reports int
}

func (f *fake) Helper()               {}
func (f *fake) Error(...any)          { f.reports++ }
func (f *fake) Errorf(string, ...any) { f.reports++ }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := "POST /echo?x={{x}} HTTP/1.1\nX-One: {{x}}\n\n{\"a\": {{x}}}\n\n---\n\nHTTP/1.1 201 Created\nX-One: {{x}}\nX-Two: <absent>\n\n{\"a\": {{x}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "echo.http"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := golden.Load(t, filepath.Join(dir, "*.http"))
	if len(cases) != 1 || cases[0].Name != "echo" || cases[0].Method != http.MethodPost || cases[0].Path != "/echo" {
		t.Fatalf("%+v", cases)
	}
	echo := func(status int, change func(http.Header), body func(string) string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("X-One", r.Header.Get("X-One"))
			w.Header().Set("Content-Type", "application/json")
			change(w.Header())
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body(string(b)))
		})
	}
	keep, keepBody := func(http.Header) {}, func(s string) string { return s }
	for name, c := range map[string]struct {
		h http.Handler
		n int
	}{
		"same":           {echo(201, keep, keepBody), 0},
		"status":         {echo(200, keep, keepBody), 1},
		"header":         {echo(201, func(h http.Header) { h.Set("X-One", "2") }, keepBody), 1},
		"header missing": {echo(201, func(h http.Header) { h.Del("X-One") }, keepBody), 1},
		"header present": {echo(201, func(h http.Header) { h.Set("X-Two", "2") }, keepBody), 1},
		"body":           {echo(201, keep, func(s string) string { return strings.Replace(s, "7", "8", 1) }), 1},
		"text":           {echo(201, func(h http.Header) { h.Set("Content-Type", "text/plain") }, func(s string) string { return s + "." }), 1},
	} {
		f := &fake{TB: t}
		cases[0].Run(f, c.h, map[string]string{"x": "7"})
		if f.reports != c.n {
			t.Errorf("%s: %d reports, want %d", name, f.reports, c.n)
		}
	}
}
