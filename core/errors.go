package core

import (
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/money"
)

// Code is the kind of an error. The doors translate it by one table each; see docs/conventions.md.
type Code string

// Every code that leaves core, in the order of precedence: when several apply, the first wins.
const (
	InvalidRequest      Code = "invalid_request"
	Unauthorized        Code = "unauthorized"
	Forbidden           Code = "forbidden"
	InsufficientBalance Code = "insufficient_balance"
	SpendingLimit       Code = "spending_limit"
	CostExceedsMax      Code = "cost_exceeds_max"
	ApprovalRequired    Code = "approval_required" // no refusal: a person must say yes
	NotFound            Code = "not_found"
	Conflict            Code = "conflict"
	RateLimited         Code = "rate_limited"
	ServiceFailed       Code = "service_failed"
	Timeout             Code = "timeout"
	ServerError         Code = "server_error"
)

// Codes lists every code, for the tests of the doors' tables.
func Codes() []Code {
	return []Code{
		InvalidRequest, Unauthorized, Forbidden, InsufficientBalance, SpendingLimit, CostExceedsMax, ApprovalRequired, NotFound, Conflict,
		RateLimited, ServiceFailed, Timeout, ServerError,
	}
}

// Error is the only error type that leaves core. Message is for people; Err is for the log and never leaves
// the process.
type Error struct {
	Code    Code
	Message string
	Err     error `json:"-"`

	Limit    *LimitDetail  // SpendingLimit: which limit, and the figures compared
	Payment  string        // the history record that the error concerns, when one exists
	Trace    string        // the trace that tells why a call was refused, when one was kept
	Approval *ent.Approval `json:"-"` // ApprovalRequired: the request, whose id the repeated call may name
	Offer    *TracedOffer  // Conflict: what a service asks now, that did not take a payment of what it asked before
	Closed   bool          // Conflict: a session that is closed or expired (a bad request in the IndieGent dialect)

	RetryAfter time.Duration // Conflict: the same request may be sent again after this; zero: that would not help
}

// LimitDetail says which limit refused and what was compared.
type LimitDetail struct {
	Rule                    string
	Current, Requested, Max money.USDC
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.Err }

// RetrySeconds is RetryAfter in whole seconds, rounded up.
func (e *Error) RetrySeconds() int64 { return int64((e.RetryAfter + time.Second - 1) / time.Second) }

// E makes an error of a code with a message for people.
func E(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError returns err as an *Error; anything without a code is a server error whose text stays inside.
func AsError(err error) *Error {
	var e *Error
	var d *policy.Denial
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &d):
		return denied(d)
	case errors.Is(err, ledger.ErrInsufficient):
		return &Error{Code: InsufficientBalance, Message: "Insufficient balance", Err: err}
	case errors.Is(err, ledger.ErrNoHolds):
		return &Error{Code: Conflict, Message: "Session is not open", Err: err, Closed: true}
	case unwritable(err):
		return &Error{Code: InvalidRequest, Message: "A text has a character that cannot be kept", Err: err}
	}
	return &Error{Code: ServerError, Message: "Internal server error", Err: err}
}

// unwritable reports whether PostgreSQL has met a text of a caller's that no database of its encoding keeps: one that is no
// UTF-8, or has a zero character.
func unwritable(err error) bool {
	var e *pq.Error
	return errors.As(err, &e) && (e.Code == "22021" || e.Code == "22P05")
}

func denied(d *policy.Denial) *Error {
	if d.Forbidden() {
		return &Error{Code: Forbidden, Message: d.Message, Err: d}
	}
	return &Error{
		Code: SpendingLimit, Message: d.Message, Err: d,
		Limit: &LimitDetail{Rule: string(d.Rule), Current: d.Current, Requested: d.Requested, Max: d.Max},
	}
}

// missing turns "no such row" into not_found, which also hides what belongs to others.
func missing(err error, what string) error {
	if ent.IsNotFound(err) {
		return E(NotFound, "%s not found", what)
	}
	return err
}
