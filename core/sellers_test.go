package core_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"time"

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
	{name: "redirects elsewhere by 301", settles: first, answer: elsewhere(301), status: 301, reason: "answered 301"},
	{name: "redirects elsewhere by 302", settles: never, answer: elsewhere(302), status: 302, reason: "answered 302"},
	{name: "redirects elsewhere by 303", settles: first, answer: elsewhere(303), status: 303, reason: "answered 303"},
	{name: "redirects elsewhere by 308", settles: later, answer: elsewhere(308), status: 308, reason: "answered 308"},
	{name: "asks for another payee", settles: first, answer: payee, status: 402, reason: "answered 402"},
	{name: "a page for people", settles: first, answer: page, status: 402, reason: "answered 402"},
	{name: "refuses the key", settles: first, answer: status(401), status: 401, reason: "answered 401"},
	{name: "asks to come again", settles: first, answer: status(429), status: 429, reason: "answered 429"},
	{name: "was too slow itself", settles: first, answer: status(408), status: 408, reason: "answered 408"},
	{name: "serves nothing, with a receipt", settles: first, answer: receipted(204), status: 204, fair: true},
	{name: "two receipts", settles: first, answer: receipt(lie, "!"), status: 200, fair: true},
	{name: "a receipt of 20 KiB", settles: first, answer: receipt(strings.Repeat("x", 20<<10)), status: 200, fair: true},
	{name: "header without end", settles: first, answer: receipt(strings.Repeat("x", 1<<20)), code: core.ServiceFailed, reason: "could not be reached"},
	{name: "status 999", settles: first, answer: wired("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), status: 999, reason: "answered 999"},
	{name: "status 042", settles: first, answer: wired("HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n"), code: core.ServiceFailed, reason: "answered with status 042"},
	{name: "hints, and no answer", settles: first, answer: wired("HTTP/1.1 103 Early Hints\r\n\r\n"), code: core.ServiceFailed, reason: "could not be reached"},
	{name: "no HTTP", settles: never, answer: wired("220 mail.example ESMTP\r\n"), code: core.ServiceFailed, reason: "could not be reached"},
	{name: "says more than its length", settles: first, answer: wired("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nmore"), status: 200, fair: true},
	{name: "two lengths", settles: first, answer: wired("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"), code: core.ServiceFailed, reason: "could not be reached"},
	{name: "a chunk without a size", settles: first, answer: wired("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), code: core.ServiceFailed, fair: true},
	{name: "switches protocols", settles: first, answer: status(101), code: core.ServiceFailed, reason: "answered with status 101"},
	{name: "hangs", settles: first, answer: hang, code: core.Timeout, reason: "did not answer in time"},
	{name: "hangs, settles later", settles: later, answer: hang, code: core.Timeout, reason: "did not answer in time"},
	{name: "hangs in the body, never settles", settles: never, answer: drip, code: core.Timeout, fair: true},
	{name: "a byte now and then, without end", settles: first, answer: trickle, code: core.Timeout, fair: true},
	{name: "resets", settles: first, answer: reset, code: core.ServiceFailed, reason: "could not be reached"},
	{name: "resets, settles in the last block", settles: last, answer: reset, code: core.ServiceFailed, reason: "could not be reached"},
	{name: "resets, never settles", settles: never, answer: reset, code: core.ServiceFailed, reason: "could not be reached"},
	{name: "closes in the body", settles: first, answer: cut, code: core.ServiceFailed, fair: true},
	{name: "closes in the body, never settles", settles: never, answer: cut, code: core.ServiceFailed, fair: true},
	{name: "500 that breaks off", settles: first, answer: wired("HTTP/1.1 500 Broken\r\nContent-Length: 9\r\n\r\nhalf"), code: core.ServiceFailed, reason: "answered 500"},
	{name: "answers without end", settles: first, answer: flood, code: core.ServiceFailed, fair: true},
	{name: "unpacks without end", settles: first, answer: bomb, status: 200, fair: true},
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

func receipt(texts ...string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ x402.Ask, _ pay.Proof) {
		w.Header()["X-Payment-Response"], w.Header()["Payment-Response"] = texts, texts
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

// elsewhere sends the buyer to the same place by another name, where a proof that came along would be seen.
func elsewhere(code int) answer {
	return func(w http.ResponseWriter, r *http.Request, _ x402.Ask, _ pay.Proof) {
		http.Redirect(w, r, "http://localhost"+r.Host[strings.LastIndex(r.Host, ":"):]+r.URL.Path, code)
	}
}

func payee(w http.ResponseWriter, _ *http.Request, a x402.Ask, _ pay.Proof) {
	a.PayTo = common.HexToAddress(otherPayee)
	_ = a.Challenge(w, "to somebody else")
}

func page(w http.ResponseWriter, _ *http.Request, _ x402.Ask, _ pay.Proof) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusPaymentRequired)
	_, _ = io.WriteString(w, "<html>pay here</html>")
}

// wired answers with bytes that net/http would not write.
func wired(text string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ x402.Ask, _ pay.Proof) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

func trickle(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
	serve("")(w, r, a, p)
	for r.Context().Err() == nil {
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// bomb is 64 MiB in 64 KiB.
func bomb(w http.ResponseWriter, r *http.Request, a x402.Ask, p pay.Proof) {
	w.Header().Set("Content-Encoding", "gzip")
	serve("")(w, r, a, p)
	z := gzip.NewWriter(w)
	for range 64 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
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
