// Package demo is the paid service that a newcomer meets: a few routes priced in USDC, sold by x402 version 1 and
// version 2, with a facilitator inside the process. It settles before it serves, so nobody is served for free.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

// Config is what the service needs. Log and ProofLife may be left out.
type Config struct {
	Network evm.Network
	PayTo   common.Address // who earns
	// Settle carries a verified authorization to the chain and returns when it is mined. The hash is set as soon
	// as something was sent, also beside an error. An authorization that was used already is an error.
	Settle func(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error)
	Clock  func() time.Time // the chain's time, or a clock that agrees with it
	Log    *slog.Logger     // nil discards
	// ProofLife is what it asks in maxTimeoutSeconds, and so how long a buyer whose call failed waits for its money;
	// zero is two minutes.
	ProofLife time.Duration
}

// Limits of the service.
const (
	proofLife      = 2 * time.Minute
	settlePatience = 30 * time.Second // a settlement that takes longer is given up on, and the buyer told
)

// route is one thing for sale.
type route struct {
	path        string
	version     int
	price       money.USDC
	description string
	content     func(r *http.Request, now time.Time) any
}

func routes() []route {
	return []route{
		{"/v1/weather", 1, money.One / 100, "The weather of ?city=, by x402 version 1.", weather},
		{"/v2/weather", 2, money.One / 100, "The weather of ?city=, by x402 version 2.", weather},
		{"/v2/premium", 2, money.One / 4, "A week of weather of ?city=, for who wants to meet a spending limit.", premium},
		{"/v1/joke", 1, money.One / 10_000, "A joke, priced below any card payment.", joke},
	}
}

type service struct {
	Config

	mu      sync.Mutex
	working map[settlement]bool // being settled at this moment; what is settled the token itself refuses
}

type settlement struct {
	payer common.Address
	nonce common.Hash
}

// New is the service's handler: /v1/weather, /v2/weather, /v2/premium, /v1/joke, /free, a list of them at /, and the metered
// /writer/complete and /proverbs/today.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ProofLife == 0 {
		cfg.ProofLife = proofLife
	}
	s := &service{Config: cfg, working: map[settlement]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("POST /writer/complete", s.keyed(s.complete))
	mux.HandleFunc("GET /proverbs/today", s.keyed(s.proverb))
	mux.HandleFunc("GET /free", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, route{content: free}) })
	for _, route := range routes() {
		mux.HandleFunc("GET "+route.path, func(w http.ResponseWriter, r *http.Request) { s.sell(w, r, route) })
	}
	return mux
}

func (s *service) index(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "A paid service for trying things out. Prices are in USDC on %s (%s), paid to %s.\n\n",
		s.Network.Name, s.Network.CAIP2(), s.PayTo.Hex())
	for _, route := range routes() {
		_, _ = fmt.Fprintf(w, "GET %-12s  %9s  x402 v%d  %s\n", route.path, "$"+route.price.Dollars().String(), route.version, route.description)
	}
	_, _ = fmt.Fprintf(w, "GET %-12s  %9s           Says hello.\n\n", "/free", "free")
	_, _ = io.WriteString(w, "Billed by use: these want a key in X-Api-Key and no payment, as services of Bursar's catalogue.\n\n"+
		"POST /writer/complete  demo-writer    Writes about the prompt in {\"prompt\": \"…\"}, and counts the tokens.\n"+
		"GET  /proverbs/today   demo-proverbs  A joke, at a price for each call.\n\n")
	_, _ = fmt.Fprintf(w, "Ask for a price:  curl -i http://%s/v1/weather?city=Lisbon\n", r.Host)
}

// sell asks for payment, or checks and settles the one that came and serves.
func (s *service) sell(w http.ResponseWriter, r *http.Request, route route) {
	ask := s.ask(r, route)
	proof, err := ask.Proof(r.Header)
	if err == nil {
		err = ask.Verify(proof, s.Clock())
	}
	if err != nil {
		s.challenge(w, ask, err.Error())
		return
	}
	hash, err := s.settle(r.Context(), proof)
	payer, why := proof.Authorization.From, ""
	if err != nil {
		why = reason(hash, err)
		s.Log.InfoContext(r.Context(), "demo payment not settled", "path", route.path, "payer", payer.Hex(), "reason", why, "error", err)
	}
	if rerr := ask.Receipt(w.Header(), payer, hash, why); rerr != nil {
		s.Log.ErrorContext(r.Context(), "demo receipt", "error", rerr)
	}
	if err != nil {
		s.challenge(w, ask, "payment was not settled: "+why)
		return
	}
	s.Log.InfoContext(r.Context(), "demo sold", "path", route.path, "payer", payer.Hex(), "amount", route.price.String(), "tx_hash", hash.Hex())
	s.serve(w, r, route)
}

func (s *service) ask(r *http.Request, route route) x402.Ask {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return x402.Ask{
		Version: route.version, Network: s.Network, Amount: route.price, PayTo: s.PayTo, ValidFor: s.ProofLife,
		Resource: scheme + "://" + r.Host + route.path, Description: route.description, MimeType: "application/json",
	}
}

func (s *service) challenge(w http.ResponseWriter, ask x402.Ask, why string) {
	if err := ask.Challenge(w, why); err != nil {
		s.Log.Debug("demo challenge not delivered", "error", err)
	}
}

var errTwice = errors.New("demo: the same payment is being settled")

// settle refuses a proof that another request is settling; one that was settled before, the token refuses.
func (s *service) settle(ctx context.Context, p pay.Proof) (common.Hash, error) {
	key := settlement{p.Authorization.From, p.Authorization.Nonce}
	if !s.begin(key) {
		return common.Hash{}, errTwice
	}
	defer s.end(key)
	// The buyer may hang up; what is begun is finished, so that its money is not left in between.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer cancel()
	return s.Settle(ctx, p.Authorization, p.Signature)
}

func (s *service) begin(key settlement) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working[key] {
		return false
	}
	s.working[key] = true
	return true
}

func (s *service) end(key settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.working, key)
}

// reason is the errorReason of x402 for a failed settlement (specs/x402-specification-v2.md, 9). settlement_pending
// is not in that list; @x402/core 2.27.0 has it for a transaction that was sent and not seen mined.
func reason(hash common.Hash, err error) string {
	switch {
	case errors.Is(err, errTwice), errors.Is(err, evm.ErrReverted):
		return "invalid_transaction_state"
	case hash != (common.Hash{}):
		return "settlement_pending"
	}
	return "unexpected_settle_error"
}

func (s *service) serve(w http.ResponseWriter, r *http.Request, route route) {
	text, err := encode(route.content(r, s.Clock()))
	if err != nil {
		s.Log.ErrorContext(r.Context(), "demo content", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, text)
}
