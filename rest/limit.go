package rest

import (
	"net"
	"net/http"
	"time"

	"github.com/go-chi/httprate"
	"github.com/google/uuid"

	"bursar/core"
)

const limitWindow = time.Minute

func (d *Door) limiter(perMinute int) *httprate.RateLimiter {
	if perMinute <= 0 {
		return nil
	}
	return httprate.NewRateLimiter(perMinute, limitWindow)
}

// limited counts one request of key and answers 429 with Retry-After when there were too many.
func (d *Door) limited(w http.ResponseWriter, r *http.Request, by *httprate.RateLimiter, key string) bool {
	if by == nil || !by.OnLimit(w, r, key) {
		return false
	}
	d.Fail(w, r, core.E(core.RateLimited, "Too many requests, please try again later"))
	return true
}

// SignIn bounds how often one address may try the routes that take a password or a code.
func (d *Door) SignIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.limited(w, r, d.byAddress, httprate.CanonicalizeIP(d.address(r))) {
			next.ServeHTTP(w, r)
		}
	})
}

// Unsigned bounds how often one address may ask what takes no credential in a header, as often as a credential may ask.
func (d *Door) Unsigned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.limited(w, r, d.byKey, "address "+httprate.CanonicalizeIP(d.address(r))) {
			next.ServeHTTP(w, r)
		}
	})
}

// principalKey counts each credential apart; a person's logins count together.
func principalKey(p core.Principal) string {
	if p.CredentialID != uuid.Nil {
		return p.CredentialID.String()
	}
	return p.UserID.String()
}

func connectionAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
