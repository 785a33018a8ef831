package agnic_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/evm"
	"bursar/money"
	"bursar/rest"
	"bursar/rest/agnic"
)

// lab is a world on the network of the published examples, with the dialect in front of it and one seller in it,
// which is https://api.example.com to the server.
type lab struct {
	*coretest.World
	t      testing.TB
	app    *core.Core
	seller *coretest.Seller
	door   http.Handler // the dialect
	url    string       // the dialect, over a socket
	spec   routers.Router
}

const quarter = money.One / 4

// longest is how many bytes a stream may have here: above what the door hands on whole.
const longest = 12 << 20

func newLab(t testing.TB, o rest.Options) *lab {
	t.Helper()
	w := coretest.New(t, coretest.WithChainID(evm.BaseSepoliaID))
	l := &lab{World: w, t: t, seller: w.Seller(quarter), spec: contract(t)}
	deps := w.Deps
	deps.Chain = shallow{w.Net.Client}
	deps.Streams.Bytes = longest
	deps.Upstream = &http.Client{
		Transport:     example{w.Deps.Upstream.Transport, strings.TrimPrefix(l.seller.URL, "http://")},
		CheckRedirect: w.Deps.Upstream.CheckRedirect,
	}
	var err error
	if l.app, err = core.New(w.Ctx, deps); err != nil {
		t.Fatal(err)
	}
	w.Core = l.app
	l.Settle()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Clock = w.Clock.Now
	mux := http.NewServeMux()
	agnic.Mount(mux, l.app, o)
	l.door = rest.Exactly(mux)
	server := httptest.NewServer(l.door)
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// shallow is a chain whose newest block is final.
type shallow struct{ core.Chain }

func (c shallow) Network() evm.Network {
	n := c.Chain.Network()
	n.Confirmations = 0
	return n
}

// example stands for the name service: api.example.com is the seller, and its paths are what the seller calls
// v2/serve. Free paths are the seller's own.
type example struct {
	next   http.RoundTripper
	seller string
}

func (e example) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "api.example.com" {
		r = r.Clone(r.Context())
		r.Host = r.URL.Host
		r.URL.Scheme, r.URL.Host = "http", e.seller
		if r.URL.Path == "/data" {
			r.URL.Path = "/v2/serve"
		}
	}
	return e.next.RoundTrip(r)
}

func contract(t testing.TB) routers.Router {
	t.Helper()
	spec := document(t)
	router, err := legacy.NewRouter(spec)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

func document(t testing.TB) *openapi3.T {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromData(agnic.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return spec
}

// holds fails the test unless an answer is one that the contract describes. What the target answered is not ours.
func (l *lab) holds(r *http.Request, status int, header http.Header, body []byte) {
	l.t.Helper()
	route, params, err := l.spec.FindRoute(r)
	if err != nil || route.Path != r.URL.Path || header.Get("X-Agnic-Paid") != "" || header.Get("Content-Type") == "application/yaml" {
		return // 404 and 405 of no operation
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options},
		Status:                 status, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Options: options,
	})
	if err != nil {
		l.t.Errorf("%s %s: %d is not what the contract says: %v", r.Method, r.URL.Path, status, err)
	}
}

// person is a user with a default wallet.
type person struct {
	core.Principal
	login, token string
	address      common.Address
}

// person registers a user, with money in the default wallet and a token on it.
func (l *lab) person(email string, funds money.USDC, in core.TokenInput) *person {
	l.t.Helper()
	p, login := l.User(email)
	wallet, err := l.app.Agents.Default(l.Ctx, p)
	l.no(err)
	if in.Label == "" {
		in.Label = "token"
	}
	k, err := l.app.APIKeys.CreateToken(l.Ctx, p, in)
	l.no(err)
	who := &person{Principal: p, login: login.Token, token: k.Secret, address: common.HexToAddress(wallet.Address)}
	if funds > 0 {
		l.Net.Fund(who.address, funds)
		l.Settle()
	}
	return who
}

func (l *lab) no(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// reply is an answer of the door.
type reply struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any // nil when the body is no JSON object
}

// send asks the door, in memory, and checks that the answer is one that the contract describes. header is names and
// values in turn.
func (l *lab) send(method, target, body string, header ...string) *reply {
	l.t.Helper()
	r := httptest.NewRequestWithContext(l.Ctx, method, target, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	l.door.ServeHTTP(w, r)
	l.holds(r, w.Code, w.Header(), w.Body.Bytes())
	a := &reply{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	if d.Decode(&a.json) != nil {
		a.json = nil
	}
	return a
}

// refused fails the test unless an answer is one error.
func (l *lab) refused(a *reply, status int, code, description string) {
	l.t.Helper()
	text, _ := a.json["error_description"].(string)
	if a.status != status || a.json["error"] != code || !strings.Contains(text, description) {
		l.t.Errorf("%d %s, want %d %s with %q", a.status, a.body, status, code, description)
	}
}
