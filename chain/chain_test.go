package chain_test

import (
	"crypto/ecdsa"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
)

var ether = new(big.Int).SetUint64(1e18)

func newKey(t *testing.T) (*ecdsa.PrivateKey, common.Address) {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, crypto.PubkeyToAddress(key.PublicKey)
}

// authorize signs a transfer that is valid from ten minutes ago, as x402 clients do, until in a minute.
func authorize(t *testing.T, n *chaintest.Net, key *ecdsa.PrivateKey, to common.Address, amount money.USDC, nonce common.Hash) evm.Call {
	t.Helper()
	a := evm.Authorization{
		From: crypto.PubkeyToAddress(key.PublicKey), To: to, Value: amount, Nonce: nonce,
		ValidAfter: time.Now().Add(-10 * time.Minute).Unix(), ValidBefore: time.Now().Add(time.Minute).Unix(),
	}
	sig, err := evm.Sign(key, a.Digest(n.Network().Domain()))
	if err != nil {
		t.Fatal(err)
	}
	return evm.Call{To: n.Network().USDC, Data: evm.TransferWithAuthorizationData(a, sig), Gas: 150_000}
}

func sign(t *testing.T, n *chaintest.Net, key *ecdsa.PrivateKey, nonce uint64, c evm.Call) ([]byte, common.Hash) {
	t.Helper()
	fees, err := n.Fees(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, hash, err := evm.SignTx(key, n.Network().ChainID, nonce, fees, c)
	if err != nil {
		t.Fatal(err)
	}
	return raw, hash
}

// relay sends a call from the key's next nonce and returns the receipt.
func relay(t *testing.T, n *chaintest.Net, key *ecdsa.PrivateKey, c evm.Call) evm.Receipt {
	t.Helper()
	r, err := chaintest.Deliver(t.Context(), n.Client, key, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAuthorizationSettlesOnce(t *testing.T) {
	n := chaintest.New(t)
	relayer, relayerAddress := newKey(t)
	payer, payerAddress := newKey(t) // holds no ether
	_, seller := newKey(t)
	n.Ether(relayerAddress, ether)
	n.Fund(payerAddress, 5*money.One)
	nonce := common.HexToHash("0x01")
	call := authorize(t, n, payer, seller, 2*money.One, nonce)

	if err := n.Simulate(t.Context(), relayerAddress, call); err != nil {
		t.Fatal(err)
	}
	start, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if used, err := n.AuthorizationUsed(t.Context(), payerAddress, nonce, start.Number); err != nil || used {
		t.Fatalf("used before: %v, %v", used, err)
	}
	before := relay(t, n, relayer, call)
	if !before.OK || before.GasUsed == 0 || before.GasUsed > 100_000 {
		t.Fatalf("receipt %+v", before)
	}
	if used, err := n.AuthorizationUsed(t.Context(), payerAddress, nonce, before.Block); err != nil || !used {
		t.Fatalf("used after: %v, %v", used, err)
	}
	if used, err := n.AuthorizationUsed(t.Context(), payerAddress, nonce, before.Block-1); err != nil || used {
		t.Fatalf("used a block before: %v, %v", used, err)
	}
	if used, err := n.AuthorizationUsed(t.Context(), payerAddress, nonce, before.Block+10); !errors.Is(err, evm.ErrUnavailable) {
		t.Fatalf("at a block to come: %v, %v", used, err)
	}

	err = n.Simulate(t.Context(), relayerAddress, call)
	if !errors.Is(err, evm.ErrReverted) || !strings.HasSuffix(err.Error(), ": FiatTokenV2: authorization is used or canceled") {
		t.Fatalf("second simulation: %v", err)
	}
	if again := relay(t, n, relayer, call); again.OK || len(again.Logs) != 0 {
		t.Fatalf("the second use went through: %+v", again)
	}
	if got := n.Balance(seller); got != 2*money.One {
		t.Fatalf("seller has %s", got)
	}
	if got, err := n.BalanceOf(t.Context(), seller, before.Block-1); err != nil || got != 0 {
		t.Fatalf("seller had %s before, %v", got, err)
	}
	if got, err := n.EtherOf(t.Context(), relayerAddress); err != nil || got.Cmp(ether) >= 0 || got.Sign() <= 0 {
		t.Fatalf("relayer has %s wei, %v", got, err)
	}
}

func TestMovements(t *testing.T) {
	n := chaintest.New(t)
	relayer, relayerAddress := newKey(t)
	payer, payerAddress := newKey(t)
	_, seller := newKey(t)
	n.Ether(relayerAddress, ether)
	n.Fund(payerAddress, 5*money.One)
	n.Fund(relayerAddress, 5*money.One)
	start, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// An authorization between two plain transfers, handed over out of order so that they may share a block.
	nonce := common.HexToHash("0xabc")
	plain := func(amount money.USDC) evm.Call {
		return evm.Call{To: n.Network().USDC, Data: evm.TransferData(seller, amount), Gas: 150_000}
	}
	var last common.Hash
	for i, c := range []evm.Call{plain(3), authorize(t, n, payer, seller, 2, nonce), plain(1)} {
		raw, hash := sign(t, n, relayer, uint64(2-i), c)
		if i == 0 {
			last = hash // the highest account nonce is mined last
		}
		if err := n.Send(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
	}
	end := n.Mined(last).Block
	got, err := n.Movements(t.Context(), start.Number+1, end)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d movements: %+v", len(got), got)
	}
	for i, m := range got {
		from, auth := relayerAddress, (*common.Hash)(nil)
		if i == 1 {
			from, auth = payerAddress, &nonce
		}
		if m.From != from || m.To != seller || m.Amount != money.USDC(i+1) || (m.AuthNonce == nil) != (auth == nil) || auth != nil && *m.AuthNonce != *auth {
			t.Errorf("movement %d: %+v", i, m)
		}
		if i > 0 && (m.Block < got[i-1].Block || m.Block == got[i-1].Block && m.LogIndex <= got[i-1].LogIndex) {
			t.Errorf("movement %d is out of order", i)
		}
		b, err := n.BlockByNumber(t.Context(), m.Block)
		if err != nil || b.Hash != m.BlockHash {
			t.Errorf("movement %d is of block %s, the chain's is %s, %v", i, m.BlockHash, b.Hash, err)
		}
	}
	if _, err := n.Movements(t.Context(), start.Number, end+1); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("a range beyond the head: %v", err)
	}
}

func TestSendClasses(t *testing.T) {
	n := chaintest.New(t)
	key, address := newKey(t)
	poor, _ := newKey(t)
	n.Ether(address, ether)
	call := evm.Call{To: address, Gas: 21_000, ValueWei: big.NewInt(1)}
	relay(t, n, key, call)
	n.Node.Commit() // a receipt shows before the pool has let go of its transaction, which it would call "replaced"

	used, _ := sign(t, n, key, 0, call)
	waiting, _ := sign(t, n, key, 5, call) // a nonce of the future stays in the pool
	call.ValueWei = big.NewInt(2)
	rival, _ := sign(t, n, key, 5, call)
	broke, _ := sign(t, n, poor, 0, call)
	call.Gas = 20_999
	starved, _ := sign(t, n, key, 1, call)
	cheap, _, err := evm.SignTx(key, n.Network().ChainID, 6, evm.Fees{TipWei: 0, CapWei: 1e9}, evm.Call{To: address, Gas: 21_000})
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := evm.SignTx(key, evm.BaseID, 1, evm.Fees{TipWei: 1, CapWei: 1e9}, evm.Call{To: address, Gas: 21_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"nonce too low", used, evm.ErrKnown},
		{"accepted", waiting, nil},
		{"already known", waiting, evm.ErrKnown},
		{"replacement at the same price", rival, evm.ErrUnderpriced},
		{"tip below the pool's minimum", cheap, evm.ErrUnderpriced},
		{"no ether", broke, evm.ErrNoGas},
		{"too little gas", starved, evm.ErrUnavailable},
		{"other chain", foreign, evm.ErrUnavailable},
		{"not a transaction", []byte{1}, evm.ErrUnavailable},
	} {
		if err := n.Send(t.Context(), c.raw); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestNotFound(t *testing.T) {
	n := chaintest.New(t)
	if _, err := n.Receipt(t.Context(), common.Hash{9}); !errors.Is(err, evm.ErrNotFound) {
		t.Errorf("receipt: %v", err)
	}
	if _, err := n.BlockByNumber(t.Context(), 1e6); !errors.Is(err, evm.ErrNotFound) {
		t.Errorf("block: %v", err)
	}
	head, err := n.Head(t.Context())
	if err != nil || time.Since(head.Time) > time.Minute {
		t.Errorf("head %+v, %v", head, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	n := chaintest.New(t)
	open := func(network evm.Network, url string) error {
		c, err := chain.Open(t.Context(), chain.Config{URLs: []string{url}, Network: network, Clock: time.Now})
		if err == nil {
			c.Close()
		}
		return err
	}
	sepolia, _ := evm.NetworkByID(evm.BaseSepoliaID)
	noToken, noUSDC, named := n.Network(), n.Network(), n.Network()
	noToken.USDC = common.Address{1}
	noUSDC.USDC = noUSDC.Multicall3
	named.DomainName = "USD Coin"
	weth := n.Network()
	weth.USDC = weth.WETH
	for _, c := range []struct {
		name    string
		network evm.Network
		want    string
	}{
		{"chain id", sepolia, "serves chain 845321337, not 84532"},
		{"no code", noToken, "has no USDC contract"},
		{"another contract", noUSDC, "is not USDC"},
		{"decimals", weth, "has not 6 decimals"},
		{"domain", named, "domain separator"},
	} {
		if err := open(c.network, n.Node.URL()); err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	err := open(n.Network(), "http://127.0.0.1:1/secret")
	if !errors.Is(err, evm.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestWebsocketAndOtherID(t *testing.T) {
	n := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID))
	if n.Network().Name != "base-sepolia" {
		t.Fatal(n.Network().Name)
	}
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{n.Node.WS()}, Network: n.Network(), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
}
