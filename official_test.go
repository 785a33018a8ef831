package main

import (
	"bufio"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/chain/devnet"
	"bursar/core/coretest"
	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
)

// official is the real program beside the official sellers, all on one embedded chain that plays Base Sepolia.
type official struct {
	*program
	e2e.Sellers
	client *chain.Client
	payTo  common.Address
}

func startOfficial(t testing.TB, args ...string) *official {
	t.Helper()
	o := &official{payTo: common.HexToAddress("0x000000000000000000000000000000000000b0b1")}
	o.program = newProgram(t, append([]string{"--chain-id=84532", "--allow-private=127.0.0.1:0"}, args...)...)
	o.program.start()
	network, _ := evm.NetworkByID(evm.BaseSepoliaID)
	var err error
	if o.client, err = chain.Open(t.Context(), chain.Config{URLs: []string{o.RPC}, Network: network, Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.client.Close)
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	o.ether(t, crypto.PubkeyToAddress(key.PublicKey))
	o.Sellers = e2e.StartSellers(t, o.RPC, evm.BaseSepoliaID, fmt.Sprintf("%x", crypto.FromECDSA(key)), o.payTo)
	return o
}

// ether sends gas money from the faucet through the program's own RPC, as any tool could.
func (o *official) ether(t testing.TB, to common.Address) {
	t.Helper()
	faucet, err := devnet.FaucetKey()
	if err != nil {
		t.Fatal(err)
	}
	o.send(t, faucet, evm.Call{To: to, ValueWei: big.NewInt(1e18), Gas: 21_000})
}

func (o *official) send(t testing.TB, key *ecdsa.PrivateKey, c evm.Call) {
	t.Helper()
	if _, err := chaintest.Deliver(t.Context(), o.client, key, c); err != nil {
		t.Fatal(err)
	}
}

func (o *official) balance(a common.Address) money.USDC {
	o.t.Helper()
	b, err := o.client.BalanceOf(o.t.Context(), a, 0)
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// TestOfficialSellers: a paid call from a session and one without, against the official v1 and v2 packages. The
// seller serves, chain balances move by exactly the price, and ledger, both APIs and subscriptions agree.
func TestOfficialSellers(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { officialRun(t) })
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		officialRun(t, append(secrets(), "--database-url="+coretest.EmptyPostgres(t))...)
	})
}

func officialRun(t *testing.T, args ...string) {
	o := startOfficial(t, args...)
	agent := o.agentID()
	wallet := common.HexToAddress(text(o.must("GET", "/agents/"+agent, nil), "agent", "wallet_address"))
	heard := o.subscribe(agent)
	price := money.One / 100
	had := o.balance(wallet)
	for i, url := range []string{o.V1 + "/weather", o.V2 + "/weather"} {
		out := o.must("POST", "/external/fetch", map[string]any{"url": url, "max_cost": 0.05}, "X-Agent-Wallet", agent)
		if text(out, "status") != "200" || text(out, "_indiegent", "cost") != "$0.0100" || at(out, "body", "celsius") == nil {
			t.Fatalf("%s: %v", url, out)
		}
		if got := o.balance(o.payTo); got != money.USDC(i+1)*price {
			t.Errorf("the seller has %s after %d calls", got, i+1)
		}
	}
	if got := o.balance(wallet); got != had-2*price {
		t.Errorf("the wallet had %s and has %s", had, got)
	}
	session := text(o.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 5.00}), "session", "id")
	for _, url := range []string{o.V1 + "/weather", o.V2 + "/weather"} {
		out := o.must("POST", "/external/fetch", map[string]any{"url": url}, "X-Agent-Wallet", agent, "X-Session-Id", session)
		if text(out, "status") != "200" || text(out, "_indiegent", "payment_method") != "session" {
			t.Fatalf("%s: %v", url, out)
		}
	}
	if got := o.balance(o.payTo); got != 4*price {
		t.Errorf("the seller has %s", got)
	}
	closed := o.must("POST", "/sessions/"+session+"/close", nil)
	if text(closed, "session", "status") != "closed" || text(closed, "session", "refunded") != "4980000" {
		t.Errorf("closed: %v", closed)
	}
	eventually(t, "every balance agrees", func() bool {
		return o.balance(wallet) == had-4*price && text(o.must("GET", "/agents/"+agent, nil), "agent", "usdc_balance") == (had-4*price).String()
	})
	checkHeard(t, heard(), had, price)
	o.audit()
}

