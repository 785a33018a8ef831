package agnic_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/core"
	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// target is a free service that remembers what it was asked.
type target struct {
	mu     sync.Mutex
	method string
	query  string
	header http.Header
	body   []byte
}

func (s *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.method, s.query, s.header, s.body = r.Method, r.URL.RawQuery, r.Header.Clone(), b
	s.mu.Unlock()
	switch r.URL.Path {
	case "/binary":
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header()["X-Many"] = []string{"one", "two, three", ""}
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("Access-Control-Allow-Origin", "https://elsewhere.example")
		w.Header().Set("X-Agnic-Paid", "true")
		w.Header().Set("X-Agnic-Amount", "1000")
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(binary)
	case "/gzip":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped)
	case "/untyped":
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>")
	case "/empty":
		w.WriteHeader(http.StatusNoContent)
	case "/away":
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(http.StatusFound)
	case "/large":
		_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 3<<16))
	default:
		_, _ = w.Write(b)
	}
}

var binary = append([]byte{0, 255, 254, '\r', '\n', 0}, bytes.Repeat([]byte{0xc3, 0x28}, 500)...)

var zipped = func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, `{"packed":true}`)
	_ = z.Close()
	return b.Bytes()
}()

// raw asks over a socket and takes nothing apart.
func (l *lab) raw(method, query string, body []byte, header http.Header) (*http.Response, []byte) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.Ctx, method, l.url+"/api/x402/fetch?"+query, bytes.NewReader(body))
	l.no(err)
	r.Header = header
	c := &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(r)
	l.no(err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	l.no(err)
	return resp, b
}

