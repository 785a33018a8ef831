package mpp_test

import (
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/mpp"
	"bursar/pay/paytest"
	"bursar/pay/x402"
)

var oneEther = big.NewInt(1e18)

// TestOfficial pays mppx on a chain of its own: served, and charged exactly the price.
func TestOfficial(t *testing.T) {
	net := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID), chaintest.WithHeartbeat())
	settler, err := crypto.GenerateKey()
	must(t, err)
	key, err := crypto.GenerateKey()
	must(t, err)
	net.Ether(crypto.PubkeyToAddress(settler.PublicKey), oneEther)
	wallet := pay.Wallet{Network: net.Network(), Address: crypto.PubkeyToAddress(key.PublicKey)}
	net.Fund(wallet.Address, money.One)
	url := e2e.StartMPP(t, net.Node.URL(), evm.BaseSepoliaID, hexutil.Encode(crypto.FromECDSA(settler)), seller)
	buyer := paytest.Buyer{Protocols: []pay.Protocol{mpp.Charge{}}, Wallet: wallet, Key: key, Clock: time.Now}

	for _, c := range []struct {
		method, path, body string
		price              money.USDC
		answer             string
	}{
		{http.MethodGet, "/weather?city=Porto", "", 10_000, `{"city":"Porto","celsius":21}`},
		{http.MethodPost, "/echo", "hello", 20_000, `{"echo":"hello"}`},
		{http.MethodGet, "/cheap", "", 100, `{"ok":true}`},
	} {
		t.Run(c.method+c.path, func(t *testing.T) {
			had, sellerHad := net.Balance(wallet.Address), net.Balance(seller)
			req := &pay.Request{Method: c.method, URL: url + c.path, Header: http.Header{"Accept-Payment": {mpp.AcceptPayment}}, Body: []byte(c.body)}
			got, err := buyer.Buy(t.Context(), req)
			must(t, err)
			if got.Response.Status != http.StatusOK || string(got.Response.Body) != c.answer || got.Offer.Amount != c.price {
				t.Fatalf("asked %s, answered %d %s", got.Offer.Amount, got.Response.Status, got.Response.Body)
			}
			r, err := got.Receipt(got.Response)
			if err != nil || !r.Known || !r.Success || r.Amount != c.price {
				t.Fatalf("receipt %+v, %v", r, err)
			}
			mined := net.Mined(r.TxHash)
			if used, err := net.AuthorizationUsed(t.Context(), wallet.Address, got.Proof.Authorization.Nonce, mined.Block); err != nil || !mined.OK || !used {
				t.Errorf("authorization used: %t, %v", used, err)
			}
			if paid, earned := had.Sub(net.Balance(wallet.Address)), net.Balance(seller).Sub(sellerHad); paid != c.price || earned != c.price {
				t.Errorf("paid %s, earned %s", paid, earned)
			}

			// The same credential again is not charged again, whatever the seller answers.
			again, err := paytest.Send(t.Context(), req)
			if err != nil || again.Status < http.StatusBadRequest || net.Balance(seller).Sub(sellerHad) != c.price {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
	t.Run("refused", func(t *testing.T) { refused(t, buyer, url) })
	t.Run("together", func(t *testing.T) { together(t, net, buyer, url) })
}

// refused holds that a seller's refusal is read: here of a signature by a stranger.
func refused(t *testing.T, buyer paytest.Buyer, url string) {
	var err error
	buyer.Key, err = crypto.GenerateKey() // signs for a wallet that is not its own
	must(t, err)
	got, err := buyer.Buy(t.Context(), &pay.Request{Method: http.MethodGet, URL: url + "/cheap", Header: http.Header{}})
	must(t, err)
	r, err := got.Receipt(got.Response)
	if err != nil || got.Response.Status != http.StatusPaymentRequired || r.Known || !strings.HasPrefix(r.Reason, "verification-failed: ") {
		t.Errorf("%d, %+v, %v", got.Response.Status, r, err)
	}
}

// together pays at once by both protocols that the seller asks in; each call is paid by one of them.
func together(t *testing.T, net *chaintest.Net, buyer paytest.Buyer, url string) {
	const each = 6
	had := net.Balance(seller)
	var wg sync.WaitGroup
	for i := range 2 * each {
		b := buyer
		if b.Protocols = []pay.Protocol{mpp.Charge{}, x402.V2{}}; i%2 == 0 {
			b.Protocols = []pay.Protocol{x402.V2{}, mpp.Charge{}}
		}
		wg.Go(func() {
			got, err := b.Buy(t.Context(), &pay.Request{Method: http.MethodGet, URL: url + "/cheap", Header: http.Header{}})
			if err != nil || got.Response.Status != http.StatusOK || len(got.Quote.Offers) != 2 || got.Offer.Protocol != b.Protocols[0].Name() {
				t.Errorf("%+v, %v", got.Response, err)
			}
		})
	}
	wg.Wait()
	if got := net.Balance(seller).Sub(had); got != 2*each*100 {
		t.Errorf("seller got %s", got)
	}
}
