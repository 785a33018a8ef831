package demo_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bursar/demo"
)

// TestMetered: the routes that are billed by use want their key, and count what they write.
func TestMetered(t *testing.T) {
	server := httptest.NewServer(demo.New(demo.Config{Clock: time.Now}))
	t.Cleanup(server.Close)
	ask := func(method, path, key, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !json.Valid(text) {
			t.Errorf("%s: %s %v", path, text, err)
		}
		return resp.StatusCode, string(text)
	}
	for _, c := range []struct {
		method, path, key, body string
		status                  int
		answer                  string
	}{
		{"POST", "/writer/complete", demo.APIKey, `{"prompt":"the sea"}`, 200, `"total_tokens":`},
		{"POST", "/writer/complete", demo.APIKey, `{"prompt":" "}`, 400, "prompt"},
		{"POST", "/writer/complete", demo.APIKey, `no`, 400, "prompt"},
		{"POST", "/writer/complete", "wrong", `{"prompt":"the sea"}`, 401, "X-Api-Key"},
		{"GET", "/proverbs/today", demo.APIKey, ``, 200, `"joke"`},
		{"GET", "/proverbs/today", "", ``, 401, "X-Api-Key"},
	} {
		if status, answer := ask(c.method, c.path, c.key, c.body); status != c.status || !strings.Contains(answer, c.answer) {
			t.Errorf("%+v: %d %s", c, status, answer)
		}
	}
}
