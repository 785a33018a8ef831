// Package agnic is the AgnicPay dialect: the routes under /api, spelled as openapi.yaml says.
package agnic

import (
	_ "embed"
	"errors"
	"net/http"

	"bursar/core"
	"bursar/rest"
)

//go:generate go tool oapi-codegen -config oapi.yaml openapi.yaml

// Spec is the contract, served as it is at /.well-known/openapi.yaml.
//
//go:embed openapi.yaml
var Spec []byte

// prefixes are the paths that this dialect owns; what no route takes there is answered in its shape.
var prefixes = []string{"/api", "/oauth", "/v1"}

type api struct {
	door *rest.Door
	app  *core.Core
}

var _ ServerInterface = (*api)(nil)

// Mount serves the dialect.
func Mount(mux *http.ServeMux, app *core.Core, o rest.Options) {
	a := &api{door: rest.NewDoor(rest.Agnic, app, o), app: app}
	routes := http.NewServeMux()
	HandlerWithOptions(a, StdHTTPServerOptions{BaseRouter: authenticated{routes, a.door}, ErrorHandlerFunc: a.badParameter})
	routes.HandleFunc("POST /api/x402/fetch", a.fetch)
	routes.HandleFunc("GET /.well-known/openapi.yaml", document)
	door := cors(a.door.Handler(routes))
	for _, prefix := range prefixes {
		mux.Handle(prefix, door)
		mux.Handle(prefix+"/", door)
	}
	mux.Handle("/.well-known/openapi.yaml", door)
}

// authenticated puts the credential in front of every generated route, and so before its parameters are read.
type authenticated struct {
	*http.ServeMux
	door *rest.Door
}

// HandleFunc registers a route for known callers.
func (m authenticated) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, m.door.Authenticated(http.HandlerFunc(h)))
}

func document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(Spec)
}

// badParameter answers a query parameter that is not what the contract says.
func (a *api) badParameter(w http.ResponseWriter, r *http.Request, err error) {
	var wrong *InvalidParamFormatError
	if errors.As(err, &wrong) {
		err = &core.Error{Code: core.InvalidRequest, Message: wrong.ParamName + " is malformed", Err: err}
	}
	a.door.Fail(w, r, err)
}

const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE"
	corsRequest = "Authorization, X-Agnic-Token, Content-Type, X-Session-Id, X-Approval-Id, X-Request-Id, Idempotency-Key, " +
		"X-Partner-Id, X-Merchant-Id, X-Merchant-Wallet, X-Merchant-Fee-Percent"
	corsAnswer = "X-Agnic-Paid, X-Agnic-Amount, X-Agnic-Network, X-Agnic-Scheme, X-Agnic-Transaction, X-Agnic-Decided-By, X-Request-Id, " +
		"Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
	corsSeconds = "600"
)

// cors lets browser programs call: every route takes a credential in a header and none takes a cookie, so any
// origin may ask.
func cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromBrowser(r) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", corsMethods)
			w.Header().Set("Access-Control-Allow-Headers", corsRequest)
			w.Header().Set("Access-Control-Max-Age", corsSeconds)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Access-Control-Expose-Headers", corsAnswer)
		next.ServeHTTP(w, r)
	})
}

// fromBrowser tells a page's request: browsers name the page's origin on every POST and every foreign request.
func fromBrowser(r *http.Request) bool { return r.Header.Get("Origin") != "" }