// subscribe runs the official graphql-ws client, and returns what waits for its events.
func (o *official) subscribe(agent string) func() []heardEvent {
	o.t.Helper()
	queries := fmt.Sprintf(`[
		{"name":"balance","query":"subscription{balanceChanged(agentId:\"%s\"){sessionId balance{posted pending version}}}","take":100000},
		{"name":"payment","query":"subscription{paymentSettled{id amount status sessionId txHash}}","take":4},
		{"name":"session","query":"subscription{sessionChanged{id status used remaining refunded}}","take":100000}]`, agent)
	cmd := e2e.Node(o.t, "subscriber.mjs", "WS_URL="+strings.Replace(o.API, "http", "ws", 1)+"/graphql", "TOKEN="+o.Key, "QUERIES="+queries)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var mu sync.Mutex
	var events []heardEvent
	go func() {
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e heardEvent
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				mu.Lock()
				events = append(events, e)
				mu.Unlock()
			}
		}
	}()
	snapshot := func() []heardEvent {
		mu.Lock()
		defer mu.Unlock()
		return append([]heardEvent(nil), events...)
	}
	eventually(o.t, "the subscriber has its snapshot", func() bool {
		for _, e := range snapshot() {
			if e.Name == "balance" {
				return true
			}
		}
		return false
	})
	time.Sleep(300 * time.Millisecond) // the other two subscriptions have no snapshot to wait for
	return func() []heardEvent {
		eventually(o.t, "the last events have come", func() bool {
			closed, paid := false, 0
			for _, e := range snapshot() {
				closed = closed || text(e.Payload, "data", "sessionChanged", "status") == "CLOSED"
				if e.Name == "payment" && e.Event == "next" {
					paid++
				}
			}
			return closed && paid >= 4
		})
		time.Sleep(300 * time.Millisecond) // what must not come would come now
		return snapshot()
	}
}

type heardEvent struct {
	Event, Name string
	Payload     any
}

