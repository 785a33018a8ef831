package resolvers

import (
	_ "embed"
	"net/http"
)

//go:embed graphiql.html
var graphiql []byte

// page is a small GraphQL page of our own: no file of it comes from elsewhere, so that it works without internet.
func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:")
	_, _ = w.Write(graphiql)
}
