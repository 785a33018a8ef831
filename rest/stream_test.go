package rest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/rest"
)

// logged is a log that a test reads while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// source is a body that tells when it is closed.
type source struct {
	io.Reader
	closed chan struct{}
}

func (s source) Close() error { close(s.closed); return nil }

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// streaming serves one body and returns where, the log, and what tells that the body is closed.
func streaming(t *testing.T, body io.Reader, length int64, ago time.Duration) (string, *logged, <-chan struct{}) {
	t.Helper()
	log, closed := &logged{}, make(chan struct{})
	door := rest.NewDoor(rest.Agnic, nil, rest.Options{
		Log: slog.New(slog.NewTextHandler(log, nil)), Clock: func() time.Time { return time.Now().Add(-ago) },
	})
	routes := http.NewServeMux()
	routes.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		door.Stream(w, r, http.StatusTeapot, source{body, closed}, length)
	})
	server := httptest.NewServer(door.Handler(routes))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), log, closed
}

// A caller that takes nothing is cut off, and so is the service behind it; the log says so, and nothing of a panic.
func TestStreamToACallerWhoTakesNothing(t *testing.T) {
	address, log, closed := streaming(t, zeros{}, -1, time.Minute-200*time.Millisecond) // so that a minute is over soon
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on writing")
	}
	for !strings.Contains(log.String(), "msg=request") {
		time.Sleep(time.Millisecond)
	}
	if !strings.Contains(log.String(), "cut=") || !strings.Contains(log.String(), "status=418") || strings.Contains(log.String(), "panic") {
		t.Error(log)
	}
}

// broken is a body that breaks off.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestStreamsEndAsTheirBodiesDo(t *testing.T) {
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
		cut    bool
	}{
		"known": {strings.NewReader("body"), 4, false}, "unknown": {strings.NewReader("body"), -1, false}, "empty": {strings.NewReader(""), 0, false},
		"known, breaks off": {broken{strings.NewReader("bo")}, 4, true}, "unknown, breaks off": {broken{strings.NewReader("body")}, -1, true},
		"too short": {strings.NewReader("bo"), 4, true},
	} {
		address, _, closed := streaming(t, c.body, c.length, 0)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(name, err)
		}
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if (err != nil) != c.cut || resp.StatusCode != http.StatusTeapot || resp.ContentLength != c.length {
			t.Errorf("%s: %d, %d bytes, %v", name, resp.StatusCode, resp.ContentLength, err)
		}
		<-closed
	}
}
