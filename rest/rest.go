// Package rest is what both REST dialects share: errors, credentials, limits, bodies and the request log. A
// dialect builds one Door, hands its routes to Door.Handler and answers every failure with Door.Fail.
package rest

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/httprate"

	"bursar/core"
)

// Options is what a dialect takes from server.go.
type Options struct {
	Log   *slog.Logger
	Clock core.Clock

	// KeyPerMinute bounds the requests of one credential, AddressPerMinute those of one client address on the
	// sign-in routes. Zero means no bound. The counters are this process's own.
	KeyPerMinute     int
	AddressPerMinute int
	// ClientAddress finds the client's address behind a trusted proxy; nil takes the connection's.
	ClientAddress func(*http.Request) string
	// Observe hears of each answered request: the pattern of its route (empty: none took it), its status, its time. May be nil.
	Observe func(route string, status int, took time.Duration)
}

// Door is one dialect's entrance to core.
type Door struct {
	Dialect Dialect
	App     *core.Core

	log       *slog.Logger
	clock     core.Clock
	address   func(*http.Request) string
	observe   func(route string, status int, took time.Duration)
	byKey     *httprate.RateLimiter // nil: no bound
	byAddress *httprate.RateLimiter // nil: no bound
}

// NewDoor makes a dialect's entrance.
func NewDoor(d Dialect, app *core.Core, o Options) *Door {
	door := &Door{Dialect: d, App: app, log: o.Log, clock: o.Clock, address: o.ClientAddress, observe: o.Observe}
	if door.observe == nil {
		door.observe = func(string, int, time.Duration) {}
	}
	if door.address == nil {
		door.address = connectionAddress
	}
	door.byKey, door.byAddress = door.limiter(o.KeyPerMinute), door.limiter(o.AddressPerMinute)
	return door
}
