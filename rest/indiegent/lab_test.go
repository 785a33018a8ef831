package indiegent_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/getkin/kin-openapi/openapi3"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/rest"
	"bursar/rest/indiegent"
)

const (
	cent  = money.One / 100
	owner = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8" // where drains go
)

// lab is a world with the dialect in front of it.
type lab struct {
	*coretest.World
	t      testing.TB
	App    *core.Core
	Seller *coretest.Seller
	door   http.Handler // the dialect
	URL    string       // the dialect, over a socket
	Log    *logText
	spec   *openapi3.T
}

// newLab builds one. Its upstream knows api.exa.ai, the service of the published example: it is a seller on the
// test's chain.
func newLab(t testing.TB, o rest.Options) *lab {
	t.Helper()
	l := &lab{World: coretest.New(t), t: t, Log: &logText{}, spec: contract(t)}
	l.Seller = l.World.Seller(cent)
	deps := l.Deps
	deps.Upstream = &http.Client{
		Transport: exa{l.Deps.Upstream.Transport, strings.TrimPrefix(l.Seller.URL, "http://")}, CheckRedirect: l.Deps.Upstream.CheckRedirect,
	}
	now := l.Clock.Now() // time stands still for what is answered, so that a session of an hour has 3600 s to go
	deps.Clock = func() time.Time { return now }
	var err error
	if l.App, err = core.New(l.Ctx, deps); err != nil {
		t.Fatal(err)
	}
	l.Core = l.App
	o.Log, o.Clock = slog.New(slog.NewTextHandler(l.Log, nil)), deps.Clock
	mux := http.NewServeMux()
	indiegent.Mount(mux, l.App, o)
	l.door = rest.Exactly(mux)
	server := httptest.NewServer(l.door)
	t.Cleanup(server.Close)
	l.URL = server.URL
	return l
}

// logText gathers the log while requests write it.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// has waits for a text: a request's line is written after its answer.
func (l *logText) has(text string) bool {
	for range 200 {
		l.mu.Lock()
		found := strings.Contains(l.buf.String(), text)
		l.mu.Unlock()
		if found {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// exa serves https://api.exa.ai/search by the seller at an address.
type exa struct {
	next    http.RoundTripper
	address string
}

func (e exa) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "api.exa.ai" {
		return e.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Host, r.URL.Scheme, r.URL.Host, r.URL.Path = r.URL.Host, "http", e.address, "/v2/serve"
	resp, err := e.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusOK {
		_ = resp.Body.Close()
		resp.Header = http.Header{"Content-Type": {"application/json"}}
		resp.Body = io.NopCloser(strings.NewReader(`{"results": [1.0, 12345678901234567890, "<b>"]}`))
	}
	return resp, err
}

// person is somebody with an account.
type person struct {
	core.Principal
	Token, Key string
}

func (l *lab) person(email string) *person {
	l.t.Helper()
	p, login := l.User(email)
	k, err := l.App.APIKeys.Create(l.Ctx, p, "CI/CD Pipeline")
	l.no(err)
	return &person{Principal: p, Token: login.Token, Key: k.Secret}
}

func (l *lab) wallet(p *person) {
	l.t.Helper()
	_, err := l.App.Auth.SetWallet(l.Ctx, p.Principal, owner)
	l.no(err)
}

func (l *lab) agent(p *person, name string, funds money.USDC) string {
	l.t.Helper()
	return l.Agent(p.Principal, name, funds).ID.String()
}

func (l *lab) fund(address string, amount money.USDC) string {
	l.t.Helper()
	return l.Net.Fund(common.HexToAddress(address), amount).Hex()
}

func (l *lab) no(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Raw    []byte
	Body   any // with numbers as json.Number
}

// at walks into the body.
func (a *answer) at(path ...string) any {
	v := a.Body
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (a *answer) text(path ...string) string {
	s, _ := a.at(path...).(string)
	return s
}

// send makes a request and holds the answer to the contract.
func (l *lab) send(method, path, body string, header ...string) *answer {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.Ctx, method, l.URL+path, strings.NewReader(body))
	l.no(err)
	for i := 0; i < len(header); i += 2 {
		if header[i] != rest.SessionHeader || header[i+1] != "" { // none, as with vars that have no session
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	l.no(err)
	defer resp.Body.Close()
	a := &answer{Status: resp.StatusCode, Header: resp.Header}
	a.Raw, err = io.ReadAll(resp.Body)
	l.no(err)
	if got := resp.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		l.t.Errorf("%s %s: content type %q", method, path, got)
	}
	a.Body = decode(l.t, a.Raw)
	hold(l.t, l.spec, method, path, a.Status, a.Body)
	return a
}

// as sends with a person's login.
func (l *lab) as(p *person, method, path, body string) *answer {
	l.t.Helper()
	return l.send(method, path, body, "Authorization", "Bearer "+p.Token)
}

// must is as for what has to succeed.
func (l *lab) must(p *person, method, path, body string) *answer {
	l.t.Helper()
	a := l.as(p, method, path, body)
	if a.Status >= http.StatusBadRequest {
		l.t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Raw)
	}
	return a
}

func decode(t testing.TB, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}
