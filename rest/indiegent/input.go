package indiegent

import (
	"bytes"
	"net/http"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/rest"
)

// body decodes a request's JSON object; an empty body has no fields.
func body(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := rest.ReadBody(w, r)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		b = []byte("{}")
	}
	return rest.IndieGent.Decode(b, v)
}

// parseID reads an id. What is no id names nothing.
func parseID(text, what string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return uuid.Nil, core.E(core.NotFound, "%s not found", what)
	}
	return id, nil
}

// serve answers with what f returns, or with its error.
func (a *api) serve(w http.ResponseWriter, r *http.Request, status int, f func() (any, error)) {
	v, err := f()
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, status, v)
}

func caller(r *http.Request) core.Principal { return rest.Principal(r.Context()) }
