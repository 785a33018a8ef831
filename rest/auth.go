package rest

import (
	"context"
	"net/http"
	"strings"

	"bursar/core"
)

// Credentials reads what a request carries to prove who sent it. The scheme's name is case-insensitive
// (RFC 9110 section 11.1); other schemes are no credential of ours.
func Credentials(h http.Header) core.Credentials {
	c := core.Credentials{APIKey: strings.TrimSpace(h.Get("X-API-Key")), AgnicToken: strings.TrimSpace(h.Get("X-Agnic-Token"))}
	if scheme, value, ok := strings.Cut(strings.TrimSpace(h.Get("Authorization")), " "); ok && strings.EqualFold(scheme, "Bearer") {
		c.Bearer = strings.TrimSpace(value)
	}
	return c
}

// Authenticated lets only known callers through and counts their requests. Behind it, Principal says who it is.
func (d *Door) Authenticated(next http.Handler) http.Handler {
	return d.authenticated(next, Credentials)
}

// Paying is Authenticated for calls that may pay: what limits their agent is read along with the credential, and who pays
// must be clear.
func (d *Door) Paying(next http.Handler) http.Handler {
	paying := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := onePayer(r.Header); err != nil {
			d.Fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
	return d.authenticated(paying, func(h http.Header) core.Credentials {
		c := Credentials(h)
		c.Pays, c.Agent = true, h.Get(AgentHeader)
		return c
	})
}

func (d *Door) authenticated(next http.Handler, credentials func(http.Header) core.Credentials) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _, err := d.App.Auth.Authenticate(r.Context(), credentials(r.Header))
		if err != nil {
			d.Fail(w, r, err)
			return
		}
		recordOf(r.Context()).principal = p
		if d.limited(w, r, d.byKey, principalKey(p)) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Principal returns the caller that Authenticated let through; the zero Principal, which core refuses, without.
func Principal(ctx context.Context) core.Principal { return recordOf(ctx).principal }
