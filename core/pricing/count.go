package pricing

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"strconv"
	"strings"
)

// maxDepth is how deep a body may be nested for its field to be counted.
const maxDepth = 64

// maxDigits bounds a number that is counted: what has more digits costs the maximum anyway.
const maxDigits = 18

// count reads the number at a path of the request's JSON body. A body that says to be something else cannot be counted: the
// service may read another number in the same bytes.
func (r Request) count(path string, missing *int64) (uint64, bool) {
	if len(r.Body) > 0 && !r.isJSON() {
		return 0, false
	}
	return count(r.Body, path, missing)
}

func (r Request) isJSON() bool {
	types := r.Header.Values("Content-Type")
	if len(r.Header.Values("Content-Encoding")) > 0 || len(types) > 1 {
		return false
	}
	if len(types) == 0 {
		return true
	}
	kind, _, err := mime.ParseMediaType(types[0])
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// count reads the number at a path of a JSON object. A fraction is cut off. It reports false for what cannot be counted:
// another kind of body, a key that comes twice or a step of the path in other letter cases (readers differ in what counts), a
// value that is no number or a negative one, an exponent. An empty body is an empty object.
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
		here := on && at < len(w.path)
		if here && name != w.path[at] && strings.EqualFold(name, w.path[at]) {
			return errBody
		}
		if err := w.value(at+1, here && name == w.path[at], depth); err != nil {
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
