package x402

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Extensions of version 2: an object of {key: {info, schema}}. A proof repeats it as it came and adds to an info, never
// changing what is there.

// addition is a set of fields, an object in JSON, for the info of the extension of that name.
type addition struct {
	extension string
	fields    any
}

var errExtension = errors.New("x402: the extension cannot be added to")

// extend makes the additions to extensions that the seller has declared.
func extend(extensions json.RawMessage, additions ...addition) (json.RawMessage, error) {
	for _, a := range additions {
		all, err := members(extensions)
		if err != nil {
			return nil, err
		}
		i := index(all, a.extension)
		if i < 0 {
			return nil, errExtension
		}
		if all[i].value, err = addInfo(all[i].value, a.fields); err != nil {
			return nil, err
		}
		extensions = object(all...)
	}
	return extensions, nil
}

// addInfo adds fields to an extension's info.
func addInfo(extension json.RawMessage, fields any) (json.RawMessage, error) {
	parts, err := members(extension)
	if err != nil {
		return nil, err
	}
	i := index(parts, "info")
	if i < 0 {
		return nil, errExtension
	}
	info, err := members(parts[i].value)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	more, err := members(b)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		if index(info, m.key) >= 0 {
			return nil, errExtension
		}
	}
	parts[i].value = object(append(info, more...)...)
	return object(parts...), nil
}

func index(all []field, key string) int {
	for i, f := range all {
		if f.key == key {
			return i
		}
	}
	return -1
}

// members takes an object apart, in order, without touching the values' bytes.
func members(raw json.RawMessage) ([]field, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errExtension
	}
	var all []field
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil, errExtension
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errExtension
		}
		all = append(all, field{key, value})
	}
	return all, nil
}
