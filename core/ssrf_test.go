package core_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"bursar/core"
	"bursar/core/coretest"
)

// canary is a private server that must never be reached.
type canary struct {
	port    string
	reached atomic.Int64
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.reached.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	_, c.port, _ = net.SplitHostPort(s.Listener.Addr().String())
	if six, err := net.Listen("tcp6", "[::1]:"+c.port); err == nil {
		t.Cleanup(func() { _ = six.Close() })
		go func() {
			for {
				conn, err := six.Accept()
				if err != nil {
					return
				}
				c.reached.Add(1)
				_ = conn.Close()
			}
		}()
	}
	return c
}

// names answers DNS questions on loopback, each time with the next of the addresses.
func names(t *testing.T, addresses ...[4]byte) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		packet := make([]byte, 1500)
		for asked := 0; ; {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: addresses[asked%len(addresses)]},
				}}
				asked++
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = server.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// hidden are spellings of addresses that no agent may reach; %s is the canary's port.
var hidden = []string{
	"http://127.0.0.1:%s/", "http://localhost:%s/", "http://LOCALHOST:%s/", "http://127.1:%s/", "http://127.0.0.1.:%s/", "http://localhost.:%s/",
	"http://2130706433:%s/", "http://0x7f000001:%s/", "http://0x7f.0.0.1:%s/", "http://0177.0.0.1:%s/", "http://017700000001:%s/", "http://127.0.1:%s/",
	"http://0:%s/", "http://0.0.0.0:%s/", "http://127.255.255.254:%s/", "http://[::1]:%s/", "http://[::]:%s/", "http://[0:0:0:0:0:0:0:1]:%s/",
	"http://[::ffff:127.0.0.1]:%s/", "http://[::ffff:7f00:1]:%s/", "http://[::127.0.0.1]:%s/", "http://[64:ff9b::7f00:1]:%s/", "http://[64:ff9b:1::7f00:1]:%s/",
	"http://[2002:7f00:1::]:%s/", "http://[2001::7f00:1]:%s/", "http://[::1%%25lo]:%s/", "http://[fe80::1%%25lo]:%s/", "http://①②⑦.0.0.1:%s/", "http://127。0。0。1:%s/",
	"http://ⓛocalhost:%s/", "http://user@127.0.0.1:%s/", "http://user:pass@127.0.0.1:%s/", `http://example.com\@127.0.0.1:%s/`, "http://127.0.0.1:%s\\@example.com/",
	"http://example.com@127.0.0.1:%s/", "http:127.0.0.1:%s", "http:/127.0.0.1:%s/", "//127.0.0.1:%s/", "HTTP://127.0.0.1:%s/", " http://127.0.0.1:%s/", "http://127.0.0.1\t:%s/",
	"http://127.0.0.1%%00:%s/", "http://%%31%%32%%37.0.0.1:%s/", "file:///etc/passwd?%s", "gopher://127.0.0.1:%s/", "ftp://127.0.0.1:%s/", "ws://127.0.0.1:%s/",
	"http://169.254.169.254/latest/meta-data/?%s", "http://[fd00:ec2::254]/?%s", "http://metadata.google.internal./?%s", "http://100.100.100.200/?%s", "http://10.0.0.1/?%s",
	"http://172.16.0.1/?%s", "http://192.168.0.1/?%s", "http://100.64.0.1/?%s", "http://198.18.0.1/?%s", "http://192.0.0.1/?%s", "http://224.0.0.1/?%s", "http://240.0.0.1/?%s",
	"http://255.255.255.255/?%s", "http://[fc00::1]/?%s", "http://[fe80::1]/?%s", "http://[ff02::1]/?%s", "http://[::ffff:169.254.169.254]/?%s", "http://[::ffff:a00:1]/?%s",
}

// TestNoPrivateAddressIsReached: through every spelling, by names that change their address, and by redirects of every
// kind, not one connection reaches a server that the operator has not named.
func TestNoPrivateAddressIsReached(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", 0)
	c := newCanary(t)
	// A service that the operator has named, and that sends its callers on.
	kinds := map[string]int{"/301": 301, "/302": 302, "/303": 303, "/307": 307, "/308": 308}
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", "http://127.0.0.1:"+c.port+"/")
		rw.WriteHeader(kinds[r.URL.Path])
	}))
	t.Cleanup(service.Close)
	deps := w.Deps
	deps.Upstream = core.NewUpstream([]netip.AddrPort{netip.MustParseAddrPort(service.Listener.Addr().String())})
	app, err := core.New(w.Ctx, deps)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(url string) (*core.FetchResult, error) {
		return app.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: url, Timeout: 2e9})
	}
	// A name is asked for twice at most by what checks first and dials later; each answer is private.
	was := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = was })
	net.DefaultResolver = names(t, [4]byte{192, 0, 2, 1}, [4]byte{127, 0, 0, 1})
	for _, spelling := range append(hidden, "http://rebound.example.com:%s/", "http://rebound.example.com:%s/again") {
		url := fmt.Sprintf(spelling, c.port)
		if r, err := fetch(url); code(err) != core.InvalidRequest && code(err) != core.ServiceFailed {
			t.Errorf("%q: %+v %v", url, r, err)
		}
	}
	for path, status := range kinds {
		r, err := fetch(service.URL + path)
		if err != nil || r.Status != status || !strings.Contains(r.Header.Get("Location"), c.port) {
			t.Errorf("%s: %+v %v", path, r, err)
		}
	}
	if n := c.reached.Load(); n != 0 {
		t.Errorf("%d connections reached the canary", n)
	}
	if resp, err := http.Get("http://127.0.0.1:" + c.port); err != nil || c.reached.Load() != 1 { // it would have noticed
		t.Error(resp, err)
	} else {
		_ = resp.Body.Close()
	}
}
