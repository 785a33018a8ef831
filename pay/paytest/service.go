package paytest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

// Behaviour is what the service does with a valid proof, or how it asks. It is the second part of the path.
type Behaviour string

// Behaviours.
const (
	Serve       Behaviour = "serve"        // 200, receipt
	AskAgain    Behaviour = "ask-again"    // 402 with the same price although paid
	FailAfter   Behaviour = "fail-after"   // 500 although paid
	Hang        Behaviour = "hang"         // takes the proof and never answers
	Reset       Behaviour = "reset"        // takes the proof and cuts the connection
	Raise       Behaviour = "raise"        // 402 with twice the price although paid
	NoReceipt   Behaviour = "no-receipt"   // 200 without the receipt header
	LieReceipt  Behaviour = "lie-receipt"  // 200 with a receipt of a transaction that never was, unsettled
	Redirect    Behaviour = "redirect"     // 307 to another origin (Options.RedirectTo) once paid
	PayToken    Behaviour = "pay-token"    // asks to pay the token contract
	PayZero     Behaviour = "pay-zero"     // asks to pay the zero address
	OtherHost   Behaviour = "other-host"   // sells a resource of another host
	ShortWindow Behaviour = "short-window" // wants a proof of 5 s
	NotFound    Behaviour = "not-found"    // 404 although paid
)

// Options of a Service.
type Options struct {
	Network evm.Network
	PayTo   common.Address
	// Clock is the time of the chain on which proofs would settle.
	Clock func() time.Time
	// Price is what a route asks when its URL has no ?price=; zero means 0.01.
	Price money.USDC
	// Settle, when set, carries a proof to a chain before the service answers 200 or fails on purpose.
	Settle func(*http.Request, pay.Proof) (common.Hash, error)
	// RedirectTo is where Redirect points.
	RedirectTo string
	// Window is how long a proof may live; zero means a minute.
	Window time.Duration
	// Answer, when set, is what the service does with a valid proof, in place of the behaviour that the path names.
	Answer func(http.ResponseWriter, *http.Request, x402.Ask, pay.Proof)
}

// Seen is a valid proof that the service was given, in order of arrival.
type Seen struct {
	Version   int
	Behaviour Behaviour
	Proof     pay.Proof
	Method    string
	Body      []byte
	Header    http.Header
}

// Service is a paid service on loopback that speaks x402 v1 and v2 and needs no chain. Its routes are
// /v1/<behaviour> and /v2/<behaviour>, with any method; /free costs nothing.
type Service struct {
	URL string

	opts Options
	stop chan struct{}
	mu   sync.Mutex
	seen []Seen
	used map[common.Hash]bool
	asks int
}

const (
	defaultPrice = money.One / 100
	window       = time.Minute
	maxBody      = 1 << 20
)

// New starts a service that ends with the test.
func New(t testing.TB, o Options) *Service {
	t.Helper()
	if o.Clock == nil {
		t.Fatal("paytest: Options.Clock is missing")
	}
	if o.Price == 0 {
		o.Price = defaultPrice
	}
	if o.Window == 0 {
		o.Window = window
	}
	s := &Service{opts: o, stop: make(chan struct{}), used: map[common.Hash]bool{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(s.stop) }) // runs first, so that a hanging answer does not hold up Close
	s.URL = server.URL
	return s
}

// Link is the URL of a route. A price of zero is the service's own.
func (s *Service) Link(version int, b Behaviour, price money.USDC) string {
	link := fmt.Sprintf("%s/v%d/%s", s.URL, version, b)
	if price != 0 {
		link += "?price=" + price.String()
	}
	return link
}

// Seen lists the valid proofs so far; a proof that came twice is listed twice.
func (s *Service) Seen() []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// Asked counts the 402 answers so far.
func (s *Service) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asks
}

