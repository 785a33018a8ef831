package pay_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"bursar/pay"
)

func header(lines ...string) http.Header { return http.Header{"Www-Authenticate": lines} }

// Examples of RFC 9110 and 7235, and the corners of their grammar.
func TestChallenges(t *testing.T) {
	type params = map[string]string
	for _, c := range []struct {
		lines []string
		want  []pay.Challenge
	}{
		{nil, nil},
		{[]string{"", " , ,"}, nil},
		{[]string{`Basic realm="simple"`}, []pay.Challenge{{Scheme: "Basic", Params: params{"realm": "simple"}}}},
		{
			[]string{`Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple"`},
			[]pay.Challenge{{Scheme: "Newauth", Params: params{"realm": "apps", "type": "1", "title": `Login to "apps"`}}, {Scheme: "Basic", Params: params{"realm": "simple"}}},
		},
		{
			[]string{`Negotiate, Bearer, NTLM TlRMTVNTUAAB==`, `Payment a = "1,2" ,, b="x\\y" , Last`},
			[]pay.Challenge{
				{Scheme: "Negotiate", Params: params{}},
				{Scheme: "Bearer", Params: params{}},
				{Scheme: "NTLM", Token68: "TlRMTVNTUAAB==", Params: params{}},
				{Scheme: "Payment", Params: params{"a": "1,2", "b": `x\y`}},
				{Scheme: "Last", Params: params{}},
			},
		},
		{[]string{`A b=""`}, []pay.Challenge{{Scheme: "A", Params: params{"b": ""}}}},
		{[]string{`A b="c", d=e`, "F g"}, []pay.Challenge{{Scheme: "A", Params: params{"b": "c", "d": "e"}}, {Scheme: "F", Token68: "g", Params: params{}}}},
	} {
		if got, err := pay.Challenges(header(c.lines...)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", c.lines, got, err, c.want)
		}
	}
}

// A challenge that cannot be read keeps its scheme, so that its protocol can say so; nothing after it in the line counts.
func TestBrokenChallenges(t *testing.T) {
	for line, why := range map[string]string{
		`Payment id="open`: "does not end", `Payment id="x" realm="y", a=b`: "no comma", `Payment a=b, c=`: "no value",
		`Payment id="x", ID="y", a=b`: "comes twice", `Payment "x", a=b`: "no parameter", `Payment id="x\`: "does not end", `Payment;id=1`: "goes on with",
		"Payment a=b, \x00, c=d": "no parameter",
	} {
		got, err := pay.Challenges(header(`First x=y, `+line, `Payment next="1"`))
		if err != nil || len(got) != 3 || got[0].Err != nil || !got[1].Is("payment") || got[1].Err == nil || got[2].Params["next"] != "1" {
			t.Errorf("%q: %+v, %v", line, got, err)
		} else if !strings.Contains(got[1].Err.Error(), why) {
			t.Errorf("%q: %v, want %q", line, got[1].Err, why)
		}
	}
	if got, err := pay.Challenges(header("(x)")); err != nil || len(got) != 1 || got[0].Err == nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, lines := range [][]string{{strings.Repeat("A,", 33)}, {strings.Repeat("x", pay.MaxHeader+1)}, {strings.Repeat("x", pay.MaxHeader), "x"}} {
		if got, err := pay.Challenges(header(lines...)); err == nil {
			t.Errorf("%d challenges of %d bytes", len(got), len(lines[0]))
		}
	}
}

func TestReadJSON(t *testing.T) {
	var into struct {
		A string         `json:"a"`
		B map[string]any `json:"b"`
	}
	if err := pay.ReadJSON([]byte(" {\"a\":\"x\",\"b\":{\"a\":1,\"c\":[{\"a\":1},{\"a\":2}]},\"d\":null}\n"), &into); err != nil || into.A != "x" {
		t.Errorf("%+v, %v", into, err)
	}
	for text, why := range map[string]string{
		`{"a":"1","a":"2"}`: "comes twice", `{"b":{"c":[{"d":1,"d":1}]}}`: "comes twice", "{\"a\":\"1\",\"\\u0061\":\"2\"}": "comes twice",
		`{"a":1}`: "number", `{} {}`: "more than one", `{}x`: "more than one", `[]`: "not a JSON object", `"a"`: "not a JSON object", ``: "not JSON",
		`{`: "not JSON", `{"a":}`: "not JSON", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65): "nested deeper",
	} {
		if err := pay.ReadJSON([]byte(text), &into); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
}

// FuzzChallenges holds that no line panics, that limits hold, and that what was read can be written and read again.
func FuzzChallenges(f *testing.F) {
	f.Add(`Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple", NTLM TlRM==`)
	f.Add(`Payment id="open`)
	f.Fuzz(func(t *testing.T, line string) {
		all, err := pay.Challenges(header(line))
		if err != nil {
			return
		}
		for _, c := range all {
			if c.Err != nil || c.Scheme == "" || len(c.Params) == 0 {
				continue
			}
			var parts []string
			for name, value := range c.Params {
				parts = append(parts, name+`="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)+`"`)
			}
			again, err := pay.Challenges(header(c.Scheme + " " + strings.Join(parts, ", ")))
			if err == nil && (len(again) != 1 || !reflect.DeepEqual(again[0].Params, c.Params)) {
				t.Fatalf("%+v reads again as %+v", c, again)
			}
		}
	})
}

// FuzzReadJSON holds that no text panics, and that what passes has one meaning.
func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,{"c":null}]}}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var into map[string]any
		_ = pay.ReadJSON(b, &into)
	})
}
