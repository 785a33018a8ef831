package agnic_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bursar/core"
	"bursar/rest"
)

// What passes the transparent door is compared byte by byte with what stood on the wire behind it: a service that is a
// bare socket, and a caller that is one.

// socket is a service that keeps the bytes of each request and answers with the bytes that it was given.
type socket struct {
	address string
	answer  string
	got     chan string
}

func newSocket(l *lab) *socket {
	listener, err := new(net.ListenConfig).Listen(l.Ctx, "tcp", "127.0.0.1:0")
	l.no(err)
	l.t.Cleanup(func() { _ = listener.Close() })
	if transport, ok := l.Deps.Upstream.Transport.(*http.Transport); ok {
		transport.DisableKeepAlives = true // each request comes by a connection of its own
	}
	s := &socket{address: listener.Addr().String(), got: make(chan string, 1)}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s.got <- readMessage(c)
			_, _ = io.WriteString(c, s.answer)
			_ = c.Close()
		}
	}()
	return s
}

// readMessage reads a request as it stands on the wire.
func readMessage(c net.Conn) string {
	in := bufio.NewReader(c)
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			return head.String()
		}
		head.WriteString(line)
	}
	length := 0
	for line := range strings.SplitSeq(head.String(), "\r\n") {
		if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(value)
		}
		if line == "Transfer-Encoding: chunked" {
			return head.String() + "not expected"
		}
	}
	body := make([]byte, length)
	n, _ := io.ReadFull(in, body)
	return head.String() + string(body[:n])
}

// exchange sends a request to the door as it stands, and returns what the service saw and what came back.
func (s *socket) exchange(l *lab, p *person, method, path, header, body string) (saw string, resp *http.Response, got []byte, err error) {
	l.t.Helper()
	c, err := new(net.Dialer).DialContext(l.Ctx, "tcp", strings.TrimPrefix(l.url, "http://"))
	l.no(err)
	defer func() { _ = c.Close() }()
	_, err = fmt.Fprintf(c, "POST /api/x402/fetch?method=%s&url=%s HTTP/1.1\r\nHost: door\r\nX-Agnic-Token: %s\r\n%s\r\n%s",
		method, url.QueryEscape("http://"+s.address+path), p.token, header, body)
	l.no(err)
	in := bufio.NewReader(c)
	resp, err = http.ReadResponse(in, nil)
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(in, nil)
	}
	l.no(err)
	defer func() { _ = resp.Body.Close() }()
	got, err = io.ReadAll(resp.Body)
	select {
	case saw = <-s.got:
	default: // the door has answered by itself
	}
	return saw, resp, got, err
}

