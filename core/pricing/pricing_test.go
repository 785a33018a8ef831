package pricing_test

import (
	"math/big"
	"net/http"
	"strings"
	"testing"

	"bursar/core/pricing"
	"bursar/money"
)

func units(n int64) *int64 { return &n }

// tokens is $2 for a million tokens, a dollar at most.
var tokens = pricing.Price{By: pricing.AnswerField, Field: "usage.total_tokens", Unit: 2 * money.One, Per: 1_000_000, Maximum: money.One}

func asked(body string) pricing.Request { return pricing.Request{Body: []byte(body)} }

func TestPrices(t *testing.T) {
	images := pricing.Price{PerCall: 100, By: pricing.RequestField, Field: "n", Unit: 20_000, Default: units(1), Maximum: 100_000}
	strict := pricing.Price{By: pricing.RequestField, Field: "a.1.b", Unit: 7, Maximum: 1000}
	size := pricing.Price{PerCall: 10, By: pricing.AnswerSize, Unit: 3, Per: 4, Maximum: 25}
	for name, c := range map[string]struct {
		price           pricing.Price
		request, answer string
		hold, charge    money.USDC
	}{
		"per call":                   {pricing.Price{PerCall: 5000}, `{"n":9}`, `{}`, 5000, 5000},
		"request":                    {images, `{"n":3}`, ``, 60_100, 60_100},
		"request, default":           {images, `{"x":3}`, ``, 20_100, 20_100},
		"request, no body":           {images, ``, ``, 20_100, 20_100},
		"request, ceiling":           {images, `{"n":99999}`, ``, 100_000, 100_000},
		"request, just above":        {images, `{"n":5}`, ``, 100_000, 100_000},
		"request, no JSON":           {images, `n=1`, ``, 100_000, 100_000},
		"request, a list":            {images, `[{"n":1}]`, ``, 100_000, 100_000},
		"request, twice":             {images, `{"n":1,"n":100}`, ``, 100_000, 100_000},
		"request, twice by escape":   {images, `{"n":1,"\u006e":100}`, ``, 100_000, 100_000},
		"request, twice elsewhere":   {images, `{"n":1,"x":{"y":1,"y":2}}`, ``, 100_000, 100_000},
		"request, in other cases":    {images, `{"n":1,"N":100}`, ``, 100_000, 100_000},
		"request, by another case":   {images, `{"N":100}`, ``, 100_000, 100_000},
		"request, case elsewhere":    {images, `{"n":1,"x":{"N":1},"X":2}`, ``, 20_100, 20_100},
		"request, a case on the way": {strict, `{"a":[0,{"b":1,"B":9}]}`, ``, 1000, 1000},
		"request, text":              {images, `{"n":"1"}`, ``, 100_000, 100_000},
		"request, null":              {images, `{"n":null}`, ``, 100_000, 100_000},
		"request, object":            {images, `{"n":{"n":1}}`, ``, 100_000, 100_000},
		"request, negative":          {images, `{"n":-1}`, ``, 100_000, 100_000},
		"request, exponent":          {images, `{"n":1e0}`, ``, 100_000, 100_000},
		"request, fraction":          {images, `{"n":1.999}`, ``, 20_100, 20_100},
		"request, zero":              {images, `{"n":0}`, ``, 100, 100},
		"request, huge":              {images, `{"n":` + strings.Repeat("9", 40) + `}`, ``, 100_000, 100_000},
		"request, more behind":       {images, `{"n":1}{"n":2}`, ``, 100_000, 100_000},
		"request, deep":              {images, `{"n":1,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, ``, 100_000, 100_000},
		"request, path":              {strict, `{"a":[{"b":9},{"b":3}]}`, ``, 21, 21},
		"request, path by name":      {strict, `{"a":{"1":{"b":3}}}`, ``, 21, 21},
		"request, path too short":    {strict, `{"a":[1,2]}`, ``, 1000, 1000},
		"request, no field at all":   {strict, `{}`, ``, 1000, 1000},
		"request, for nothing":       {strict, `{"a":[0,{"b":0}]}`, ``, 0, 0},
		"answer":                     {tokens, ``, `{"usage":{"total_tokens":1500}}`, money.One, 3000},
		"answer, rounds down":        {tokens, ``, `{"usage":{"total_tokens":1}}`, money.One, 2},
		"answer, maximum":            {tokens, ``, `{"usage":{"total_tokens":999999999}}`, money.One, money.One},
		"answer, overflow":           {tokens, ``, `{"usage":{"total_tokens":999999999999999999}}`, money.One, money.One},
		"answer, no field":           {tokens, ``, `{"usage":{}}`, money.One, money.One},
		"answer, a stream of events": {tokens, ``, "data: {}\n\n", money.One, money.One},
		"answer, none":               {tokens, ``, ``, money.One, money.One},
		"size":                       {size, ``, "12345", 25, 13},
		"size, nothing":              {size, ``, "", 25, 10},
		"size, maximum":              {size, ``, strings.Repeat("x", 100), 25, 25},
	} {
		if err := c.price.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if hold := c.price.Hold(asked(c.request)); hold != c.hold {
			t.Errorf("%s: holds %s instead of %s", name, hold, c.hold)
		}
		if charge := c.price.Charge(asked(c.request), []byte(c.answer)); charge != c.charge {
			t.Errorf("%s: costs %s instead of %s", name, charge, c.charge)
		}
	}
}

// TestSaysToBeSomethingElse: a form may hold another number than the JSON of the same bytes; what the headers call anything
// but plain JSON cannot be counted.
func TestSaysToBeSomethingElse(t *testing.T) {
	p := pricing.Price{By: pricing.RequestField, Field: "n", Unit: 1, Default: units(1), Maximum: 1000}
	const two = `{"n":2,"x":"&n=900&"}`
	for name, c := range map[string]struct {
		header http.Header
		body   string
		holds  money.USDC
	}{
		"JSON":            {http.Header{"Content-Type": {"application/json; charset=utf-8"}}, two, 2},
		"a kind of JSON":  {http.Header{"Content-Type": {"application/vnd.api+json"}}, two, 2},
		"nothing":         {http.Header{}, two, 2},
		"a form":          {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, two, 1000},
		"text":            {http.Header{"Content-Type": {"text/plain"}}, two, 1000},
		"no type":         {http.Header{"Content-Type": {"json"}}, two, 1000},
		"both":            {http.Header{"Content-Type": {"application/json", "application/x-www-form-urlencoded"}}, two, 1000},
		"packed":          {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"deflate"}}, two, 1000},
		"a form, no body": {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, "", 1},
	} {
		if got := p.Hold(pricing.Request{Header: c.header, Body: []byte(c.body)}); got != c.holds {
			t.Errorf("%s: holds %s", name, got)
		}
	}
}

func TestBadPrices(t *testing.T) {
	for name, p := range map[string]pricing.Price{
		"nothing":            {},
		"negative":           {PerCall: -1},
		"too much":           {PerCall: money.Max + 1},
		"a call with a unit": {PerCall: 1, Unit: 1},
		"unknown":            {PerCall: 1, By: "moon"},
		"no field":           {By: pricing.AnswerField, Unit: 1, Maximum: 1},
		"long field":         {By: pricing.AnswerField, Unit: 1, Maximum: 1, Field: strings.Repeat("x", 201)},
		"no maximum":         {By: pricing.AnswerField, Unit: 1, Field: "n"},
		"low maximum":        {PerCall: 2, By: pricing.AnswerField, Unit: 1, Field: "n", Maximum: 1},
		"no unit":            {By: pricing.AnswerField, Field: "n", Maximum: 1},
		"negative per":       {By: pricing.AnswerField, Field: "n", Unit: 1, Maximum: 1, Per: -1},
		"negative default":   {By: pricing.AnswerField, Field: "n", Unit: 1, Maximum: 1, Default: units(-1)},
		"size with a field":  {By: pricing.AnswerSize, Field: "n", Unit: 1, Maximum: 1},
	} {
		if p.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, p)
		}
	}
}

// FuzzCharge: whatever is asked and answered, a call costs what it should by exact arithmetic, between nothing and what is
// held, and that is never above the maximum.
func FuzzCharge(f *testing.F) {
	f.Add(int64(2_000_000), int64(1_000_000), int64(10), int64(1_000_000), uint64(1500), `{"usage":{"total_tokens":1500}}`)
	f.Add(int64(1), int64(0), int64(0), int64(1), uint64(1<<63), `{"n":1e9}`)
	f.Add(int64(money.Max), int64(1), int64(money.Max), int64(money.Max), uint64(999999999999999999), `{"a":{"b":[1,2]},"a":1}`)
	f.Fuzz(func(t *testing.T, unit, per, call, most int64, n uint64, body string) {
		for _, p := range []pricing.Price{
			{PerCall: money.USDC(call), By: pricing.AnswerField, Field: "n", Unit: money.USDC(unit), Per: per, Maximum: money.USDC(most)},
			{PerCall: money.USDC(call), By: pricing.RequestField, Field: "n", Unit: money.USDC(unit), Per: per, Maximum: money.USDC(most), Default: units(3)},
			{PerCall: money.USDC(call), By: pricing.AnswerSize, Unit: money.USDC(unit), Per: per, Maximum: money.USDC(most)},
			{PerCall: money.USDC(call)},
		} {
			if p.Validate() != nil {
				continue
			}
			for _, text := range []string{body, `{"n":` + new(big.Int).SetUint64(n).String() + `}`} {
				hold, charge := p.Hold(asked(text)), p.Charge(asked(text), []byte(text))
				if charge < 0 || charge > hold || (p.By != pricing.Nothing && hold > p.Maximum) {
					t.Fatalf("%+v with %q: holds %d, charges %d", p, text, hold, charge)
				}
			}
			if p.By != pricing.AnswerField || n >= 1e18 {
				continue
			}
			exact := new(big.Int).Mul(big.NewInt(unit), new(big.Int).SetUint64(n))
			exact.Div(exact, big.NewInt(max(per, 1))).Add(exact, big.NewInt(call))
			if exact.Cmp(big.NewInt(most)) > 0 {
				exact.SetInt64(most)
			}
			text := `{"n":` + new(big.Int).SetUint64(n).String() + `}`
			if got := p.Charge(pricing.Request{}, []byte(text)); got.Big().Cmp(exact) != 0 {
				t.Fatalf("%+v with %d: %d instead of %s", p, n, got, exact)
			}
		}
	})
}
