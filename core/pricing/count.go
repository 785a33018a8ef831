package pricing

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxDepth is how deep a body may be nested for its field to be counted.
const maxDepth = 64

// maxDigits bounds a number that is counted: what has more digits costs the maximum anyway.
const maxDigits = 18

// count reads the number at a path of a JSON object. A fraction is cut off. It reports false for what cannot be counted:
// another kind of body, a key that comes twice (readers differ in which of them counts), a value that is no number or a
// negative one, an exponent. An empty body is an empty object.
func count(body []byte, path string, missing *int64) (uint64, bool) {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	w := walk{Decoder: d, path: strings.Split(path, ".")}
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		return 0, false
	}
	if w.object(0, true, 1) != nil {
		return 0, false
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, false
	}
	if !w.found {
		if missing == nil {
			return 0, false
		}
		return uint64(*missing), true
	}
	return w.units, w.counted
}

// walk reads a whole document, and what lies at the path.
type walk struct {
	*json.Decoder
	path           []string
	found, counted bool
	units          uint64
}

var errBody = errors.New("pricing: not countable")

// value reads one value; at is how many steps of the path lead to it if on is set.
func (w *walk) value(at int, on bool, depth int) error {
	t, err := w.Token()
	if err != nil {
		return err
	}
	switch v := t.(type) {
	case json.Delim:
		if on && at == len(w.path) {
			w.found = true // and no number
		}
		if depth > maxDepth {
			return errBody
		}
		if v == '{' {
			return w.object(at, on, depth+1)
		}
		return w.list(at, on, depth+1)
	case json.Number:
		if on && at == len(w.path) {
			w.found = true
			w.units, w.counted = whole(v.String())
		}
	default:
		if on && at == len(w.path) {
			w.found = true
		}
	}
	return nil
}

func (w *walk) object(at int, on bool, depth int) error {
	seen := map[string]bool{}
	for w.More() {
		t, err := w.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return errBody
		}
		seen[name] = true
		if err := w.value(at+1, on && at < len(w.path) && name == w.path[at], depth); err != nil {
			return err
		}
	}
	_, err := w.Token()
	return err
}

func (w *walk) list(at int, on bool, depth int) error {
	for i := 0; w.More(); i++ {
		if err := w.value(at+1, on && at < len(w.path) && strconv.Itoa(i) == w.path[at], depth); err != nil {
			return err
		}
	}
	_, err := w.Token()
	return err
}

// whole is the whole part of a plain decimal number that is not negative.
func whole(text string) (uint64, bool) {
	digits, _, _ := strings.Cut(text, ".")
	if len(digits) > maxDigits || strings.ContainsAny(text, "eE-") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}
