package pay

import (
	"net/http"
	"strings"
)

// Challenge is one challenge of WWW-Authenticate (RFC 9110, 11.6.1).
type Challenge struct {
	Scheme  string            // as written; compare with strings.EqualFold
	Token68 string            // in place of parameters
	Params  map[string]string // names in lower case, values without quotes and escapes
	Err     error             // the challenge cannot be read, and nothing after it in its header line
}

// Is reports whether the challenge has the scheme.
func (c Challenge) Is(scheme string) bool { return strings.EqualFold(c.Scheme, scheme) }

// Challenges reads all challenges of a response, over all its lines of WWW-Authenticate. A line may hold several, with
// commas inside quotes as well as between parameters and challenges.
func Challenges(h http.Header) ([]Challenge, error) {
	lines := h.Values("WWW-Authenticate")
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	if size > MaxHeader {
		return nil, Refusal(Malformed, "WWW-Authenticate is longer than %d bytes", MaxHeader)
	}
	var all []Challenge
	for _, line := range lines {
		r := reader{rest: line}
		for r.list(); r.rest != ""; r.list() {
			c := r.challenge()
			if all = append(all, c); c.Err != nil {
				break
			}
			if len(all) > MaxOffers {
				return nil, Refusal(Malformed, "more than %d challenges", MaxOffers)
			}
		}
	}
	return all, nil
}

// ReadParams reads a list of parameters alone, as some receipts are written: a="b", c=d.
func ReadParams(s string) (map[string]string, error) {
	if len(s) > MaxHeader {
		return nil, Refusal(Malformed, "header is longer than %d bytes", MaxHeader)
	}
	r := reader{rest: s}
	r.list()
	params := map[string]string{}
	if err := r.params(params); err != nil {
		return nil, err
	}
	if r.rest != "" {
		return nil, Refusal(Malformed, "more than parameters at %q", Text(r.rest))
	}
	return params, nil
}

// reader takes a header line apart from the left.
type reader struct{ rest string }

// spaces skips white space that may stand anywhere between tokens.
func (r *reader) spaces() { r.rest = strings.TrimLeft(r.rest, " \t") }

// list skips what separates elements of a list, empty elements included.
func (r *reader) list() { r.rest = strings.TrimLeft(r.rest, " \t,") }

// token takes the longest token, or nothing.
func (r *reader) token() string {
	end := 0
	for end < len(r.rest) && isTokenByte(r.rest[end]) {
		end++
	}
	t := r.rest[:end]
	r.rest = r.rest[end:]
	return t
}

func (r *reader) challenge() Challenge {
	c := Challenge{Scheme: r.token(), Params: map[string]string{}}
	if c.Scheme == "" {
		c.Err = Refusal(Malformed, "no scheme at %q", Text(r.rest))
		return c
	}
	if r.rest != "" && r.rest[0] != ' ' && r.rest[0] != ',' && r.rest[0] != '\t' {
		c.Err = Refusal(Malformed, "scheme %q goes on with %q", Text(c.Scheme), Text(r.rest))
		return c
	}
	r.spaces()
	if r.rest == "" || r.rest[0] == ',' {
		return c
	}
	if c.Token68 = r.token68(); c.Token68 != "" {
		return c
	}
	c.Err = r.params(c.Params)
	return c
}

// token68 takes a value such as Basic and Negotiate have: up to the comma or the end, with no parameter in it.
func (r *reader) token68() string {
	value, _, _ := strings.Cut(r.rest, ",")
	value = strings.TrimRight(value, " \t")
	body := strings.TrimRight(value, "=")
	for i := range len(body) {
		if b := body[i]; !isAlphanumeric(b) && !strings.ContainsRune("-._~+/", rune(b)) {
			return ""
		}
	}
	if body == "" {
		return ""
	}
	r.rest = r.rest[len(value):]
	return value
}

// params takes parameters until the end of the line or the next challenge. A name that comes twice is refused: readers
// differ in which of the two they believe.
func (r *reader) params(into map[string]string) error {
	for {
		name := strings.ToLower(r.token())
		if r.spaces(); name == "" || r.rest == "" || r.rest[0] != '=' {
			return Refusal(Malformed, "no parameter at %q", Text(name+r.rest))
		}
		r.rest = r.rest[1:]
		r.spaces()
		value, err := r.value()
		if err != nil {
			return err
		}
		if _, twice := into[name]; twice {
			return Refusal(Malformed, "parameter %q comes twice", Text(name))
		}
		into[name] = value
		r.spaces()
		if r.rest != "" && r.rest[0] != ',' {
			return Refusal(Malformed, "no comma at %q", Text(r.rest))
		}
		if r.list(); r.rest == "" || !r.atParam() {
			return nil
		}
	}
}

// atParam tells a parameter from the next challenge: only the former has an equals sign after its name.
func (r *reader) atParam() bool {
	ahead := *r
	if ahead.token() == "" {
		return true // neither: params says so
	}
	ahead.spaces()
	return strings.HasPrefix(ahead.rest, "=")
}

func (r *reader) value() (string, error) {
	if !strings.HasPrefix(r.rest, `"`) {
		v := r.token()
		if v == "" {
			return "", Refusal(Malformed, "no value at %q", Text(r.rest))
		}
		return v, nil
	}
	var b strings.Builder
	for i := 1; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case c == '"':
			r.rest = r.rest[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(r.rest):
			i++
			b.WriteByte(r.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", Refusal(Malformed, "a quoted value does not end")
}

func isAlphanumeric(b byte) bool {
	return (b >= '0' && b <= '9') || (b|0x20 >= 'a' && b|0x20 <= 'z')
}

func isTokenByte(b byte) bool {
	return isAlphanumeric(b) || (b > ' ' && b < 0x7f && strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0)
}
