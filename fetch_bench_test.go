package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
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

// BenchmarkPaidFetch is one paid call at a time to the official v2 seller: through the real program from a session, through
// it from the agent's wallet, and by the official @x402/fetch with a key of its own; all on one machine, and then with the
// seller as far away as another town is, for all three. They run in turn within one process, so that their ratios hold when
// the machine is slow; p50 is in milliseconds.
//
// Each of the two has its own run, since a chain whose blocks are made at once comes to the end of what it may be ahead.
//
//	go test -run '^$' -bench PaidFetch/near -benchtime 20x -count 3 .
//	go test -run '^$' -bench PaidFetch/far -benchtime 20x -count 3 .
func BenchmarkPaidFetch(b *testing.B) {
	o := startOfficial(b, "--dev-max-ahead=4m") // else each settlement waits for its second
	agent := o.agentID()
	session := text(o.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 20.00, "duration": 86400}), "session", "id")
	for _, where := range []struct{ name, url string }{{"near", o.V2}, {"far", far(b, o.V2, townAway)}} {
		url := where.url + "/cheap"
		b.Run(where.name+"/session", func(b *testing.B) { o.benchFetch(b, url, "X-Agent-Wallet", agent, "X-Session-Id", session) })
		b.Run(where.name+"/wallet", func(b *testing.B) { o.benchFetch(b, url, "X-Agent-Wallet", agent) })
		b.Run(where.name+"/x402-fetch", func(b *testing.B) { o.benchOfficialBuyer(b, url) })
	}
}

// townAway is what a packet takes one way.
const townAway = 20 * time.Millisecond

// far is a server as seen from so far away: its bytes take that long, in either direction.
func far(tb testing.TB, server string, oneWay time.Duration) string {
	at, err := url.Parse(server)
	if err != nil {
		tb.Fatal(err)
	}
	there := at.Host
	near, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = near.Close() })
	go func() {
		for {
			in, err := near.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", there)
			if err != nil {
				_ = in.Close()
				continue
			}
			go carry(out, in, oneWay)
			go carry(in, out, oneWay)
		}
	}()
	at.Host = near.Addr().String()
	return at.String()
}

// carry brings what one side sends to the other, each piece so much later, and then the end.
func carry(to, from net.Conn, late time.Duration) {
	type piece struct {
		bytes []byte
		due   time.Time
	}
	under := make(chan piece, 1024)
	go func() {
		defer close(under)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			under <- piece{buf[:n], time.Now().Add(late)}
			if err != nil {
				return
			}
		}
	}()
	for p := range under {
		time.Sleep(time.Until(p.due))
		_, _ = to.Write(p.bytes)
	}
	_ = to.Close()
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
