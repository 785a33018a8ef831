// Package indiegent is the IndieGent dialect: the routes at the root, spelled as openapi.yaml says.
package indiegent

import (
	_ "embed"
	"net/http"

	"bursar/core"
	"bursar/rest"
)

// Spec is the contract.
//
//go:embed openapi.yaml
var Spec []byte

type api struct {
	door *rest.Door
	app  *core.Core
}

// Mount serves the dialect. It owns every path that nobody else has registered, so that what no route takes is
// answered in its shape.
func Mount(mux *http.ServeMux, app *core.Core, o rest.Options) {
	a := &api{door: rest.NewDoor(rest.IndieGent, app, o), app: app}
	routes := http.NewServeMux()
	open := func(pattern string, h http.HandlerFunc) { routes.Handle(pattern, a.door.SignIn(h)) }
	with := func(pattern string, h http.HandlerFunc) { routes.Handle(pattern, a.door.Authenticated(h)) }
	open("POST /auth/register", a.register)
	open("POST /auth/login", a.login)
	with("GET /agents", a.agents)
	with("POST /agents", a.createAgent)
	with("GET /agents/{id}", a.agent)
	with("PUT /agents/{id}", a.updateAgent)
	with("DELETE /agents/{id}", a.deleteAgent)
	with("GET /agents/{id}/policy", a.policy)
	with("PUT /agents/{id}/policy", a.updatePolicy)
	with("POST /agents/{id}/key", a.agentKey)
	with("GET /agents/{id}/env", a.agentEnv)
	with("POST /agents/{id}/fund", a.fund)
	with("POST /agents/{id}/drain", a.drain)
	with("GET /agents/{id}/transactions", a.agentTransactions)
	with("GET /transactions", a.transactions)
	with("GET /balance", a.balance)
	with("GET /sessions", a.sessions)
	with("POST /sessions", a.openSession)
	with("GET /sessions/{id}", a.session)
	with("POST /sessions/{id}/close", a.closeSession)
	with("GET /api-keys", a.keys)
	with("POST /api-keys", a.createKey)
	with("DELETE /api-keys/{id}", a.revokeKey)
	with("GET /departments", a.departments)
	with("POST /departments", a.createDepartment)
	with("POST /external/fetch", a.fetch)
	mux.Handle("/", a.door.Handler(routes))
}