// ServeHTTP makes the service usable under another server, too; URL is then to be set by the caller.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/free" {
		_, _ = io.WriteString(w, "free\n")
		return
	}
	version := map[string]int{"v1": 1, "v2": 2}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 2 || version[parts[0]] == 0 {
		http.NotFound(w, r)
		return
	}
	b := Behaviour(parts[1])
	ask := s.ask(r, version[parts[0]], b)
	p, err := ask.Proof(r.Header)
	if err == nil {
		err = ask.Verify(p, s.opts.Clock())
	}
	if err != nil {
		s.challenge(w, ask, err.Error())
		return
	}
	fresh := s.record(r, ask.Version, b, p)
	s.answer(w, r, ask, b, p, fresh)
}

func (s *Service) ask(r *http.Request, version int, b Behaviour) x402.Ask {
	a := x402.Ask{
		Version: version, Network: s.opts.Network, Amount: s.opts.Price, PayTo: s.opts.PayTo,
		Resource: "http://" + r.Host + r.URL.Path, Description: "test", MimeType: "text/plain", ValidFor: s.opts.Window,
	}
	if price, err := money.ParseAtomic(r.URL.Query().Get("price")); err == nil {
		a.Amount = price
	}
	switch b {
	case PayToken:
		a.PayTo = s.opts.Network.USDC
	case PayZero:
		a.PayTo = common.Address{}
	case OtherHost:
		a.Resource = "http://elsewhere.example" + r.URL.Path
	case ShortWindow:
		a.ValidFor = 5 * time.Second
	case Serve, AskAgain, FailAfter, Hang, Reset, Raise, NoReceipt, LieReceipt, Redirect, NotFound:
	}
	return a
}

func (s *Service) challenge(w http.ResponseWriter, a x402.Ask, reason string) {
	s.mu.Lock()
	s.asks++
	s.mu.Unlock()
	_ = a.Challenge(w, reason) // the buyer is gone: nothing to do
}

// record keeps the proof and tells whether its nonce is new.
func (s *Service) record(r *http.Request, version int, b Behaviour, p pay.Proof) bool {
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxBody))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, Seen{Version: version, Behaviour: b, Proof: p, Method: r.Method, Body: body, Header: r.Header.Clone()})
	fresh := !s.used[p.Authorization.Nonce]
	s.used[p.Authorization.Nonce] = true
	return fresh
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, a x402.Ask, b Behaviour, p pay.Proof, fresh bool) {
	if s.opts.Answer != nil {
		s.opts.Answer(w, r, a, p)
		return
	}
	if !fresh {
		_ = a.Receipt(w.Header(), p.Authorization.From, common.Hash{}, "invalid_transaction_state")
		s.challenge(w, a, "nonce was used")
		return
	}
	if b == LieReceipt {
		_ = a.Receipt(w.Header(), p.Authorization.From, crypto.Keccak256Hash([]byte("lie")), "")
		_, _ = io.WriteString(w, "paid\n")
		return
	}
	hash := crypto.Keccak256Hash(p.Signature)
	if s.opts.Settle != nil {
		var err error
		if hash, err = s.opts.Settle(r, p); err != nil {
			_ = a.Receipt(w.Header(), p.Authorization.From, common.Hash{}, "unexpected_settle_error")
			s.challenge(w, a, err.Error())
			return
		}
	}
	switch b {
	case AskAgain:
		s.challenge(w, a, "pay again")
	case Raise:
		a.Amount *= 2
		s.challenge(w, a, "the price went up")
	case FailAfter:
		http.Error(w, "broken", http.StatusInternalServerError)
	case NotFound:
		http.NotFound(w, r)
	case Redirect:
		http.Redirect(w, r, s.opts.RedirectTo, http.StatusTemporaryRedirect)
	case Hang:
		select {
		case <-s.stop:
		case <-r.Context().Done():
		}
	case Reset:
		panic(http.ErrAbortHandler)
	case NoReceipt:
		_, _ = io.WriteString(w, "paid\n")
	case Serve, LieReceipt, PayToken, PayZero, OtherHost, ShortWindow:
		_ = a.Receipt(w.Header(), p.Authorization.From, hash, "")
		_, _ = io.WriteString(w, "paid\n")
	default:
		http.NotFound(w, r)
	}
}
