package agentpay_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/agentpay"
	"bursar/pay/mpp"
	"bursar/pay/paytest"
)

// shop sells by the hash of a transfer, in three dialects, and believes the chain alone. A hash counts once.
type shop struct {
	net *chaintest.Net

	mu   sync.Mutex
	used map[common.Hash]bool
}

const shopPrice = money.One / 2

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash := r.Header.Get("X-Payment-Tx")
	if r.URL.Path == "/mpp" {
		params, _ := pay.Challenges(http.Header{"Www-Authenticate": r.Header["Authorization"]})
		if len(params) == 1 {
			hash = params[0].Params["credential"]
		}
	}
	if why := s.check(r.Context(), common.HexToHash(hash)); why != "" {
		w.Header().Set("WWW-Authenticate", `Payment type="exact", chain="base-sepolia", currency="USDC", amount="500000", address="`+seller.Hex()+`", maxAge=300`)
		w.WriteHeader(http.StatusPaymentRequired)
		if r.URL.Path != "/mpp" {
			body := map[string]map[string]any{"/older": older, "/newer": newer}[r.URL.Path]
			b, _ := json.Marshal(with(body, "message", why))
			_, _ = w.Write(b)
		}
		return
	}
	w.Header().Set("Payment-Receipt", `status="success", txHash="`+hash+`"`)
	_, _ = w.Write([]byte("served"))
}

// check says why a hash pays for nothing; empty: it does.
func (s *shop) check(ctx context.Context, hash common.Hash) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	receipt, err := s.net.Receipt(ctx, hash)
	switch {
	case hash == common.Hash{} || errors.Is(err, evm.ErrNotFound):
		return "no transfer"
	case err != nil || !receipt.OK:
		return "failed transfer"
	case s.used[hash]:
		return "the hash was used"
	}
	for _, m := range evm.MovementsOf(sepolia.USDC, receipt.Logs) {
		if m.To == seller && m.Amount == shopPrice {
			s.used[hash] = true
			return ""
		}
	}
	return "another transfer"
}

// TestSeller pays every dialect that is proved by a transfer's hash: paid, served, the exact amount; and the same hash buys
// nothing a second time.
func TestSeller(t *testing.T) {
	net := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID))
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := pay.Wallet{Network: net.Network(), Address: crypto.PubkeyToAddress(key.PublicKey), Also: wallet.Also}
	net.Ether(w.Address, big.NewInt(1e18))
	net.Fund(w.Address, 10*money.One)
	server := httptest.NewServer(&shop{net: net, used: map[common.Hash]bool{}})
	t.Cleanup(server.Close)
	buyer := paytest.Buyer{
		Wallet: w, Key: key, Clock: time.Now,
		Transfer: func(ctx context.Context, to common.Address, amount money.USDC) (common.Hash, error) {
			r, err := chaintest.Deliver(ctx, net.Client, key, evm.Call{To: sepolia.USDC, Data: evm.TransferData(to, amount), Gas: 200_000})
			return r.TxHash, err
		},
	}
	for path, protocols := range map[string][]pay.Protocol{
		"/older": {agentpay.Protocol{}}, "/newer": {agentpay.Protocol{Default: sepolia}}, "/mpp": {mpp.Charge{}, mpp.Plain{}},
	} {
		buyer.Protocols = protocols
		had := net.Balance(seller)
		req := &pay.Request{Method: http.MethodPost, URL: server.URL + path, Header: http.Header{}, Body: []byte("x")}
		got, err := buyer.Buy(t.Context(), req)
		if err != nil || got.Response.Status != http.StatusOK || string(got.Response.Body) != "served" {
			t.Fatalf("%s: %+v, %v", path, got.Response, err)
		}
		if earned := net.Balance(seller).Sub(had); earned != shopPrice || got.Offer.Amount != shopPrice {
			t.Errorf("%s: seller got %s", path, earned)
		}
		again, err := paytest.Send(t.Context(), req)
		if err != nil || again.Status != http.StatusPaymentRequired {
			t.Errorf("%s again: %+v, %v", path, again, err)
		}
	}
}
