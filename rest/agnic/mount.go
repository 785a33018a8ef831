// Package agnic is the AgnicPay dialect: the routes under /api, spelled as openapi.yaml says.
package agnic

import (
	_ "embed"
	"net/http"

	"bursar/core"
	"bursar/rest"
)

// Spec is the contract, served as it is at /.well-known/openapi.yaml.
//
//go:embed openapi.yaml
var Spec []byte

// Prefixes are the paths that this dialect owns; what no route takes there is answered in its shape.
var Prefixes = []string{"/api/", "/oauth/", "/v1/"}

type api struct {
	door *rest.Door
	app  *core.Core
}

// Mount serves the dialect.
func Mount(mux *http.ServeMux, app *core.Core, o rest.Options) {
	a := &api{door: rest.NewDoor(rest.Agnic, app, o), app: app}
	routes := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /api/x402/fetch":         a.fetch,
		"GET /api/balance":             a.balance,
		"GET /api/transactions":        a.transactions,
		"GET /api/tokens":              a.tokens,
		"POST /api/generate-n8n-token": a.generateToken,
		"POST /api/revoke-token":       a.revokeToken,
	} {
		routes.Handle(pattern, a.door.Authenticated(h))
	}
	door := cors(a.door.Handler(routes))
	for _, prefix := range Prefixes {
		mux.Handle(prefix, door)
	}
	mux.HandleFunc("GET /.well-known/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(Spec)
	})
}

// cors lets browser programs call: every route takes a bearer credential and none takes a cookie, so any origin
// may ask.
func cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Expose-Headers", "X-Agnic-Paid, X-Agnic-Amount, X-Agnic-Network, X-Agnic-Scheme, X-Agnic-Transaction")
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, X-Agnic-Token, Content-Type, X-Session-Id, X-Partner-Id, X-Merchant-Id, X-Merchant-Wallet, X-Merchant-Fee-Percent")
			w.Header().Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
