package pay

import (
	"errors"
	"fmt"
)

// Cause sorts refusals for programs; the reason beside it is for people.
type Cause string

// Causes.
const (
	Unsupported Cause = "unsupported" // asks for a protocol, method, scheme, network or proof that we cannot give
	Malformed   Cause = "malformed"   // cannot be read, or breaks its own specification
	BadNetwork  Cause = "network"     // another network than the wallet's, or one that the registry does not know so
	BadAsset    Cause = "asset"       // another token than the network's USDC
	BadAmount   Cause = "amount"
	BadPayee    Cause = "payee"
	BadWindow   Cause = "window" // the proof's life: over, too short
	BadOrigin   Cause = "origin" // speaks for another host, or of another request than ours
)

// RefusedError says why an offer is not taken.
type RefusedError struct {
	Cause  Cause
	Reason string
}

// Error is the reason alone: who shows it says what was refused.
func (e *RefusedError) Error() string { return e.Reason }

// Refusal is a *RefusedError.
func Refusal(cause Cause, format string, args ...any) error {
	return &RefusedError{Cause: cause, Reason: fmt.Sprintf(format, args...)}
}

// Refuse marks the offer as one that cannot be taken. The first refusal stays; an error that is not a *RefusedError
// counts as Malformed.
func (o *Offer) Refuse(err error) {
	if o.Refused != "" || err == nil {
		return
	}
	var r *RefusedError
	if errors.As(err, &r) {
		o.Refused, o.Cause = r.Reason, r.Cause
		return
	}
	o.Refused, o.Cause = Text(err.Error()), Malformed
}
