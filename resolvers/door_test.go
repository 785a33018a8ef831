package resolvers_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bursar/core/coretest"
	"bursar/graph/ws"
	"bursar/resolvers"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// door is the API over a whole world.
type door struct {
	*coretest.World
	url string
	log *bytes.Buffer
}

func open(t testing.TB) *door { return openWith(t, 0) }

func openWith(t testing.TB, recheck time.Duration) *door {
	t.Helper()
	d := &door{World: coretest.New(t), log: &bytes.Buffer{}}
	mux := http.NewServeMux()
	s := resolvers.Mount(mux, d.Core, resolvers.Options{
		Log: slog.New(slog.NewTextHandler(d.log, nil)), Clock: d.Clock.Now, GraphiQL: true, Recheck: recheck,
	})
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	t.Cleanup(func() {
		if err := s.Shutdown(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
	})
	d.url = h.URL
	return d
}

// user registers a person and returns the header that they call with.
func (d *door) user(email string) http.Header {
	d.T.Helper()
	_, l := d.User(email)
	return bearer(l.Token)
}

func bearer(secret string) http.Header { return http.Header{"Authorization": {"Bearer " + secret}} }

// answer is a response as clients see it.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	text   string
	Data   map[string]any
	Errors []struct {
		Message    string
		Path       []any
		Extensions map[string]any
	}
}

// code is the first error's.
func (a *answer) code() string {
	if len(a.Errors) == 0 {
		return ""
	}
	code, _ := a.Errors[0].Extensions["code"].(string)
	return code
}

// refused wants this code, and nothing done.
func (a *answer) refused(code string) {
	a.t.Helper()
	if a.code() != code {
		a.t.Errorf("%d %s\nwant %s", a.status, a.text, code)
	}
}

// at walks to a value of the data: "openSession.id", "agents.0.name".
func (a *answer) at(path string) any {
	a.t.Helper()
	return at(a.t, any(a.Data), path)
}

func at(t testing.TB, v any, path string) any {
	t.Helper()
	for _, step := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			if i := int(step[0] - '0'); i < len(x) {
				v = x[i]
				continue
			}
			t.Fatalf("%s: only %d", path, len(x))
		default:
			t.Fatalf("%s: nothing at %s", path, step)
		}
	}
	return v
}

// text is a value that must be one.
func (a *answer) str(path string) string {
	a.t.Helper()
	s, ok := a.at(path).(string)
	if !ok {
		a.t.Fatalf("%s is no text in %s", path, a.text)
	}
	return s
}

// ask sends a document and its variables, and takes any answer.
func (d *door) ask(h http.Header, query string, variables map[string]any) *answer {
	d.T.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		d.T.Fatal(err)
	}
	return d.send(http.MethodPost, "/graphql", h, bytes.NewReader(body))
}

func (d *door) send(method, path string, h http.Header, body io.Reader) *answer {
	d.T.Helper()
	r, err := http.NewRequestWithContext(d.Ctx, method, d.url+path, body)
	if err != nil {
		d.T.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}}
	for name, values := range h {
		r.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.T.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.T.Fatal(err)
	}
	a := &answer{t: d.T, status: resp.StatusCode, header: resp.Header, text: string(b)}
	_ = json.Unmarshal(b, a)
	return a
}

// do wants an answer without errors.
func (d *door) do(h http.Header, query string, variables map[string]any) *answer {
	d.T.Helper()
	a := d.ask(h, query, variables)
	if a.status != http.StatusOK || len(a.Errors) > 0 {
		d.T.Fatalf("%s\n%d %s", query, a.status, a.text)
	}
	return a
}

// socket is a websocket client.
type socket struct {
	*websocket.Conn
	t testing.TB
}

// message is one of the protocol's.
type message struct {
	ID, Type string
	Payload  json.RawMessage
}

// dial connects and sends connection_init.
func (d *door) dial(h http.Header, payload map[string]any) *socket {
	d.T.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{ws.Subprotocol}, HandshakeTimeout: patience}
	c, resp, err := dialer.Dial("ws"+strings.TrimPrefix(d.url, "http")+"/graphql", h)
	if err != nil {
		d.T.Fatal(err, resp)
	}
	d.T.Cleanup(func() { _ = c.Close() })
	s := &socket{c, d.T}
	s.say(map[string]any{"type": "connection_init", "payload": payload})
	return s
}

// live connects and is acknowledged.
func (d *door) live(h http.Header) *socket {
	d.T.Helper()
	s := d.dial(h, nil)
	s.hear("connection_ack")
	return s
}

func (s *socket) say(v any) {
	s.t.Helper()
	if err := s.WriteJSON(v); err != nil {
		s.t.Fatal(err)
	}
}

func (s *socket) subscribe(id, query string, variables map[string]any) {
	s.t.Helper()
	s.say(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": query, "variables": variables}})
}

// next is the next message that is no ping.
func (s *socket) next() message {
	s.t.Helper()
	for {
		var m message
		_ = s.SetReadDeadline(time.Now().Add(patience))
		if err := s.ReadJSON(&m); err != nil {
			s.t.Fatal(err)
		}
		if m.Type != "ping" {
			return m
		}
	}
}

func (s *socket) hear(kind string) message {
	s.t.Helper()
	m := s.next()
	if m.Type != kind {
		s.t.Fatalf("heard %s %s, want %s", m.Type, m.Payload, kind)
	}
	return m
}

// event is the data of the next event.
func (s *socket) event(path string) any {
	s.t.Helper()
	var payload struct{ Data map[string]any }
	if err := json.Unmarshal(s.hear("next").Payload, &payload); err != nil {
		s.t.Fatal(err)
	}
	return at(s.t, any(payload.Data), path)
}

// failure is the code of the error that ends an operation.
func (s *socket) failure() string {
	s.t.Helper()
	m := s.hear("error")
	a := &answer{t: s.t, text: string(m.Payload)}
	if err := json.Unmarshal(m.Payload, &a.Errors); err != nil {
		s.t.Fatal(err)
	}
	return a.code()
}

// quiet wants nothing between a ping and its pong.
func (s *socket) quiet() {
	s.t.Helper()
	s.say(map[string]any{"type": "ping"})
	s.hear("pong")
}

// closed wants the connection's end.
func (s *socket) closed(code int) {
	s.t.Helper()
	for {
		_ = s.SetReadDeadline(time.Now().Add(patience))
		_, text, err := s.ReadMessage()
		var end *websocket.CloseError
		switch {
		case errors.As(err, &end) && end.Code == code:
			return
		case err != nil:
			s.t.Fatalf("%v, want close %d", err, code)
		}
		s.t.Logf("before the close: %s", text)
	}
}
