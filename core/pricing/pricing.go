// Package pricing says what a call of a metered service costs. It is pure: a price, a request and an answer go in, an
// amount comes out. What a call may cost at most is known before it is sent, so that it can be held; what it costs in the
// end is never more.
package pricing

import (
	"fmt"
	"math/bits"
	"net/http"

	"bursar/money"
)

// Measure names what is counted besides the call itself.
type Measure string

// The measures. Nothing means a price per call alone.
const (
	Nothing      Measure = ""
	RequestField Measure = "request_field"  // a number in the request's JSON body
	AnswerField  Measure = "response_field" // a number in the answer's JSON body, as usage.total_tokens
	AnswerSize   Measure = "response_size"  // bytes of the answer's body
)

// Price is a fixed part and a measured one: PerCall + Unit × units ÷ Per, and Maximum at most. The division rounds down,
// in the payer's favour. Amounts are atomic units.
type Price struct {
	PerCall money.USDC `json:"per_call,omitempty"`
	By      Measure    `json:"by,omitempty"`
	Field   string     `json:"field,omitempty"` // of RequestField and AnswerField: names and list indices, with dots between
	Unit    money.USDC `json:"unit,omitempty"`  // what Per units cost
	Per     int64      `json:"per,omitempty"`   // as 1000000 for a price per million tokens; 0 is 1
	// Default is how many units count when the JSON object has no such field. Without it, as with anything that cannot be
	// counted, the call costs the maximum: who chooses the request cannot choose not to be counted.
	Default *int64     `json:"default,omitempty"`
	Maximum money.USDC `json:"maximum,omitempty"` // required with a measure
}

// maxField bounds a field's path, in characters.
const maxField = 200

// Validate reports what is wrong with a price, for people.
func (p Price) Validate() error {
	for name, v := range map[string]money.USDC{"per_call": p.PerCall, "unit": p.Unit, "maximum": p.Maximum} {
		if v < 0 || v > money.Max {
			return fmt.Errorf("%s must lie between 0 and %s", name, money.Max)
		}
	}
	if p.Per < 0 || (p.Default != nil && *p.Default < 0) {
		return fmt.Errorf("per and default must not be negative")
	}
	switch p.By {
	case Nothing:
		if p.PerCall == 0 {
			return fmt.Errorf("a price per call must be above zero")
		}
		if p.Field != "" || p.Unit != 0 || p.Per != 0 || p.Default != nil || p.Maximum != 0 {
			return fmt.Errorf("a price per call has no field, unit, per, default or maximum")
		}
		return nil
	case AnswerSize:
		if p.Field != "" || p.Default != nil {
			return fmt.Errorf("a price by size has no field and no default")
		}
	case RequestField, AnswerField:
		if p.Field == "" || len(p.Field) > maxField {
			return fmt.Errorf("field must have 1 to %d characters", maxField)
		}
	default:
		return fmt.Errorf("by must be %s, %s or %s", RequestField, AnswerField, AnswerSize)
	}
	if p.Unit == 0 {
		return fmt.Errorf("unit must be above zero")
	}
	if p.Maximum == 0 || p.Maximum < p.PerCall {
		return fmt.Errorf("maximum must be above zero, and per_call at least")
	}
	return nil
}

// Request is what is asked of a service.
type Request struct {
	Header http.Header
	Body   []byte
}

// Hold is what is reserved before the call with this body is sent: the price itself where the request decides it, else the
// maximum. It is zero when the request asks for nothing that costs.
func (p Price) Hold(r Request) money.USDC {
	switch p.By {
	case Nothing:
		return p.PerCall
	case RequestField:
		return p.measured(r.count(p.Field, p.Default))
	case AnswerField, AnswerSize:
	}
	return p.Maximum
}

// Least is the least that is held for any call that costs.
func (p Price) Least() money.USDC {
	if p.By == AnswerField || p.By == AnswerSize {
		return p.Maximum
	}
	return p.PerCall
}

// Charge is what a call with this request and this answer costs: never more than Hold of the same request.
func (p Price) Charge(r Request, answer []byte) money.USDC {
	switch p.By {
	case AnswerField:
		return p.measured(count(answer, p.Field, p.Default))
	case AnswerSize:
		return p.measured(uint64(len(answer)), true)
	case Nothing, RequestField:
	}
	return p.Hold(r)
}

// measured is the price of units; the maximum when they could not be counted.
func (p Price) measured(units uint64, counted bool) money.USDC {
	if !counted {
		return p.Maximum
	}
	per := uint64(max(p.Per, 1))
	high, low := bits.Mul64(uint64(p.Unit), units)
	if high >= per { // the quotient has more than 64 bits
		return p.Maximum
	}
	part, _ := bits.Div64(high, low, per)
	if part > uint64(p.Maximum) {
		return p.Maximum
	}
	return p.PerCall.Add(money.USDC(part)).Min(p.Maximum)
}

// String is the price for people.
func (p Price) String() string {
	text := "$" + p.PerCall.Decimal() + " a call"
	if p.By == Nothing {
		return text
	}
	units := map[Measure]string{RequestField: p.Field + " of the request", AnswerField: p.Field + " of the answer", AnswerSize: "bytes of the answer"}[p.By]
	return fmt.Sprintf("%s, $%s for each %d %s, $%s at most", text, p.Unit.Decimal(), max(p.Per, 1), units, p.Maximum.Decimal())
}
