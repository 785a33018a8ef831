package core_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/money"
)

func gzipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A service is asked for what can be read, and an answer that repeats its credential is read before it is handed on: one
// that is packed so that it cannot be is not handed on, and costs nothing.
func TestMeteredPacked(t *testing.T) {
	plain := []byte(`{"you sent":"` + "sk-1234567890" + `"}`)
	for name, c := range map[string]struct {
		codings []string
		body    func(t *testing.T) []byte
		served  bool
	}{
		"plain":           {nil, func(*testing.T) []byte { return plain }, true},
		"said to be":      {[]string{"Identity"}, func(*testing.T) []byte { return plain }, true},
		"gzip":            {[]string{"GZIP"}, func(t *testing.T) []byte { return gzipped(t, plain) }, true},
		"brotli":          {[]string{"br"}, func(*testing.T) []byte { return plain }, false},
		"zstd":            {[]string{"zstd"}, func(*testing.T) []byte { return plain }, false},
		"gzip twice":      {[]string{"gzip, gzip"}, func(t *testing.T) []byte { return gzipped(t, gzipped(t, plain)) }, false},
		"in two lines":    {[]string{"gzip", "gzip"}, func(t *testing.T) []byte { return gzipped(t, gzipped(t, plain)) }, false},
		"hidden behind":   {[]string{"identity", "br"}, func(*testing.T) []byte { return plain }, false},
		"cut off":         {[]string{"gzip"}, func(t *testing.T) []byte { b := gzipped(t, plain); return b[:len(b)-4] }, false},
		"is no gzip":      {[]string{"gzip"}, func(*testing.T) []byte { return plain }, false},
		"without end":     {[]string{"gzip"}, func(t *testing.T) []byte { return gzipped(t, append(make([]byte, 11<<20), plain...)) }, false},
		"a head":          {[]string{"br"}, func(*testing.T) []byte { return nil }, true},
		"a refusal in br": {[]string{"br", "fails"}, func(*testing.T) []byte { return plain }, false},
		"deflate": {[]string{"deflate"}, func(t *testing.T) []byte {
			var b bytes.Buffer
			z, err := flate.NewWriter(&b, flate.BestSpeed)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = z.Write(plain)
			_ = z.Close()
			return b.Bytes()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := coretest.New(t)
			m := newMetering(t, w)
			body := c.body(t)
			var asked string
			base := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				asked = strings.Join(r.Header.Values("Accept-Encoding"), "|")
				for _, coding := range c.codings {
					rw.Header().Add("Content-Encoding", coding)
				}
				if len(c.codings) == 2 && c.codings[1] == "fails" {
					rw.Header()["Content-Encoding"] = c.codings[:1]
					rw.WriteHeader(http.StatusInternalServerError)
				}
				_, _ = rw.Write(body)
			}))
			in := m.api.perCall("echo")
			in.BaseURL, in.Credential.Secret = base, "sk-1234567890"
			must(w, w.Core.Services.Install(w.Ctx, []core.ServiceInput{in}))
			for _, streams := range []bool{false, true} {
				r, err := w.Core.Payments.Fetch(w.Ctx, m.p, core.FetchInput{
					SessionID: m.session.ID.String(), Service: "echo", Header: http.Header{"Accept-Encoding": {"br, zstd"}}, Stream: streams,
				})
				if asked != "identity" {
					t.Errorf("the service was asked for %q", asked)
				}
				if !c.served {
					e := core.AsError(err)
					if err == nil || e.Code != core.ServiceFailed || !strings.Contains(e.Message, "nothing was charged") {
						t.Fatalf("%+v %v", r, err)
					}
					continue
				}
				if err != nil || r.Cost != cent {
					t.Fatalf("%+v %v", r, err)
				}
				if r.Stream != nil {
					r.Body, err = io.ReadAll(r.Stream)
					must(w, err)
					must(w, r.Stream.Close())
				}
				if len(body) > 0 && string(r.Body) != `{"you sent":"[removed]"}` {
					t.Errorf("handed on: %q", r.Body)
				}
				all, err := json.Marshal(r.Header)
				if must(w, err); len(body) > 0 && strings.Contains(strings.ToLower(string(all)), "gzip") {
					t.Errorf("handed on as packed: %s", all)
				}
			}
			left, _ := m.left()
			page, err := w.Core.Transactions.List(w.Ctx, m.p, core.TransactionFilter{PaymentsOnly: true})
			must(w, err)
			want := money.One
			if c.served {
				want -= 2 * cent
			}
			for _, v := range page.Items {
				if (v.Status == transaction.StatusSuccess) != c.served {
					t.Errorf("%s %q", v.Status, v.Reason)
				}
			}
			if left != want || len(page.Items) != 2 {
				t.Errorf("%s left, %d payments", left, len(page.Items))
			}
			w.Balanced()
		})
	}
}

// Without a credential there is nothing to keep out: what cannot be read is handed on as it came.
func TestMeteredPackedWithoutCredential(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w)
	base := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Encoding", "br")
		_, _ = rw.Write([]byte("packed"))
	}))
	in := m.api.perCall("open")
	in.BaseURL, in.Credential = base, nil
	must(w, w.Core.Services.Install(w.Ctx, []core.ServiceInput{in}))
	r, err := m.call(true, "open", "")
	if err != nil || r.Cost != cent || string(r.Body) != "packed" || r.Header.Get("Content-Encoding") != "br" {
		t.Errorf("%+v %v", r, err)
	}
}
