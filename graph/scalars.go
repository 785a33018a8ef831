package graph

import (
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/99designs/gqlgen/graphql"
)

var (
	errMoment = errors.New("not a moment as RFC 3339 writes it")
	errText   = errors.New("not a text")
)

// MarshalDateTime writes the scalar DateTime, always in UTC.
func MarshalDateTime(t time.Time) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		_, _ = io.WriteString(w, strconv.Quote(t.UTC().Format(time.RFC3339Nano)))
	})
}

// UnmarshalDateTime reads the scalar DateTime.
func UnmarshalDateTime(v any) (time.Time, error) {
	text, ok := v.(string)
	if !ok {
		return time.Time{}, errMoment
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, errMoment
	}
	return t.UTC(), nil
}

// MarshalUnixTime writes the scalar DateTime from unix seconds, the form of moments that SQL compares.
func MarshalUnixTime(seconds int64) graphql.Marshaler { return MarshalDateTime(time.Unix(seconds, 0)) }

// UnmarshalUnixTime reads the scalar DateTime as unix seconds.
func UnmarshalUnixTime(v any) (int64, error) {
	t, err := UnmarshalDateTime(v)
	return t.Unix(), err
}

// MarshalHex writes the scalars Address, Hash and Wei; an empty text, which is how records say "none", is null.
func MarshalHex(s string) graphql.Marshaler {
	if s == "" {
		return graphql.Null
	}
	return graphql.MarshalString(s)
}

// UnmarshalHex reads the scalars Address, Hash and Wei. Whether it is a good one is for core to say.
func UnmarshalHex(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	return "", errText
}
