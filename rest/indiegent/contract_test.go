package indiegent_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"bursar/rest/indiegent"
)

// contract is openapi.yaml, with every object closed: an answer with a field that the contract lacks is wrong
// here, though clients must bear it.
func contract(t testing.TB) *openapi3.T {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromData(indiegent.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	done := map[*openapi3.Schema]bool{}
	for _, ref := range spec.Components.Schemas {
		closeObjects(ref, done)
	}
	for _, r := range spec.Components.Responses {
		closeContent(r.Value, done)
	}
	for _, item := range spec.Paths.Map() {
		for _, op := range item.Operations() {
			for _, r := range op.Responses.Map() {
				closeContent(r.Value, done)
			}
		}
	}
	return spec
}

func closeContent(r *openapi3.Response, done map[*openapi3.Schema]bool) {
	for _, media := range r.Content {
		closeObjects(media.Schema, done)
	}
}

func closeObjects(ref *openapi3.SchemaRef, done map[*openapi3.Schema]bool) {
	if ref == nil || ref.Value == nil || done[ref.Value] {
		return
	}
	s, no := ref.Value, false
	done[s] = true
	if len(s.Properties) > 0 && s.Extensions["x-open"] == nil { // an answer of a service has fields of its own
		s.AdditionalProperties.Has = &no
	}
	for _, p := range s.Properties {
		closeObjects(p, done)
	}
	closeObjects(s.Items, done)
}

// operation finds what of the contract a request is.
func operation(spec *openapi3.T, method, path string) (string, *openapi3.Operation) {
	path, _, _ = strings.Cut(path, "?")
	for template, item := range spec.Paths.Map() {
		if op := item.GetOperation(method); op != nil && matches(template, path) {
			return method + " " + template, op
		}
	}
	return "", nil
}

func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}

// hold fails the test unless an answer is one that the contract describes.
func hold(t testing.TB, spec *openapi3.T, method, path string, status int, body any) {
	t.Helper()
	_, op := operation(spec, method, path)
	if op == nil {
		return // 404 and 405 of no operation
	}
	r := op.Responses.Status(status)
	if r == nil && status >= http.StatusBadRequest {
		r = op.Responses.Default()
	}
	if r == nil {
		t.Errorf("%s %s: the contract knows no %d", method, path, status)
		return
	}
	if err := r.Value.Content.Get("application/json").Schema.Value.VisitJSON(body, openapi3.MultiErrors()); err != nil {
		t.Errorf("%s %s: %d is not what the contract says: %v", method, path, status, err)
	}
}
