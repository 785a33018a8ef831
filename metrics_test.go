package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// The program's figures are on their own listener, and on no other.
func TestMetricsHaveTheirOwnListener(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the program")
	}
	address := freePort(t)
	p := start(t, "--metrics="+address)
	get := func(url string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-API-Key", p.Key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, body := get(p.API + "/metrics"); status != http.StatusNotFound {
		t.Errorf("the API tells figures: %d %s", status, body)
	}
	if status, body := get(p.API + "/agents"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	status, body := get("http://" + address + "/metrics")
	for status == http.StatusOK && !strings.Contains(body, "bursar_audit_differences") { // the first proof is under way
		status, body = get("http://" + address + "/metrics")
	}
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	for _, sample := range []string{
		`bursar_http_requests_total{code="200",route="GET /agents"} 1`, `bursar_http_requests_total{code="404",route="none"} 1`,
		`bursar_figures_complete{source="chain"} 1`, `bursar_rpc_node_failures_total{host="` + strings.TrimPrefix(p.RPC, "http://") + `"} 0`,
		"bursar_audit_differences 0",
	} {
		if !strings.Contains(body, sample+"\n") {
			t.Errorf("%s is missing in\n%s", sample, body)
		}
	}
}