// checkHeard: each payment once and in order; balances by rising version up to the last; session states in order.
func checkHeard(t *testing.T, events []heardEvent, had, price money.USDC) {
	t.Helper()
	seen := map[string]bool{}
	versions := map[string]json.Number{}
	var states []string
	posted := ""
	for _, e := range events {
		switch {
		case e.Event == "error":
			t.Errorf("error: %+v", e)
		case e.Event != "next":
		case e.Name == "payment":
			id := text(e.Payload, "data", "paymentSettled", "id")
			if seen[id] || text(e.Payload, "data", "paymentSettled", "status") != "SUCCESS" || text(e.Payload, "data", "paymentSettled", "amount") != price.String() {
				t.Errorf("payment: %+v", e)
			}
			seen[id] = true
		case e.Name == "balance":
			account := text(e.Payload, "data", "balanceChanged", "sessionId")
			version := json.Number(text(e.Payload, "data", "balanceChanged", "balance", "version"))
			old, _ := versions[account].Int64()
			now, err := version.Int64()
			if err != nil || (versions[account] != "" && now <= old) {
				t.Errorf("balance after version %s: %+v", versions[account], e)
			}
			versions[account] = version
			if account == "<nil>" {
				posted = text(e.Payload, "data", "balanceChanged", "balance", "posted")
			}
		case e.Name == "session":
			status := text(e.Payload, "data", "sessionChanged", "status")
			if len(states) == 0 || states[len(states)-1] != status {
				states = append(states, status)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d payments were told", len(seen))
	}
	if want := (had - 4*price).String(); posted != want {
		t.Errorf("the last balance told is %s, not %s", posted, want)
	}
	if got := strings.Join(states, " "); got != "OPENING OPEN CLOSING CLOSED" && got != "OPEN CLOSING CLOSED" {
		t.Errorf("session states %s", got)
	}
}

// TestSessionLife: deposit 5.00, 50 calls at 0.01, close: 4.50 comes back, and REST and GraphQL agree to the unit.
func TestSessionLife(t *testing.T) {
	p := start(t)
	agent := p.agentID()
	session := text(p.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 5.00}), "session", "id")
	for i := range 50 {
		out := p.must("POST", "/external/fetch", map[string]any{"url": fmt.Sprintf("%s/v%d/weather", p.Demo, 1+i%2)}, "X-Agent-Wallet", agent, "X-Session-Id", session)
		if text(out, "status") != "200" || text(out, "_indiegent", "session_remaining") != (5*money.One-money.USDC(i+1)*money.One/100).RemainingUSD() {
			t.Fatalf("call %d: %v", i, out)
		}
	}
	closed := p.must("POST", "/sessions/"+session+"/close", nil)
	for _, v := range []map[string]any{closed, p.must("GET", "/sessions/"+session, nil)} {
		for field, want := range map[string]string{
			"status": "closed", "deposit_amount": "5000000", "used_amount": "500000", "refunded": "4500000", "call_count": "50",
		} {
			if got := text(v, "session", field); got != want {
				t.Errorf("%s is %s, not %s", field, got, want)
			}
		}
	}
	g := p.graphql(`{session(id:"` + session + `"){status deposit used remaining refunded callCount refundTxHash}}`)
	if got := fmt.Sprint(at(g, "data", "session")); !strings.Contains(got, "callCount:50 deposit:5000000") || !strings.Contains(got, "refunded:4500000") ||
		!strings.Contains(got, "remaining:0 status:CLOSED used:500000") {
		t.Errorf("GraphQL says %s", got)
	}
	if hash := text(closed, "session", "refund_tx_hash"); !strings.HasPrefix(hash, "0x") {
		t.Errorf("refund by %s", hash)
	}
	p.audit()
}

func (p *program) graphql(query string) map[string]any {
	p.t.Helper()
	return p.must("POST", "/graphql", map[string]any{"query": query})
}

// TestRefusalsOnTheWire: what is refused answers with its status, and the seller sees no payment.
func TestRefusalsOnTheWire(t *testing.T) {
	p := start(t)
	agent := p.agentID()
	before := text(p.must("GET", "/agents/"+agent, nil), "agent", "usdc_balance")
	for _, c := range []struct {
		name   string
		policy map[string]any
		body   map[string]any
		want   int
	}{
		{"above max_cost", nil, map[string]any{"url": p.Demo + "/v2/weather", "max_cost": 0.005}, 422},
		{"above per_call_max", map[string]any{"per_call_max": 5000}, map[string]any{"url": p.Demo + "/v2/weather"}, 402},
		{"above the daily limit", map[string]any{"per_call_max": nil, "daily_limit": 5000}, map[string]any{"url": p.Demo + "/v2/weather"}, 402},
		{"blocked", map[string]any{"daily_limit": nil, "blocked_services": []string{"127.0.0.1"}}, map[string]any{"url": p.Demo + "/v2/weather"}, 403},
		{"private address", map[string]any{"blocked_services": []string{}}, map[string]any{"url": "http://192.168.1.1/"}, 400},
		{"not http", nil, map[string]any{"url": "file:///etc/passwd"}, 400},
	} {
		if c.policy != nil {
			p.must("PUT", "/agents/"+agent+"/policy", c.policy)
		}
		status, out, err := p.call("POST", "/external/fetch", c.body, "X-Agent-Wallet", agent)
		if err != nil || status != c.want || at(out, "error") == nil {
			t.Errorf("%s: %d %v %v", c.name, status, out, err)
		}
	}
	if after := text(p.must("GET", "/agents/"+agent, nil), "agent", "usdc_balance"); after != before {
		t.Errorf("the wallet had %s and has %s", before, after)
	}
	if total := text(p.must("GET", "/agents/"+agent+"/transactions", nil), "transactions"); strings.Contains(total, "payment") {
		t.Errorf("a refusal left a payment: %s", total)
	}
	p.audit()
}
