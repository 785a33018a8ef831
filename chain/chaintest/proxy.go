package chaintest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"bursar/chain/devnet"
)

// Proxy is a node's JSON-RPC with rules between it and its client: how tests have a bad node. Without rules it is
// as good as the node.
type Proxy struct {
	t      testing.TB
	behind string
	server *httptest.Server

	mu    sync.Mutex
	rules []Rule
	asked map[string]int
	turn  uint64
}

// Request is one call of a client.
type Request struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`

	Gone  <-chan struct{} `json:"-"` // closed when the client hangs up
	Turn  uint64          `json:"-"` // counts HTTP requests; the same for all of a batch, which one node answers
	Batch bool            `json:"-"`

	proxy *Proxy
}

// Answer is what the client gets: a result or an error of JSON-RPC, an HTTP status other than 200, or nothing.
type Answer struct {
	Result json.RawMessage
	Error  *Refusal
	Status int         // HTTP; 0 is 200
	Header http.Header // goes along with Status
	Cut    bool        // the connection ends without an answer
}

// Refusal is an error of JSON-RPC.
type Refusal struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Rule stands between a client and the node: next asks the rules behind it and at last the node.
type Rule func(r Request, next func(Request) Answer) Answer

// NewProxy puts a proxy in front of a node until the test ends.
func NewProxy(t testing.TB, node *devnet.Node, rules ...Rule) *Proxy {
	p := &Proxy{t: t, behind: node.URL(), asked: map[string]int{}}
	p.Set(rules...)
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

// Proxy is NewProxy in front of the net's node.
func (n *Net) Proxy(rules ...Rule) *Proxy {
	n.t.Helper()
	return NewProxy(n.t, n.Node, rules...)
}

// URL is where the proxy listens.
func (p *Proxy) URL() string { return p.server.URL }

// Set replaces the rules; the first sees a request first. None makes the node honest again.
func (p *Proxy) Set(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = rules
}

// Asked is how often clients have called a method, or all methods for "".
func (p *Proxy) Asked(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[method]
}

// ServeHTTP answers one request, or a batch of them.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	var batch []Request
	alone := !bytes.HasPrefix(bytes.TrimSpace(body), []byte("["))
	if alone {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	if err != nil || json.Unmarshal(body, &batch) != nil || len(batch) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	rules := p.rules
	p.turn++
	turn := p.turn
	for _, r := range batch {
		p.asked[r.Method]++
		p.asked[""]++
	}
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	var out []map[string]any
	for _, r := range batch {
		r.Gone, r.Turn, r.Batch, r.proxy = in.Context().Done(), turn, !alone, p
		a := through(rules, p.node)(r)
		if a.Cut {
			panic(http.ErrAbortHandler)
		}
		if a.Status != 0 {
			for name, values := range a.Header {
				w.Header()[name] = values
			}
			w.WriteHeader(a.Status)
			return
		}
		one := map[string]any{"jsonrpc": "2.0", "id": r.ID, "result": a.Result}
		if a.Error != nil {
			delete(one, "result")
			one["error"] = a.Error
		}
		out = append(out, one)
	}
	if alone {
		_ = json.NewEncoder(w).Encode(out[0]) // a client that has left is what some tests are about
	} else {
		_ = json.NewEncoder(w).Encode(out)
	}
}

func through(rules []Rule, last func(Request) Answer) func(Request) Answer {
	if len(rules) == 0 {
		return last
	}
	next := through(rules[1:], last)
	return func(r Request) Answer { return rules[0](r, next) }
}

// node asks the node itself.
func (p *Proxy) node(r Request) Answer {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": r.ID, "method": r.Method, "params": r.Params})
	if err != nil {
		return Answer{Status: http.StatusBadRequest}
	}
	out, err := http.Post(p.behind, "application/json", bytes.NewReader(body))
	if err != nil {
		return Answer{Status: http.StatusBadGateway}
	}
	defer out.Body.Close()
	var a struct {
		Result json.RawMessage
		Error  *Refusal
	}
	if err := json.NewDecoder(out.Body).Decode(&a); err != nil {
		return Answer{Status: http.StatusBadGateway}
	}
	return Answer{Result: a.Result, Error: a.Error}
}

// ask puts a question of a rule's own to the node. What it cannot answer ends the test.
func (p *Proxy) ask(result any, method string, params ...any) {
	r := Request{ID: json.RawMessage("1"), Method: method}
	for _, v := range params {
		text, err := json.Marshal(v)
		if err != nil {
			p.t.Error(err)
		}
		r.Params = append(r.Params, text)
	}
	a := p.node(r)
	if err := json.Unmarshal(a.Result, result); err != nil {
		p.t.Error(fmt.Errorf("chaintest: the node does not answer %s: %w", method, err))
	}
}