func TestProxyIsTransparent(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	service := &target{}
	base := l.Serve(service)
	ask := func(path string, header http.Header) (*http.Response, []byte) {
		if header == nil {
			header = http.Header{}
		}
		header.Set("X-Agnic-Token", p.token)
		return l.raw("POST", "method=post&url="+url.QueryEscape(base+path), binary, header)
	}

	resp, body := ask("/binary?q=1&q=2", nil)
	if resp.StatusCode != http.StatusTeapot || !bytes.Equal(body, binary) || !bytes.Equal(service.body, binary) {
		t.Errorf("%d, %d bytes back, %d bytes there", resp.StatusCode, len(body), len(service.body))
	}
	if service.method != "POST" || service.query != "q=1&q=2" {
		t.Errorf("%s %s", service.method, service.query)
	}
	for name, want := range map[string][]string{
		"X-Many": {"one", "two, three", ""}, "Set-Cookie": {"a=1", "b=2"}, "Content-Type": {"application/octet-stream"}, "Cache-Control": {"max-age=60"},
		"X-Agnic-Paid": {"false"}, "X-Agnic-Amount": nil, "Access-Control-Allow-Origin": {"https://elsewhere.example"},
	} {
		if got := resp.Header.Values(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	resp, _ = ask("/binary", http.Header{"Origin": {"https://page.example"}})
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Set-Cookie") != "" ||
		!strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "X-Agnic-Amount") {
		t.Errorf("to a browser: %v", resp.Header)
	}

	resp, body = ask("/gzip", http.Header{"Accept-Encoding": {"gzip"}})
	if resp.Header.Get("Content-Encoding") != "gzip" || !bytes.Equal(body, zipped) {
		t.Errorf("gzip: %v %q", resp.Header, body)
	}
	if resp, body = ask("/gzip", nil); resp.Header.Get("Content-Encoding") != "gzip" || !bytes.Equal(body, zipped) || service.header.Get("Accept-Encoding") != "" {
		t.Errorf("gzip, not asked for: %v %q", resp.Header, body)
	}
	if resp, body = ask("/untyped", nil); len(resp.Header.Values("Content-Type")) != 0 || string(body) != "<html>" {
		t.Errorf("untyped: %v %q", resp.Header, body)
	}
	if resp, body = ask("/empty", nil); resp.StatusCode != http.StatusNoContent || len(body) != 0 || resp.Header.Get("X-Agnic-Paid") != "false" {
		t.Errorf("empty: %d %q", resp.StatusCode, body)
	}
	if resp, _ = ask("/away", nil); resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "https://elsewhere.example/" {
		t.Errorf("redirect: %d %v", resp.StatusCode, resp.Header)
	}
	if _, body = ask("/large", nil); len(body) != 3<<20 {
		t.Errorf("large: %d", len(body))
	}
}

func TestProxyForwardsHeaders(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	service := &target{}
	query := "url=" + url.QueryEscape(l.Serve(service)+"/")
	given := http.Header{
		"X-Agnic-Token": {p.token}, "Authorization": {"Bearer sk-of-the-target"}, "X-Api-Key": {"key-of-the-target"}, "X-Custom": {"a", "b"},
		"User-Agent": {"agent/1"}, "Accept": {"text/csv"}, "Origin": {"https://page.example"}, "Cookie": {"c=1"}, "Connection": {"X-Hop"},
		"X-Hop": {"1"}, "X-Payment": {"forged"}, "Payment-Signature": {"forged"}, "X-Payment-Tx": {"forged"}, "Content-Type": {"text/plain"},
	}
	if resp, body := l.raw("POST", query, []byte("dropped with GET"), given); resp.StatusCode != http.StatusOK || len(body) != 0 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if service.method != "GET" || len(service.body) != 0 {
		t.Errorf("%s %q", service.method, service.body)
	}
	for name, want := range map[string][]string{
		"Authorization": {"Bearer sk-of-the-target"}, "X-Api-Key": {"key-of-the-target"}, "X-Custom": {"a", "b"}, "User-Agent": {"agent/1"},
		"Accept": {"text/csv"}, "Origin": {"https://page.example"}, "X-Agnic-Token": nil, "Cookie": nil, "X-Hop": nil, "X-Payment": nil,
		"Payment-Signature": nil, "X-Payment-Tx": nil, "Content-Type": nil,
	} {
		if got := service.header.Values(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	// The credential that the caller proves itself by never reaches the target, whichever it is.
	for name, header := range map[string]http.Header{
		"token as bearer": {"Authorization": {"Bearer " + p.token}},
		"login":           {"Authorization": {"bearer " + p.login}},
		"login, token":    {"Authorization": {"Bearer " + p.login}, "X-Agnic-Token": {p.token}},
		"elsewhere":       {"X-Agnic-Token": {p.token}, "X-Other": {"see " + p.login}},
		"foreign key":     {"Authorization": {"Bearer " + p.login}, "X-Api-Key": {"key-of-the-target"}},
	} {
		resp, body := l.raw("POST", query, nil, header)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		for h, values := range service.header {
			for _, v := range values {
				if strings.Contains(v, p.token) || strings.Contains(v, p.login) {
					t.Errorf("%s: %s leaks", name, h)
				}
			}
		}
	}
	if resp, _ := l.raw("POST", query, nil, http.Header{"Authorization": {"Bearer sk-of-the-target"}}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a foreign bearer alone: %d", resp.StatusCode)
	}
	if resp, _ := l.raw("POST", query, nil, http.Header{"X-Agnic-Token": {"agnic_tok_unknown"}, "Authorization": {"Bearer " + p.login}}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bad token beside a login: %d", resp.StatusCode)
	}
}

func TestMethods(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	service := &target{}
	base := "/api/x402/fetch?url=" + url.QueryEscape(l.Serve(service)+"/")
	for query, want := range map[string]struct{ method, body string }{
		"":               {"GET", ""},
		"&method=":       {"GET", ""},
		"&method=get":    {"GET", ""},
		"&method=HEAD":   {"HEAD", ""},
		"&method=Post":   {"POST", "x"},
		"&method=PUT":    {"PUT", "x"},
		"&method=PATCH":  {"PATCH", "x"},
		"&method=DELETE": {"DELETE", "x"},
	} {
		a := l.send("POST", base+query, "x", "X-Agnic-Token", p.token)
		if a.status != http.StatusOK || service.method != want.method || string(service.body) != want.body {
			t.Errorf("%q: %d, %s %q", query, a.status, service.method, service.body)
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	ok := "url=https%3A%2F%2Fapi.example.com%2Ffree"
	for query, want := range map[string]string{
		"":                                     "url is required",
		"url=":                                 "url is required",
		"url=ftp://api.example.com/":           "url must be",
		"url=/relative":                        "url must be",
		"url=https://user:pw@api.example.com/": "credentials",
		"url=http://10.0.0.1/":                 "private",
		"url=http://169.254.169.254/latest":    "private",
		"url=https://" + strings.Repeat("a", 3000) + ".example/": "longer",
		ok + "&method=TRACE":              "method must be",
		ok + "&method=CONNECT":            "method must be",
		ok + "&method=G%20T":              "method must be",
		ok + "&maxValue=-1":               "maxValue must be",
		ok + "&maxValue=1.5":              "maxValue must be",
		ok + "&maxValue=1e6":              "maxValue must be",
		ok + "&maxValue=%2B1":             "maxValue must be",
		ok + "&maxValue=0x10":             "maxValue must be",
		ok + "&maxValue=NaN":              "maxValue must be",
		ok + "&maxValue=%D9%A3":           "maxValue must be",
		ok + "&maxValue=9999999999999999": "maxValue must be",
		ok + "&timeout=-1":                "timeout must be",
		ok + "&timeout=1.5":               "timeout must be",
		ok + "&timeout=soon":              "timeout must be",
	} {
		l.refused(l.send("POST", "/api/x402/fetch?"+query, "", "X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", want)
	}
	for _, query := range []string{ok + "&timeout=0", ok + "&timeout=1", ok + "&timeout=60001", ok + "&timeout=99999999999999999999999", ok + "&maxValue=0"} {
		if a := l.send("POST", "/api/x402/fetch?"+query, "", "X-Agnic-Token", p.token); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	large := strings.Repeat("x", rest.MaxBody+1)
	l.refused(l.send("POST", "/api/x402/fetch?method=POST&"+ok, large, "X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", "larger")
}

func TestPriceAtTheMaximumIsPaid(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	a := l.buy(p, "/data&maxValue=250000")
	if a.header.Get("X-Agnic-Amount") != "0.25" {
		t.Error(a.header)
	}
	l.refused(l.send("POST", "/api/x402/fetch?url=https://api.example.com/data&maxValue=0", "", "X-Agnic-Token", p.token),
		http.StatusPaymentRequired, "payment_exceeds_max", "Payment exceeds maximum allowed value")
	l.Settle()
	l.Balanced()
	if got := l.Net.Balance(l.seller.PayTo); got != quarter {
		t.Errorf("the seller has %s", got)
	}
}

func TestPerTransactionLimit(t *testing.T) {
	l := newLab(t, rest.Options{})
	max := money.One / 10
	p := l.person("a@example.com", money.One, core.TokenInput{MaxPerTransaction: &max})
	a := l.send("POST", "/api/x402/fetch?url=https://api.example.com/data", "", "X-Agnic-Token", p.token)
	l.refused(a, http.StatusPaymentRequired, "spending_limit_exceeded", "Per-transaction limit exceeded")
	if !strings.Contains(string(a.body), `"limit":"per_transaction","max":0.10,"requested":0.25`) {
		t.Errorf("%s", a.body)
	}
}

// TestUnhonoured: a proof that was sent and not honoured is not "paid", and history shows it as pending.
func TestUnhonoured(t *testing.T) {
	l := newLab(t, rest.Options{})
	for _, c := range []struct {
		behaviour paytest.Behaviour
		status    int
		code      string
	}{
		{paytest.FailAfter, http.StatusInternalServerError, ""},
		{paytest.AskAgain, http.StatusPaymentRequired, ""},
		{paytest.Reset, http.StatusBadGateway, "upstream_error"},
		{paytest.Hang, http.StatusGatewayTimeout, "timeout"},
	} {
		t.Run(string(c.behaviour), func(t *testing.T) {
			p := l.person(string(c.behaviour)+"@example.com", money.One, core.TokenInput{})
			a := l.send("POST", "/api/x402/fetch?timeout=1000&url="+url.QueryEscape(l.seller.Link(2, c.behaviour, 0)), "", "X-Agnic-Token", p.token)
			if a.status != c.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			id := a.header.Get("X-Agnic-Transaction")
			if c.code != "" {
				l.refused(a, c.status, c.code, "unknown")
				id, _ = a.json["transaction_id"].(string)
			} else if a.header.Get("X-Agnic-Paid") != "false" || a.header.Get("X-Agnic-Amount") != "" {
				t.Errorf("%v", a.header)
			}
			history := l.send("GET", "/api/transactions?status=pending", "", "X-Agnic-Token", p.token)
			if !strings.HasPrefix(id, "tx_") || !strings.Contains(string(history.body), `"id":"`+id+`"`) {
				t.Errorf("%s is not in %s", id, history.body)
			}
			// The record says what is known and when it will be decided.
			items, _ := history.json["transactions"].([]any)
			item, _ := items[0].(map[string]any)
			proofs := l.seller.Seen()
			end := time.Unix(proofs[len(proofs)-1].Proof.Authorization.ValidBefore, 0).UTC().Format(time.RFC3339)
			if item["status"] != "pending" || item["paymentStatus"] != "unknown" || item["decidedBy"] != end || fmt.Sprint(item["reason"]) == "" {
				t.Errorf("%s: %s", end, history.body)
			}
			if c.code == "" && a.header.Get("X-Agnic-Decided-By") != end || c.code != "" && !strings.Contains(string(a.body), end) {
				t.Errorf("%s: %v %s", end, a.header, a.body)
			}
		})
	}
}

func TestSessionPays(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 5*money.One, core.TokenInput{})
	wallet, err := l.app.Agents.Default(l.Ctx, p.Principal)
	l.no(err)
	s, err := l.app.Sessions.Open(l.Ctx, p.Principal, core.OpenSessionInput{AgentID: wallet.ID, Deposit: money.One})
	l.no(err)
	l.Settle()
	id := s.ID.String()
	a := l.buy(p, "/data", "X-Session-Id", id)
	if a.header.Get("X-Agnic-Amount") != "0.25" || a.header.Get("X-Agnic-Scheme") != "exact" {
		t.Error(a.header)
	}
	seen := l.seller.Seen()
	if n := len(seen); n != 1 || seen[0].Header.Get("X-Session-Id") != "" || seen[0].Proof.Authorization.From != l.Platform {
		t.Errorf("the seller saw %+v", seen)
	}
	history := l.send("GET", "/api/transactions", "", "X-Agnic-Token", p.token)
	if !strings.Contains(string(history.body), `"status":"success"`) || !strings.Contains(string(history.body), `"totalSpent":0.25`) {
		t.Errorf("%s", history.body)
	}
	for session, want := range map[string]int{"019ab3a0-0000-7000-8000-000000000000": http.StatusNotFound, "nonsense": http.StatusNotFound} {
		a := l.send("POST", "/api/x402/fetch?url=https://api.example.com/data", "", "X-Agnic-Token", p.token, "X-Session-Id", session)
		if a.status != want || a.header.Get("X-Agnic-Paid") != "" {
			t.Errorf("%s: %d %s", session, a.status, a.body)
		}
	}
}

// TestNoFinalStatus: what net/http cannot write is a failure of the service, not of the door.
func TestNoFinalStatus(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	listener, err := new(net.ListenConfig).Listen(l.Ctx, "tcp", "127.0.0.1:0")
	l.no(err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 042 Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = c.Close()
		}
	}()
	a := l.send("POST", "/api/x402/fetch?url=http://"+listener.Addr().String(), "", "X-Agnic-Token", p.token)
	l.refused(a, http.StatusBadGateway, "upstream_error", "042")
}
