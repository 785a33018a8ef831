// Package indiegent is the IndieGent dialect: the routes at the root, spelled as openapi.yaml says.
package indiegent

import (
	_ "embed"
	"errors"
	"net/http"

	"bursar/core"
	"bursar/rest"
)

//go:generate go tool oapi-codegen -config oapi.yaml openapi.yaml

// Spec is the contract, served as it is at /openapi.yaml; the tests hold every answer to it.
//
//go:embed openapi.yaml
var Spec []byte

type api struct {
	door *rest.Door
	app  *core.Core
}

var _ ServerInterface = (*api)(nil)

// Mount serves the dialect. It owns every path that nobody else has registered, so that what no route takes is
// answered in its shape.
func Mount(mux *http.ServeMux, app *core.Core, o rest.Options) {
	a := &api{door: rest.NewDoor(rest.IndieGent, app, o), app: app}
	routes := guarded{http.NewServeMux(), a.door}
	HandlerWithOptions(a, StdHTTPServerOptions{BaseRouter: routes, ErrorHandlerFunc: a.badParameter})
	routes.ServeMux.HandleFunc("GET /openapi.yaml", document) // for everybody
	routes.pay("POST /external/fetch", a.fetch)
	for _, method := range serviceMethods {
		routes.pay(method+" "+servicePath, a.callService)
	}
	routes.Handle(servicePath, a.door.Only(serviceMethods...))
	routes.Handle("HEAD "+servicePath, a.door.Only(serviceMethods...)) // by GET's route it would be billed
	mux.Handle("/", a.door.Handler(routes.ServeMux, "/services/"))
}

func document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(Spec)
}

// open are the routes that make a credential, and so need none.
var open = map[string]bool{"POST /auth/register": true, "POST /auth/login": true}

// keyed carry their credential in the body.
var keyed = map[string]bool{"POST /gateway/verify": true}

// guarded puts the credential in front of every other route, and so before its parameters are read.
type guarded struct {
	*http.ServeMux
	door *rest.Door
}

// HandleFunc registers a route.
func (m guarded) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	if open[pattern] {
		m.Handle(pattern, m.door.SignIn(http.HandlerFunc(h)))
		return
	}
	if keyed[pattern] {
		m.Handle(pattern, m.door.Unsigned(http.HandlerFunc(h)))
		return
	}
	m.Handle(pattern, m.door.Authenticated(http.HandlerFunc(h)))
}

// pay registers a route of calls that may pay.
func (m guarded) pay(pattern string, h http.HandlerFunc) { m.Handle(pattern, m.door.Paying(h)) }

// badParameter answers a parameter that is not what the contract says; the numbers among them all count from zero.
func (a *api) badParameter(w http.ResponseWriter, r *http.Request, err error) {
	var wrong *InvalidParamFormatError
	var many *TooManyValuesForParamError
	if errors.As(err, &wrong) {
		err = &core.Error{Code: core.InvalidRequest, Message: wrong.ParamName + " must be a whole number from 0", Err: err}
	} else if errors.As(err, &many) {
		err = &core.Error{Code: core.InvalidRequest, Message: many.ParamName + " must be sent once", Err: err}
	}
	a.door.Fail(w, r, err)
}
