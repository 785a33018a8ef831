package indiegent_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
	"bursar/pay/x402"
	"bursar/rest"
)

// gzipped is so many bytes of text, packed.
func gzipped(text string, times int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range times {
		_, _ = io.WriteString(z, text)
	}
	_ = z.Close()
	return b.Bytes()
}

// TestPackedAnswers: an answer that came packed without being asked for so stands in the envelope as it was before; one
// that is too large then, cannot be unpacked, or was asked for packed, stands there as it came.
func TestPackedAnswers(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", 0)
	const exact = `{"n":12345678901234567890.10,"z":1E+400, "a" : "é"}`
	for name, c := range map[string]struct {
		body    []byte
		ask     string // headers
		want    string
		unasked bool // unpacked
	}{
		"unasked":       {body: gzipped(exact, 1), want: `"body":` + exact + `,"_indiegent"`, unasked: true},
		"asked":         {body: gzipped(exact, 1), ask: `,"headers":{"Accept-Encoding":"gzip"}`},
		"bomb":          {body: gzipped(string(make([]byte, 1<<20)), 64)},
		"no gzip":       {body: []byte("\xffnot packed")},
		"breaks off":    {body: gzipped(exact, 1)[:20]},
		"at the bound":  {body: gzipped(string(bytes.Repeat([]byte("x"), 1<<20)), 10), want: `"body":"xxxx`, unasked: true},
		"above it by 1": {body: append(gzipped(string(bytes.Repeat([]byte("x"), 1<<20)), 10), gzipped("x", 1)...)},
	} {
		url := l.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(c.body)
		}))
		a := l.fetch(p, `{"url":"`+url+`"`+c.ask+`}`)
		want := c.want
		if want == "" {
			want = `"body":"` + base64.StdEncoding.EncodeToString(c.body) + `","encoding":"base64"`
		}
		if a.Status != http.StatusOK || !bytes.Contains(a.Raw, []byte(want)) || (a.text("headers", "Content-Encoding") == "") != c.unasked {
			t.Errorf("%s: %d %.300s", name, a.Status, a.Raw)
		}
	}
}

// TestBodyIsLostAfterPayment: the envelope cannot be made of half an answer. The call was paid for all the same, and the
// caller is told so.
func TestBodyIsLostAfterPayment(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	agent := l.agent(p, "Research Bot", 2*money.One)
	session, err := l.Core.Sessions.Open(l.Ctx, p.Principal, core.OpenSessionInput{AgentID: uuid.MustParse(agent), Deposit: money.One})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"broke off": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
		},
		"is larger": func(w http.ResponseWriter) {
			for range 11 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		},
	} {
		shop := paytest.New(t, paytest.Options{
			Network: l.Net.Network(), PayTo: l.Seller.PayTo, Clock: l.Clock.Now, Price: money.One / 100,
			Answer: func(w http.ResponseWriter, _ *http.Request, _ x402.Ask, _ pay.Proof) { answer(w) },
		})
		body := `{"url":"` + shop.Link(2, paytest.Serve, 0) + `"}`
		a := l.fetch(p, body)
		l.refused(a, name, http.StatusBadGateway, name)
		l.refused(a, name, http.StatusBadGateway, "is charged when the chain shows it")
		a = l.fetch(p, body, "X-Session-Id", session.ID.String())
		l.refused(a, name, http.StatusBadGateway, "paid for, and is charged")
		if a.text("transaction_id") == "" {
			t.Errorf("%s: %s", name, a.Raw)
		}
	}
}
