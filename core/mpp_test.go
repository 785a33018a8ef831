package core_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// mppSeller asks by the scheme Payment and settles what it is given; each challenge of it has the same id if it is told so.
type mppSeller struct {
	w      *coretest.World
	to     common.Address
	settle func(pay.Proof) error

	mu    sync.Mutex
	n     int
	fixed bool
}

func newMPPSeller(w *coretest.World) (*mppSeller, string) {
	key, err := crypto.GenerateKey()
	if err != nil {
		w.T.Fatal(err)
	}
	_, settle := w.Facilitator()
	s := &mppSeller{w: w, to: crypto.PubkeyToAddress(key.PublicKey), settle: func(p pay.Proof) error {
		_, err := settle(w.Ctx, p)
		return err
	}}
	return s, w.Serve(s)
}

func (s *mppSeller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, paid := strings.CutPrefix(r.Header.Get("Authorization"), "Payment ")
	if !paid {
		s.mu.Lock()
		if !s.fixed {
			s.n++
		}
		id := fmt.Sprintf("challenge-%d", s.n)
		s.mu.Unlock()
		n := s.w.Net.Client.Network()
		request := fmt.Sprintf(`{"amount":"10000","currency":%q,"methodDetails":{"chainId":%d,"credentialTypes":["authorization"],"decimals":6},"recipient":%q}`, n.USDC.Hex(), n.ChainID, s.to.Hex())
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Payment id=%q, realm="shop", method="evm", intent="charge", request=%q, expires=%q`,
			id, base64.RawURLEncoding.EncodeToString([]byte(request)), s.w.Clock.Now().Add(time.Minute).UTC().Format(time.RFC3339)))
		w.WriteHeader(http.StatusPaymentRequired)
		return
	}
	if err := s.take(text); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte("served"))
}

func (s *mppSeller) take(text string) error {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	var c struct {
		Payload struct{ From, To, Value, ValidAfter, ValidBefore, Nonce, Signature string }
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	p := c.Payload
	value, err := money.ParseAtomic(p.Value)
	if err != nil {
		return err
	}
	end, err := strconv.ParseInt(p.ValidBefore, 10, 64)
	if err != nil {
		return err
	}
	signature, err := hexutil.Decode(p.Signature)
	if err != nil {
		return err
	}
	return s.settle(pay.Proof{
		Authorization: evm.Authorization{
			From: common.HexToAddress(p.From), To: common.HexToAddress(p.To), Value: value, ValidBefore: end, Nonce: common.HexToHash(p.Nonce),
		},
		Signature: signature,
	})
}

// TestMPP: a seller of the scheme Payment is paid exactly once a call, from the wallet and from a session, and a challenge
// that was answered is not answered again: its nonce is its own, and what was signed for it may still be used.
func TestMPP(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		s, link := newMPPSeller(w)
		session := w.Session(p, a, money.One)
		for _, id := range []string{"", session.ID.String()} {
			r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", SessionID: id, URL: link})
			if err != nil || r.Status != 200 || string(r.Body) != "served" || r.Cost != cent || r.Payment.Protocol != "mpp" {
				t.Fatalf("%+v %v", r, err)
			}
		}
		s.mu.Lock()
		s.fixed = true // the next challenge is the last one again
		s.mu.Unlock()
		_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", SessionID: session.ID.String(), URL: link})
		if code(err) != core.ServiceFailed || !strings.Contains(err.Error(), "answered before") {
			t.Errorf("the same challenge: %v", err)
		}
		w.Settle()
		if got := w.Net.Balance(s.to); got != 2*cent {
			t.Errorf("the seller has %s", got)
		}
		page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{PaymentsOnly: true})
		if err != nil || page.Total != 2 || page.Spent != 2*cent || page.Items[0].Status != transaction.StatusSuccess || page.Items[0].TxHash == nil {
			t.Errorf("%+v %v", page, err)
		}
		w.Balanced()
	})
}
