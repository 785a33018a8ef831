package core_test

import (
	"net/http"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

// A seller may do anything with a proof. Whatever it does, it has one proof for one call; what is charged is what the
// chain shows; until the chain has spoken the payment says so and says when it will be decided; and a proof that was
// never used holds nothing any more a minute after its end.

// when says when a seller brings its proof to the chain.
type when int

const (
	never when = iota
	first      // before it answers
	later      // after the buyer has given up
	last       // in the last block that takes it
)

// sellers are what can be done with a proof. fair is an answer that keeps the seller's side: a session is charged at once.
var sellers = []struct {
	name    string
	settles when
	answer  answer
	status  int       // of the service, as the caller sees it
	code    core.Code // or the error that the caller gets
	fair    bool
	reason  string // in the history while unknown
}{
	{name: "serves", settles: first, answer: serve(""), status: 200, fair: true},
	{name: "serves, settles later", settles: later, answer: serve(""), status: 200, fair: true},
	{name: "serves, settles in the last block", settles: last, answer: serve(""), status: 200, fair: true},
	{name: "serves, never settles", settles: never, answer: serve(""), status: 200, fair: true},
	{name: "serves without a receipt", settles: first, answer: status(200), status: 200, fair: true},
	{name: "serves with a receipt that cannot be read", settles: first, answer: receipt("!"), status: 200, fair: true},
	{name: "its receipt names another transaction and amount", settles: first, answer: receipt(lie), status: 200, fair: true},
	{name: "its receipt says failed, settled", settles: first, answer: serve("no_money"), status: 200, fair: true},
	{name: "its receipt says failed, never settles", settles: never, answer: serve("no_money"), status: 200, fair: true},
	{name: "takes the money, has nothing", settles: first, answer: receipted(404), status: 404, fair: true},
	{name: "404", settles: first, answer: status(404), status: 404, reason: "answered 404"},
	{name: "500", settles: first, answer: status(500), status: 500, reason: "answered 500"},
	{name: "500 with a receipt", settles: first, answer: receipted(500), status: 500, reason: "answered 500"},
	{name: "500, settles later", settles: later, answer: status(500), status: 500, reason: "answered 500"},
	{name: "500, settles in the last block", settles: last, answer: status(500), status: 500, reason: "answered 500"},
	{name: "500, never settles", settles: never, answer: status(500), status: 500, reason: "answered 500"},
	{name: "402 again", settles: first, answer: again(1), status: 402, reason: "answered 402"},
	{name: "asks for more", settles: first, answer: again(2), status: 402, reason: "answered 402"},
	{name: "asks for more, never settles", settles: never, answer: again(2), status: 402, reason: "answered 402"},
	{name: "redirects", settles: first, answer: redirect, status: 307, reason: "answered 307"},
	{name: "switches protocols", settles: first, answer: status(101), code: core.ServiceFailed, reason: "answered with status 101"},
	{name: "hangs", settles: first, answer: hang, code: core.Timeout, reason: "did not answer in time"},
	{name: "hangs, settles later", settles: later, answer: hang, code: core.Timeout, reason: "did not answer in time"},
	{name: "hangs in the body, never settles", settles: never, answer: drip, code: core.Timeout, fair: true},
	{name: "resets", settles: first, answer: reset, code: core.ServiceFailed, reason: "could not be reached"},
	{name: "resets, settles in the last block", settles: last, answer: reset, code: core.ServiceFailed, reason: "could not be reached"},
	{name: "resets, never settles", settles: never, answer: reset, code: core.ServiceFailed, reason: "could not be reached"},
	{name: "closes in the body", settles: first, answer: cut, code: core.ServiceFailed, fair: true},
	{name: "answers without end", settles: first, answer: flood, code: core.ServiceFailed, fair: true},
}

type answer func(http.ResponseWriter, *http.Request, x402.Ask, pay.Proof)

func status(code int) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ x402.Ask, _ pay.Proof) { w.WriteHeader(code) }
}

// serve answers 200 with a receipt; refusal is its error, if any.
func serve(refusal string) answer {
	return func(w http.ResponseWriter, _ *http.Request, a x402.Ask, p pay.Proof) {
		_ = a.Receipt(w.Header(), p.Authorization.From, common.Hash{7}, refusal)
	}
}

func receipted(code int) answer {
	return func(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
		serve("")(w, r, a, p)
		w.WriteHeader(code)
	}
}

// lie is a receipt over a fortune in a transaction that never was.
const lie = "eyJzdWNjZXNzIjp0cnVlLCJ0cmFuc2FjdGlvbiI6IjB4MDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMSIsIm5ldHdvcmsiOiJidXJzYXItZGV2IiwicGF5ZXIiOiIiLCJhbW91bnQiOiI5OTk5OTk5OTk5In0="

func receipt(text string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ x402.Ask, _ pay.Proof) {
		w.Header().Set("X-Payment-Response", text)
		w.Header().Set("Payment-Response", text)
	}
}

// again asks for the price times n.
func again(n money.USDC) answer {
	return func(w http.ResponseWriter, _ *http.Request, a x402.Ask, _ pay.Proof) {
		a.Amount *= n
		_ = a.Challenge(w, "more")
	}
}

// redirect sends the buyer back to the same place, where the proof would be valid.
func redirect(w http.ResponseWriter, r *http.Request, _ x402.Ask, _ pay.Proof) {
	http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
}

func hang(_ http.ResponseWriter, r *http.Request, _ x402.Ask, _ pay.Proof) { <-r.Context().Done() }

func drip(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
	serve("")(w, r, a, p)
	_, _ = w.Write([]byte("wait"))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func reset(http.ResponseWriter, *http.Request, x402.Ask, pay.Proof) { panic(http.ErrAbortHandler) }

func cut(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
	w.Header().Set("Content-Length", "1000")
	serve("")(w, r, a, p)
	_, _ = w.Write([]byte("half"))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func flood(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
	serve("")(w, r, a, p)
	chunk := make([]byte, 1<<20)
	for range 11 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
