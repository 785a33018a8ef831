package pay

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxDepth is how deep a seller's JSON may be nested; honest challenges with schemas in them stay below 20.
const maxDepth = 64

// ReadJSON decodes a seller's JSON object and refuses what readers understand differently: a key that comes twice, text
// after the object, nesting without end. Unknown fields are ignored.
func ReadJSON(b []byte, into any) error {
	if err := oneMeaning(b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return Refusal(Malformed, "%s", Text(err.Error()))
	}
	return nil
}

// oneMeaning walks an object's tokens. The keys of every object that is open are kept in a stack; an array's are nil.
func oneMeaning(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var open []map[string]bool
	key := false // the next token in an object is a key
	for first := true; first || len(open) > 0; first = false {
		t, err := d.Token()
		if err != nil {
			return Refusal(Malformed, "not JSON: %s", Text(err.Error()))
		}
		delim, isDelim := t.(json.Delim)
		if first && delim != '{' {
			return Refusal(Malformed, "not a JSON object")
		}
		switch {
		case isDelim && (delim == '{' || delim == '['):
			if len(open) == maxDepth {
				return Refusal(Malformed, "nested deeper than %d", maxDepth)
			}
			var keys map[string]bool
			if delim == '{' {
				keys = map[string]bool{}
			}
			open, key = append(open, keys), delim == '{'
			continue
		case isDelim:
			open = open[:len(open)-1]
		case key:
			name, _ := t.(string)
			if open[len(open)-1][name] {
				return Refusal(Malformed, "key %q comes twice", Text(name))
			}
			open[len(open)-1][name], key = true, false
			continue
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Refusal(Malformed, "more than one JSON value")
	}
	return nil
}
