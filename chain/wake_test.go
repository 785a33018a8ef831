package chain_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/chain/chaintest"
)

// tunnel passes connections on to a node until they are cut.
type tunnel struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newTunnel(t *testing.T, to string) *tunnel {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tunnel{Listener: l}
	t.Cleanup(func() { l.Close(); w.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, in, out)
			w.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
	return w
}

func (w *tunnel) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func TestWake(t *testing.T) {
	n := chaintest.New(t)
	at := newTunnel(t, strings.TrimPrefix(n.Node.WS(), "ws://"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel() // before the client closes, which waits for it
	c := watch(t, n, n.Node.URL())
	wake := c.Wake(ctx, "ws://"+at.Addr().String(), "ws://127.0.0.1:1/secret")
	woken := func(what string) {
		t.Helper()
		select {
		case <-wake:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no signal", what)
		}
	}
	woken("subscribed")
	for range 3 {
		n.Node.Commit()
		woken("a block")
		for len(wake) > 0 {
			<-wake
		}
	}
	at.cut()
	woken("subscribed again") // by itself, and at once since a block may have been missed
	n.Node.Commit()
	woken("a block after that")
	if c.logged("secret") != 0 {
		t.Error("a URL was logged")
	}
	silent := watch(t, n, n.Node.URL()).Wake(ctx)
	n.Node.Commit()
	select {
	case <-silent:
		t.Error("a signal without a websocket")
	case <-wake:
	}
}
