package main

import (
	"net/http"
	"testing"
)

// TestNoRedirects: the program answers a path that is spelled oddly in the dialect that has its first step, and calls nothing.
func TestNoRedirects(t *testing.T) {
	p := start(t)
	for path, want := range map[string]string{
		"//agents": "Not found", "/agents/../agents": "Not found", "/services/demo-writer": "Not found", "/services/a/../demo-writer/complete": "Not found",
		"/api//balance": "not_found", "/api/x/../balance": "not_found", "//api/balance": "Not found", "/graphql/../agents": "Not found", "//graphql": "Not found",
	} {
		for _, method := range []string{"GET", "POST"} {
			if status, out, err := p.call(method, path, map[string]any{}); err != nil || status != http.StatusNotFound || text(out, "error") != want {
				t.Errorf("%s %s: %d %v %v", method, path, status, out, err)
			}
		}
	}
}
