package x402_test

import (
	"crypto/ecdsa"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

// payByPermit2 pays the official seller's Permit2 routes from wallets that have allowed Permit2 the money, also where the seller
// would hand in a permit for it.
func (m market) payByPermit2(t *testing.T) {
	relayer, err := crypto.GenerateKey()
	must(t, err)
	m.net.Ether(crypto.PubkeyToAddress(relayer.PublicKey), oneEther)
	for _, c := range []struct {
		path          string
		allowed       money.USDC
		offer, charge money.USDC
		left          money.USDC // of the allowance
		again         int        // to the same proof once more: the seller's facilitator looks at the allowance first
	}{
		{"/permit2", 10_000, 10_000, 10_000, 0, http.StatusPreconditionFailed},
		{"/permit2", money.One, 10_000, 10_000, 990_000, http.StatusPaymentRequired},
		{"/permit2-bare", 10_000, 10_000, 10_000, 0, http.StatusPreconditionFailed},
		{"/upto", 50_000, 50_000, 20_000, 30_000, http.StatusPreconditionFailed},
		{"/upto", money.One, 50_000, 20_000, 980_000, http.StatusPaymentRequired},
	} {
		b, owner := m.permit2Buyer(t, relayer, c.allowed)
		sellerHad := m.net.Balance(m.payTo)
		req := &pay.Request{Method: http.MethodGet, URL: m.sellers.V2 + c.path, Header: http.Header{}}
		got, err := b.Buy(t.Context(), req)
		must(t, err)
		if got.Offer.Amount != c.offer || got.Offer.UpTo != (c.path == "/upto") {
			t.Errorf("%+v: offer %+v", c, got.Offer)
		}
		r, err := got.Receipt(got.Response)
		if err != nil || got.Response.Status != http.StatusOK || !r.Known || !r.Success || r.Amount != c.charge {
			t.Fatalf("%+v: %d %s, receipt %+v, %v", c, got.Response.Status, got.Response.Body, r, err)
		}
		mined := m.net.Mined(r.TxHash)
		nonce := got.Proof.Permit2.Nonce
		if used, err := m.net.Permit2Used(t.Context(), owner, nonce, mined.Block); err != nil || !used || !mined.OK {
			t.Errorf("%+v: nonce used %t, %v", c, used, err)
		}
		if used, err := m.net.Permit2Used(t.Context(), owner, nonce, mined.Block-1); err != nil || used {
			t.Errorf("%+v: nonce used a block before: %t, %v", c, used, err)
		}

		// The same proof again: refused, and not charged.
		again, err := paytest.Send(t.Context(), req)
		must(t, err)
		if r, err := got.Receipt(again); again.Status != c.again || err != nil || r.Success {
			t.Errorf("%+v: again: %d, %+v, %v", c, again.Status, r, err)
		}
		if has, sellerHas := m.net.Balance(owner), m.net.Balance(m.payTo); money.One.Sub(has) != c.charge || sellerHas.Sub(sellerHad) != c.charge {
			t.Errorf("%+v: the wallet has %s, the seller got %s", c, has, sellerHas.Sub(sellerHad))
		}
		if may, err := m.net.Allowance(t.Context(), owner, evm.Permit2); err != nil || may != c.left {
			t.Errorf("%+v: Permit2 may still take %s, %v", c, may, err)
		}
	}
}

// permit2Buyer pays from a new wallet of one USDC, of which Permit2 may take what is allowed.
func (m market) permit2Buyer(t *testing.T, relayer *ecdsa.PrivateKey, allowed money.USDC) (paytest.Buyer, common.Address) {
	t.Helper()
	key, err := crypto.GenerateKey()
	must(t, err)
	owner := crypto.PubkeyToAddress(key.PublicKey)
	m.net.Fund(owner, money.One)
	allow(t, m.net, relayer, key, allowed)
	return paytest.Buyer{
		Protocols: both, Key: key, Clock: time.Now,
		Wallet: pay.Wallet{Network: m.wallet.Network, Address: owner, Also: permit2Wallet.Also},
	}, owner
}
