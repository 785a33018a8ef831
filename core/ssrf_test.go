package core_test

import (
	"cmp"
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
	"bursar/core/pricing"
	"bursar/ent/service"
	"bursar/money"
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

// servicesReachNothing puts every spelling into the catalogue, as the operator and as businesses do, and calls what could
// be put there: by its name, by its URL, and by a path that leads elsewhere.
func servicesReachNothing(t *testing.T, w *coretest.World, app *core.Core, port, open string) {
	t.Helper()
	seller, _ := w.User("seller@example.com")
	p, _ := w.User("buyer@example.com")
	w.Agent(p, "bot", money.One)
	secret := &core.ServiceCredential{In: service.CredentialInHeader, Name: "Authorization", Prefix: "Bearer ", Secret: apiSecret}
	call := func(slug, path string) {
		t.Helper()
		r, err := app.Payments.Fetch(w.Ctx, p, core.FetchInput{Service: slug, URL: path, Method: "POST", Timeout: 2e9})
		if c := code(err); c != core.InvalidRequest && c != core.ServiceFailed {
			t.Errorf("%s/%s: %+v %v", slug, path, r, err)
		}
	}
	registered := 0
	for i, spelling := range append(hidden, "http://rebound.example.com:%s/", "http://rebound.example.com:%s/again") {
		url, name := fmt.Sprintf(spelling, port), fmt.Sprintf("s%d", i)
		business := core.RegisterInput{Name: "b" + name, Wallet: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", UpstreamURL: url, WebhookURL: "https://example.com/", PricePerRequest: cent}
		if _, err := app.Gateway.Register(w.Ctx, seller, business); err == nil {
			registered++
			call("b"+name, "")
			call("b"+name, "x?y")
		} else if code(err) != core.InvalidRequest {
			t.Errorf("%q: %v", url, err)
		}
		business.UpstreamURL, business.WebhookURL, business.Name = "https://example.com/", url, "c"+name
		if _, err := app.Gateway.Register(w.Ctx, seller, business); err != nil && code(err) != core.InvalidRequest {
			t.Errorf("%q: %v", url, err)
		}
		own := core.ServiceInput{Name: name, BaseURL: url, Price: pricing.Price{PerCall: cent}, Credential: secret}
		if err := app.Services.Install(w.Ctx, []core.ServiceInput{own}); err == nil {
			call(name, "")
			if r, err := app.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: url, Timeout: 2e9}); code(err) != core.InvalidRequest && code(err) != core.ServiceFailed {
				t.Errorf("%q: %+v %v", url, r, err)
			}
		}
	}
	if registered == 0 {
		t.Error("no spelling came as far as to be called")
	}
	must(w, app.Services.Install(w.Ctx, []core.ServiceInput{{Name: "open", BaseURL: open, Price: pricing.Price{PerCall: cent}, Credential: secret}}))
	for _, path := range []string{"301", "302", "303", "307", "308"} {
		if r, err := app.Payments.Fetch(w.Ctx, p, core.FetchInput{Service: "open", URL: path}); err != nil || !strings.Contains(r.Header.Get("Location"), port) {
			t.Errorf("%s: %+v %v", path, r, err)
		}
	}
	for _, path := range []string{"@127.0.0.1:" + port, "/127.0.0.1:" + port + "/", "http://127.0.0.1:" + port + "/", `\\127.0.0.1:` + port, "%2f%2f127.0.0.1:" + port, "..//127.0.0.1:" + port, "?@127.0.0.1:" + port} {
		_, err := app.Payments.Fetch(w.Ctx, p, core.FetchInput{Service: "open", URL: path}) // whatever it is, it is the service's
		if err != nil && code(err) != core.InvalidRequest {
			t.Errorf("%s: %v", path, err)
		}
	}
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
	open := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", "http://127.0.0.1:"+c.port+"/")
		rw.WriteHeader(cmp.Or(kinds[r.URL.Path], http.StatusOK))
	}))
	t.Cleanup(open.Close)
	deps := w.Deps
	deps.Upstream = core.NewUpstream([]netip.AddrPort{netip.MustParseAddrPort(open.Listener.Addr().String())})
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
		r, err := fetch(open.URL + path)
		if err != nil || r.Status != status || !strings.Contains(r.Header.Get("Location"), c.port) {
			t.Errorf("%s: %+v %v", path, r, err)
		}
	}
	servicesReachNothing(t, w, app, c.port, open.URL)
	if n := c.reached.Load(); n != 0 {
		t.Errorf("%d connections reached the canary", n)
	}
	if resp, err := http.Get("http://127.0.0.1:" + c.port); err != nil || c.reached.Load() != 1 { // it would have noticed
		t.Error(resp, err)
	} else {
		_ = resp.Body.Close()
	}
}
