package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/devnet"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/x402"
)

// till is an honest seller that can keep up with a load: it judges each proof by itself, serves at once, and collects
// what it has taken later, many proofs in one transaction, as a facilitator that settles in batches does.
type till struct {
	URL string

	t     testing.TB
	ask   x402.Ask
	mu    sync.Mutex
	took  map[common.Hash]pay.Proof
	order []common.Hash
	twice int
}

var payee = common.HexToAddress("0x7111")

func newTill(t testing.TB, price money.USDC) *till {
	t.Helper()
	n, _ := evm.NetworkByID(evm.DevID)
	s := &till{t: t, took: map[common.Hash]pay.Proof{}, ask: x402.Ask{
		Version: 2, Network: n, Amount: price, PayTo: payee, MimeType: "text/plain", ValidFor: pay.MaxWindow,
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.ask.Resource = server.URL + "/"
	return s
}

// allow is the setting that lets agents call it.
func (s *till) allow() string { return "--allow-private=" + strings.TrimPrefix(s.URL, "http://") }

func (s *till) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := s.ask.Proof(r.Header)
	if err == nil {
		err = s.ask.Verify(p, time.Now())
	}
	if err != nil {
		_ = s.ask.Challenge(w, err.Error())
		return
	}
	nonce := p.Authorization.Nonce
	s.mu.Lock()
	if _, again := s.took[nonce]; again {
		s.twice++
	} else {
		s.took[nonce] = p
		s.order = append(s.order, nonce)
	}
	s.mu.Unlock()
	_, _ = w.Write([]byte("served\n"))
}

func (s *till) taken() []pay.Proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]pay.Proof, len(s.order))
	for i, nonce := range s.order {
		out[i] = s.took[nonce]
	}
	return out
}

func (s *till) repeated() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.twice
}

// proofsPerTx keeps a transaction below the 128 KiB that a node takes, and within a block's gas.
const proofsPerTx = 200

// collect settles the first n proofs on the program's chain, and demands that they have brought what was asked.
func (s *till) collect(p *program, n int) {
	s.t.Helper()
	ctx, network := s.t.Context(), s.ask.Network
	client, err := chain.Open(ctx, chain.Config{URLs: []string{p.RPC}, Network: network, Clock: time.Now})
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	key, err := devnet.FaucetKey()
	if err != nil {
		s.t.Fatal(err)
	}
	nonce, err := client.NonceAt(ctx, crypto.PubkeyToAddress(key.PublicKey))
	if err != nil {
		s.t.Fatal(err)
	}
	fees, err := client.Fees(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	fees.CapWei *= 10 // full blocks raise the price
	var sent []common.Hash
	for proofs := s.taken()[:n]; len(proofs) > 0; nonce++ {
		some := proofs[:min(proofsPerTx, len(proofs))]
		proofs = proofs[len(some):]
		raw, hash, err := evm.SignTx(key, network.ChainID, nonce, fees, evm.Call{To: network.Multicall3, Data: aggregate(s.t, network.USDC, some), Gas: uint64(100_000 * (len(some) + 1))})
		if err != nil {
			s.t.Fatal(err)
		}
		if err := client.Send(ctx, raw); err != nil {
			s.t.Fatal(err)
		}
		sent = append(sent, hash)
	}
	for _, hash := range sent {
		eventually(s.t, "the proofs are settled", func() bool {
			r, err := client.Receipt(ctx, hash)
			if err == nil && !r.OK {
				s.t.Fatalf("a settlement was reverted: %s", hash)
			}
			return err == nil
		})
	}
	want := s.ask.Amount * money.USDC(n)
	if got, err := client.BalanceOf(ctx, s.ask.PayTo, 0); err != nil || got != want {
		s.t.Errorf("the seller has %s of %s %v", got, want, err)
	}
}

// aggregate is the call data of Multicall3.aggregate3 over the proofs' transfers.
func aggregate(t testing.TB, token common.Address, proofs []pay.Proof) []byte {
	t.Helper()
	const text = `[{"type":"function","name":"aggregate3","stateMutability":"payable","inputs":[{"name":"calls","type":"tuple[]","components":[
		{"name":"target","type":"address"},{"name":"allowFailure","type":"bool"},{"name":"callData","type":"bytes"}]}],
		"outputs":[{"name":"","type":"tuple[]","components":[{"name":"success","type":"bool"},{"name":"returnData","type":"bytes"}]}]}]`
	contract, err := abi.JSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	type call struct {
		Target       common.Address
		AllowFailure bool
		CallData     []byte
	}
	calls := make([]call, len(proofs))
	for i, p := range proofs {
		calls[i] = call{token, false, evm.TransferWithAuthorizationData(p.Authorization, p.Signature)}
	}
	data, err := contract.Pack("aggregate3", calls)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
