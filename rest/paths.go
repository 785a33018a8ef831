package rest

import (
	"net/http"
	"net/url"
	"path"
	"reflect"
	"strings"
)

// ServeMux answers a path that it would rather have spelled otherwise by a redirect, in HTML. A program that follows it would
// pay for what it did not ask for, and one that does not cannot read it. So such a path is one that no route has.

var redirect = reflect.TypeOf(http.RedirectHandler("/", http.StatusTemporaryRedirect))

// redirects tells ServeMux's own redirects from routes.
func redirects(h http.Handler) bool { return reflect.TypeOf(h) == redirect }

// Exactly serves the whole program's routes without ServeMux's redirects: a path with an empty step or a dot for one goes to
// the door that has its first step, whose routes do not know it.
func Exactly(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isClean(r.URL.EscapedPath()) || r.Method == http.MethodConnect {
			mux.ServeHTTP(w, r)
			return
		}
		step, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if step != "" && isClean("/"+step) {
			step += "/"
		} else {
			step = ""
		}
		owner, _ := mux.Handler(&http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: "/" + step}})
		owner.ServeHTTP(w, r)
	})
}

// isClean tells whether a path has no step that is empty or made of dots; a slash at its end is no step.
func isClean(p string) bool {
	return p == "/" || strings.TrimSuffix(p, "/") == path.Clean(p)
}