// lines are a message's header lines, sorted, without those that every message has.
func lines(head string, without ...string) []string {
	var out []string
	for i, line := range strings.Split(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if i > 0 && line != "" && !slices.Contains(without, name) {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func TestRequestsPassByteForByte(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	s := newSocket(l)
	s.answer = okay
	odd := "\x00\x01\xff\r\n\r\n0\r\n\r\n{\"n\":12345678901234567890.10}"
	for name, c := range map[string]struct {
		method, path, header, body string
		line                       string   // the request's first line
		want                       []string // header lines; nil: as they were sent
		sent                       string   // body
	}{
		"bare":                    {method: "get", path: "/", line: "GET / HTTP/1.1", want: []string{"User-Agent: bursar"}},
		"own user agent":          {method: "GET", path: "/", header: "User-Agent: a/1 (b; c)\r\n", line: "GET / HTTP/1.1"},
		"odd path":                {method: "GET", path: "/a//b/../c%2Fd%zz;x=1/%e4?a=b&&c=%2f+%20;d#part", header: "User-Agent: a\r\n", line: "refused"},
		"path":                    {method: "GET", path: "/a//b/../c%2Fd;x=1/%e4?a=b&&c=%2f+%20;d&%zz#part", header: "User-Agent: a\r\n", line: "GET /a//b/../c%2Fd;x=1/%e4?a=b&&c=%2f+%20;d&%zz HTTP/1.1"},
		"encodings":               {method: "GET", path: "/", header: "User-Agent: a\r\nAccept-Encoding: br;q=1.0, gzip;q=0.5, *;q=0\r\n", line: "GET / HTTP/1.1"},
		"range":                   {method: "GET", path: "/", header: "User-Agent: a\r\nRange: bytes=0-9,20-\r\nIf-Range: \"x\"\r\nIf-None-Match: W/\"a\", \"b\"\r\n", line: "GET / HTTP/1.1"},
		"repeated":                {method: "GET", path: "/", header: "User-Agent: a\r\nX-Many: 1\r\nX-Many: 2, 3\r\nX-Many: \r\nX-Many: 1\r\n", line: "GET / HTTP/1.1"},
		"bytes":                   {method: "GET", path: "/", header: "User-Agent: a\r\nX-Odd: caf\xe9 \xc3\xa9\ttab \"quoted\" a=b; c\r\n", line: "GET / HTTP/1.1"},
		"long":                    {method: "GET", path: "/", header: "User-Agent: a\r\nX-Long: " + strings.Repeat("v", 20_000) + "\r\n", line: "GET / HTTP/1.1"},
		"body with get":           {method: "GET", path: "/", header: "User-Agent: a\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n", body: "abc", line: "GET / HTTP/1.1", want: []string{"User-Agent: a"}},
		"head":                    {method: "HEAD", path: "/", header: "User-Agent: a\r\nAccept: */*\r\n", line: "HEAD / HTTP/1.1"},
		"empty post":              {method: "POST", path: "/", header: "User-Agent: a\r\nContent-Length: 0\r\n", line: "POST / HTTP/1.1"},
		"empty post under a key":  {method: "POST", path: "/", header: "User-Agent: a\r\nContent-Length: 0\r\nX-Idempotency-Key: k\r\n", line: "POST / HTTP/1.1"},
		"no body":                 {method: "PUT", path: "/", header: "User-Agent: a\r\n", line: "PUT / HTTP/1.1", want: []string{"User-Agent: a", "Content-Length: 0"}},
		"odd body":                {method: "POST", path: "/", header: "User-Agent: a\r\nContent-Type: x/y; z=\"1\"\r\nContent-Length: " + strconv.Itoa(len(odd)) + "\r\n", body: odd, line: "POST / HTTP/1.1", sent: odd},
		"packed body":             {method: "PATCH", path: "/", header: "User-Agent: a\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(zipped)) + "\r\n", body: string(zipped), line: "PATCH / HTTP/1.1", sent: string(zipped)},
		"delete with a body":      {method: "DELETE", path: "/", header: "User-Agent: a\r\nContent-Length: 3\r\n", body: "abc", line: "DELETE / HTTP/1.1", sent: "abc"},
		"chunks":                  {method: "POST", path: "/", header: "User-Agent: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n", body: "2\r\nab\r\n1\r\nc\r\n0\r\nX-End: 1\r\n\r\n", line: "POST / HTTP/1.1", want: []string{"User-Agent: a", "Content-Length: 3"}, sent: "abc"},
		"expect":                  {method: "POST", path: "/", header: "User-Agent: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", body: "abc", line: "POST / HTTP/1.1", sent: "abc"},
		"of one connection":       {method: "GET", path: "/", header: "User-Agent: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: Basic x\r\nProxy-Connection: close\r\n", line: "GET / HTTP/1.1", want: []string{"User-Agent: a"}},
		"proofs of its own":       {method: "GET", path: "/", header: "User-Agent: a\r\nX-PAYMENT: x\r\nPAYMENT-SIGNATURE: x\r\nX-Payment-Tx: x\r\nAuthorization: Payment x\r\nSIGN-IN-WITH-X: x\r\nX-Payment-Note: kept\r\n", line: "GET / HTTP/1.1", want: []string{"User-Agent: a", "X-Payment-Note: kept"}},
		"credentials of the door": {method: "GET", path: "/", header: "User-Agent: a\r\nAuthorization: Bearer " + p.login + "\r\nX-Api-Key: " + p.token + "\r\nCookie: a=b\r\n", line: "GET / HTTP/1.1", want: []string{"User-Agent: a"}},
		"credentials of others":   {method: "GET", path: "/", header: "User-Agent: a\r\nAuthorization: Bearer sk-1\r\nX-Api-Key: sk-2\r\n", line: "GET / HTTP/1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.line == "refused" {
				a := l.send("POST", "/api/x402/fetch?url="+url.QueryEscape("http://"+s.address+c.path), "", "X-Agnic-Token", p.token)
				l.refused(a, http.StatusBadRequest, "invalid_request", "url must be")
				return
			}
			saw, resp, _, err := s.exchange(l, p, c.method, c.path, c.header, c.body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%v %v", resp, err)
			}
			head, body, _ := strings.Cut(saw, "\r\n\r\n")
			line, _, _ := strings.Cut(head, "\r\n")
			want := c.want
			if want == nil {
				want = lines("\r\n" + c.header)
			}
			slices.Sort(want)
			if got := lines(head, "Host", "Connection"); line != c.line || !slices.Equal(got, want) || body != c.sent {
				t.Errorf("the service saw\n%q\n%q\n%q\nwant\n%q\n%q\n%q", line, got, body, c.line, want, c.sent)
			}
		})
	}
}

// ofTheDoor are the header lines that the door and net/http add to an answer.
var ofTheDoor = []string{"X-Request-Id", "X-Agnic-Paid", "Cache-Control", "X-Content-Type-Options", "Date", "Connection"}

func TestAnswersPassByteForByte(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	s := newSocket(l)
	for name, c := range map[string]struct {
		method, answer string
		status         int
		want           string // header lines; empty: those of the answer
		body           string
		cut            bool
	}{
		"plain":              {answer: "HTTP/1.1 200 OK\r\nContent-Type: text/plain; a=\"b\"\r\nContent-Length: 2\r\nEtag: W/\"x\"\r\nVary: Accept, Origin\r\n\r\nok", status: 200, body: "ok"},
		"no type":            {answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", status: 200, body: "<html>"},
		"empty":              {answer: okay, status: 200},
		"binary":             {answer: "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(binary)) + "\r\n\r\n" + string(binary), status: 200, body: string(binary)},
		"packed":             {answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(zipped)) + "\r\n\r\n" + string(zipped), status: 200, body: string(zipped)},
		"repeated":           {answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2, c\r\nX-Many: \r\nX-Many: 1\r\nWww-Authenticate: Basic realm=\"a, b\"\r\nWww-Authenticate: Other\r\nContent-Length: 0\r\n\r\n", status: 200},
		"bytes":              {answer: "HTTP/1.1 200 OK\r\nX-Odd: caf\xe9\ttab\r\nContent-Length: 0\r\n\r\n", status: 200},
		"chunks":             {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: a/b\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", status: 200, want: "Content-Type: a/b\r\nTransfer-Encoding: chunked", body: "abc"},
		"trailers":           {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n2\r\nab\r\n0\r\nX-End: 1\r\n\r\n", status: 200, want: "Transfer-Encoding: chunked", body: "ab"},
		"to the close":       {answer: "HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nabc", status: 200, want: "Content-Type: a/b\r\nTransfer-Encoding: chunked", body: "abc"},
		"nothing":            {answer: "HTTP/1.1 204 No Content\r\nEtag: \"x\"\r\n\r\n", status: 204},
		"not modified":       {answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\nExpires: 0\r\n\r\n", status: 304},
		"part":               {answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/10\r\nContent-Length: 2\r\n\r\nab", status: 206, body: "ab"},
		"head":               {method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 1000\r\n\r\n", status: 200, want: "Content-Type: a/b\r\nContent-Length: 0"},
		"redirect":           {answer: "HTTP/1.1 307 Temporary Redirect\r\nLocation: //elsewhere.example/\r\nContent-Length: 0\r\n\r\n", status: 307},
		"refusal":            {answer: "HTTP/1.1 418 Teapot\r\nContent-Length: 3\r\n\r\ntea", status: 418, body: "tea"},
		"failure":            {answer: "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy", status: 503, body: "busy"},
		"unheard of":         {answer: "HTTP/1.1 999 Odd\r\nContent-Length: 3\r\n\r\nodd", status: 999, body: "odd"},
		"hints":              {answer: "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + okay, status: 200, want: "Content-Length: 0"},
		"no challenge of us": {answer: "HTTP/1.1 402 Payment Required\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<pay>", status: 402, body: "<pay>"},
		"of one connection":  {answer: "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", status: 200, want: "Content-Length: 0"},
		"words of the door":  {answer: "HTTP/1.1 200 OK\r\nX-Agnic-Paid: true\r\nX-Agnic-Amount: 9\r\nX-Agnic-Other: 9\r\nContent-Length: 0\r\n\r\n", status: 200, want: "Content-Length: 0"},
		"too short":          {answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", status: 200, body: "half", cut: true},
		"no last chunk":      {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", status: 200, want: "Transfer-Encoding: chunked", body: "half", cut: true},
		"bad chunk":          {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", status: 200, want: "Transfer-Encoding: chunked", body: "half", cut: true},
		"too long":           {answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nmore than two", status: 200, body: "mo"},
		"large":              {answer: "HTTP/1.1 200 OK\r\nContent-Length: 11534336\r\n\r\n" + strings.Repeat("x", 11<<20), status: 200, body: strings.Repeat("x", 11<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			s.answer = c.answer
			if c.method == "" {
				c.method = "GET"
			}
			_, resp, body, err := s.exchange(l, p, c.method, "/", "Connection: close\r\n", "")
			if (err != nil) != c.cut || resp.StatusCode != c.status || !bytes.Equal(body, []byte(c.body)) {
				t.Fatalf("%d, %d bytes, %v", resp.StatusCode, len(body), err)
			}
			head, _ := httputil.DumpResponse(resp, false)
			want := lines("\r\n" + c.want)
			if c.want == "" {
				answer, _, _ := strings.Cut(c.answer, "\r\n\r\n")
				want = lines(answer)
			}
			if got := lines(string(head), ofTheDoor...); !slices.Equal(got, want) || resp.Header.Get("X-Agnic-Paid") != "false" {
				t.Errorf("the caller has %q, want %q, and %q", got, want, resp.Header)
			}
		})
	}
}
