package coretest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Wire stands between a process of the program and PostgreSQL, and breaks when it is told to. SQLite has no wire.
type Wire struct {
	t      testing.TB
	behind string
	url    string
	listen net.Listener

	mu    sync.Mutex
	plan  []Break
	conns map[net.Conn]bool
}

// Break is how a connection ends.
type Break int

// The breaks, each of the next connection that comes to it.
const (
	BeforeCommit Break = iota + 1 // the server has not heard of COMMIT, and gives the transaction up
	AfterCommit                   // the server has committed, and the answer is lost
	AtStatement                   // the server has not heard of a statement
)

// NewWire listens in front of the server of a database until the test ends.
func NewWire(t testing.TB, databaseURL string) *Wire {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{t: t, behind: u.Host, conns: map[net.Conn]bool{}}
	if w.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = w.listen.Addr().String()
	w.url = u.String()
	t.Cleanup(w.Close)
	go w.accept()
	return w
}

// URL is the database's, by way of the wire.
func (w *Wire) URL() string { return w.url }

// Set plans the breaks to come; none makes the wire good again.
func (w *Wire) Set(plan ...Break) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan = plan
}

// Close ends every connection, as the end of a process does, and takes no more.
func (w *Wire) Close() {
	_ = w.listen.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *Wire) accept() {
	for {
		client, err := w.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.behind)
		if err != nil {
			w.t.Error(err)
			_ = client.Close()
			return
		}
		w.mu.Lock()
		w.conns[client] = true
		w.mu.Unlock()
		lose := make(chan struct{})
		go w.back(client, server, lose)
		go w.forth(client, server, lose)
	}
}

func (w *Wire) end(client, server net.Conn) {
	_, _ = client.Close(), server.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, client)
}

// breaks takes the planned break if a message comes to it.
func (w *Wire) breaks(kind byte, body []byte) Break {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.plan) == 0 {
		return 0
	}
	commit := kind == 'Q' && bytes.HasPrefix(bytes.ToUpper(body), []byte("COMMIT"))
	b := w.plan[0]
	if commit != (b != AtStatement) || (b == AtStatement && kind == 'X') {
		return 0
	}
	w.plan = w.plan[1:]
	return b
}

// forth passes the client's messages on, one by one.
func (w *Wire) forth(client, server net.Conn, lose chan struct{}) {
	broken := false
	defer func() {
		if !broken {
			w.end(client, server)
		}
	}()
	for first := true; ; first = false { // the first has no kind
		kind, message, err := message(client, first)
		if err != nil {
			return
		}
		b := Break(0)
		if !first {
			b = w.breaks(kind, message[5:])
		}
		if b == BeforeCommit || b == AtStatement {
			return
		}
		if broken = b == AfterCommit; broken {
			close(lose)
		}
		if _, err := server.Write(message); err != nil || broken {
			return
		}
	}
}

func message(from io.Reader, first bool) (byte, []byte, error) {
	head := make([]byte, 5)
	if first {
		head = head[:4]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return 0, nil, err
	}
	const most = 64 << 20
	n := binary.BigEndian.Uint32(head[len(head)-4:])
	if n < 4 || n > most {
		return 0, nil, errors.New("coretest: no message of PostgreSQL")
	}
	out := append(head, make([]byte, n-4)...)
	_, err := io.ReadFull(from, out[len(head):])
	return head[0], out, err
}

// back passes the server's answers on, until one is to be lost: then the connection ends with it.
func (w *Wire) back(client, server net.Conn, lose chan struct{}) {
	defer w.end(client, server)
	buffer := make([]byte, 32<<10)
	ready := []byte{'Z', 0, 0, 0, 5} // and one byte of status: the answer is complete
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-lose:
			if n > len(ready) && bytes.Equal(buffer[n-len(ready)-1:n-1], ready) {
				return
			}
			continue
		default:
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
