package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/devnet"
	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
)

// BenchmarkPaidFetch is one paid call at a time to the official v2 seller on loopback: through the real program from
// a session, through it from the agent's wallet, and by the official @x402/fetch with a key of its own. They run in
// turn within one process, so that their ratios hold when the machine is slow; p50 is in milliseconds.
//
//	go test -run '^$' -bench PaidFetch -benchtime 20x -count 3 .
func BenchmarkPaidFetch(b *testing.B) {
	o := startOfficial(b, "--dev-max-ahead=4m") // else each settlement waits for its second
	agent := o.agentID()
	session := text(o.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 20.00, "duration": 86400}), "session", "id")
	url := o.V2 + "/cheap"
	b.Run("session", func(b *testing.B) { o.benchFetch(b, url, "X-Agent-Wallet", agent, "X-Session-Id", session) })
	b.Run("wallet", func(b *testing.B) { o.benchFetch(b, url, "X-Agent-Wallet", agent) })
	b.Run("x402-fetch", func(b *testing.B) { o.benchOfficialBuyer(b, url) })
}

func (o *official) benchFetch(b *testing.B, url string, headers ...string) {
	times := make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		begin := time.Now()
		out := o.must("POST", "/external/fetch", map[string]any{"url": url}, headers...)
		times[i] = time.Since(begin)
		if text(out, "status") != "200" {
			b.Fatal(out)
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
}

func (o *official) benchOfficialBuyer(b *testing.B, url string) {
	key, err := crypto.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	faucet, err := devnet.FaucetKey()
	if err != nil {
		b.Fatal(err)
	}
	buyer := crypto.PubkeyToAddress(key.PublicKey)
	n, _ := evm.NetworkByID(evm.BaseSepoliaID)
	o.send(b, faucet, evm.Call{To: n.USDC, Data: mint(buyer, 10*money.One), Gas: 100_000})
	cmd := e2e.Node(b, "buyer.mjs", "KEY=0x"+fmt.Sprintf("%x", crypto.FromECDSA(key)), "URL="+url, fmt.Sprintf("N=%d", b.N))
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	var figures map[string]any
	if err := json.Unmarshal(out, &figures); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	p50, ok := figures["p50_ms"].(float64)
	if !ok {
		b.Fatalf("no p50 in %s", out)
	}
	b.ReportMetric(p50, "p50-ms")
}

// mint is the development token's mint(address,uint256): an ERC-20 transfer's arguments under another selector.
func mint(to common.Address, amount money.USDC) []byte {
	return append(crypto.Keccak256([]byte("mint(address,uint256)"))[:4], evm.TransferData(to, amount)[4:]...)
}
