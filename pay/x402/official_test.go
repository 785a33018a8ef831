package x402_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

var oneEther = big.NewInt(1e18)

// market is a chain with the official sellers on it and a buyer who has ten USDC and no ether.
type market struct {
	net     *chaintest.Net
	sellers e2e.Sellers
	payTo   common.Address
	key     *ecdsa.PrivateKey
	wallet  pay.Wallet
}

func newMarket(t *testing.T) market {
	t.Helper()
	net := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID), chaintest.WithHeartbeat())
	facilitator, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	m := market{net: net, key: key, payTo: common.HexToAddress("0x00000000000000000000000000000000005e11e4")}
	m.wallet = pay.Wallet{Network: net.Network(), Address: crypto.PubkeyToAddress(key.PublicKey)}
	net.Ether(crypto.PubkeyToAddress(facilitator.PublicKey), oneEther)
	net.Fund(m.wallet.Address, 10*money.One)
	m.sellers = e2e.StartSellers(t, net.Node.URL(), evm.BaseSepoliaID, hexutil.Encode(crypto.FromECDSA(facilitator)), m.payTo)
	return m
}

func (m market) buyer() paytest.Buyer {
	return paytest.Buyer{Protocols: both, Wallet: m.wallet, Key: m.key, Clock: time.Now}
}

// TestOfficial meets the official packages: our payer pays their sellers, their buyer pays our seller.
func TestOfficial(t *testing.T) {
	m := newMarket(t)
	t.Run("sellers", m.paySellers)
	t.Run("permit2", m.payByPermit2)
	t.Run("together", m.payTogether)
	t.Run("buyer", m.officialBuyer)
}

// paySellers pays both versions: the chain moves by exactly the price.
func (m market) paySellers(t *testing.T) {
	for _, c := range []struct {
		url, method, body string
		protocol          string
		price             money.USDC
		answer            string
	}{
		{m.sellers.V1 + "/weather?city=Porto", http.MethodGet, "", "x402-v1", 10_000, `{"city":"Porto","celsius":21}`},
		{m.sellers.V1 + "/echo", http.MethodPost, "hello", "x402-v1", 20_000, `{"echo":"hello"}`},
		{m.sellers.V1 + "/cheap", http.MethodGet, "", "x402-v1", 100, `{"ok":true}`},
		{m.sellers.V2 + "/weather?city=Porto", http.MethodGet, "", "x402-v2", 10_000, `{"city":"Porto","celsius":21}`},
		{m.sellers.V2 + "/echo", http.MethodPost, "hello", "x402-v2", 20_000, `{"echo":"hello"}`},
		{m.sellers.V2 + "/cheap", http.MethodGet, "", "x402-v2", 100, `{"ok":true}`},
	} {
		t.Run(c.protocol+"/"+c.method+c.price.String(), func(t *testing.T) {
			had, sellerHad := m.net.Balance(m.wallet.Address), m.net.Balance(m.payTo)
			req := &pay.Request{Method: c.method, URL: c.url, Header: http.Header{}, Body: []byte(c.body)}
			got, err := m.buyer().Buy(t.Context(), req)
			must(t, err)
			q, proof, resp := got.Quote, got.Proof, got.Response
			if q.Protocol.Name() != c.protocol || q.Offers[0].Amount != c.price || len(q.Offers[0].Notes) != 0 {
				t.Errorf("%s asked %s, notes %q", q.Protocol.Name(), q.Offers[0].Amount, q.Offers[0].Notes)
			}
			if resp.Status != http.StatusOK || !sameJSON(t, resp.Body, []byte(c.answer)) {
				t.Fatalf("answer %d %s", resp.Status, resp.Body)
			}
			r, err := q.Protocol.Receipt(q.Offers[0], resp)
			if err != nil || !r.Known || !r.Success || r.Amount != c.price {
				t.Fatalf("receipt %+v, %v", r, err)
			}
			mined := m.net.Mined(r.TxHash)
			if !mined.OK {
				t.Error("the receipt names a transaction that failed")
			}
			if used, err := m.net.AuthorizationUsed(t.Context(), m.wallet.Address, proof.Authorization.Nonce, mined.Block); err != nil || !used {
				t.Errorf("authorization used: %t, %v", used, err)
			}
			if has, sellerHas := m.net.Balance(m.wallet.Address), m.net.Balance(m.payTo); had.Sub(has) != c.price || sellerHas.Sub(sellerHad) != c.price {
				t.Errorf("buyer %s -> %s, seller %s -> %s", had, has, sellerHad, sellerHas)
			}

			// The same proof again: refused, not charged, and the refusal has a reason.
			again, err := paytest.Send(t.Context(), req)
			must(t, err)
			if r, err := q.Protocol.Receipt(q.Offers[0], again); again.Status != http.StatusPaymentRequired || err != nil || r.Success || r.Reason == "" {
				t.Errorf("again: %d, %+v, %v", again.Status, r, err)
			}
			if got := m.net.Balance(m.payTo).Sub(sellerHad); got != c.price {
				t.Errorf("charged %s in the end", got)
			}
		})
	}
}

// payTogether pays both sellers at once: nonces of authorizations are random, so none is lost.
func (m market) payTogether(t *testing.T) {
	const each = 8
	had := m.net.Balance(m.payTo)
	var wg sync.WaitGroup
	for i := range 2 * each {
		url := m.sellers.V1
		if i%2 == 0 {
			url = m.sellers.V2
		}
		wg.Go(func() {
			got, err := m.buyer().Buy(t.Context(), &pay.Request{Method: http.MethodGet, URL: url + "/cheap", Header: http.Header{}})
			if err != nil || got.Response.Status != http.StatusOK {
				t.Errorf("%s: %+v, %v", url, got.Response, err)
			}
		})
	}
	wg.Wait()
	if got := m.net.Balance(m.payTo).Sub(had); got != 2*each*100 {
		t.Errorf("seller got %s", got)
	}
}

// officialBuyer lets @x402/fetch pay our own seller side, whose proofs are settled on the chain by nobody: the
// signature and every field of it are checked.
func (m market) officialBuyer(t *testing.T) {
	s := paytest.New(t, paytest.Options{Network: m.net.Network(), PayTo: m.payTo, Clock: time.Now})
	for version := 1; version <= 2; version++ {
		out, err := e2e.Node(t, "buyer.mjs", "URL="+s.Link(version, paytest.Serve, 0), "KEY="+hexutil.Encode(crypto.FromECDSA(m.key)), "N=3").Output()
		var result struct{ Paid int }
		if err != nil || json.Unmarshal(out, &result) != nil || result.Paid != 3 || len(s.Seen()) != 3*version {
			t.Errorf("v%d: %s, %v", version, out, err)
		}
	}
}
