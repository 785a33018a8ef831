package rest

import (
	"net/http"

	"bursar/core"
)

// IdempotencyHeader is the caller's own name for a request that moves money.
const IdempotencyHeader = "Idempotency-Key"

// IdempotencyKey reads it; nil without one. Core judges what it may hold.
func IdempotencyKey(h http.Header) (*string, error) {
	switch values := h.Values(IdempotencyHeader); len(values) {
	case 0:
		return nil, nil
	case 1:
		return &values[0], nil
	}
	return nil, core.E(core.InvalidRequest, "%s must be sent once", IdempotencyHeader)
}
