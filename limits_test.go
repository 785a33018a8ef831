package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bursar/core/coretest"
	"bursar/evm"
	"bursar/money"
)

// Limits under load, through the real program in processes of its own: as many calls pass as the money or the limit
// allows, and not one more, however many ask at once, by whichever door and at whichever process.

// TestSessionUnderLoad calls from a session of 0.50 at 0.0001, 10,000 times from 500 connections: exactly 5,000 calls
// are served, each by a proof of its own, and what the sellers collect afterwards is what was charged. A tenth with
// -short.
func TestSessionUnderLoad(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { sessionUnderLoad(t) })
	if !testing.Short() {
		t.Run("postgres", func(t *testing.T) {
			sessionUnderLoad(t, append(secrets(), "--database-url="+coretest.EmptyPostgres(t))...)
		})
	}
}

func sessionUnderLoad(t *testing.T, args ...string) {
	calls, connections, deposit := 10_000, 500, money.One/2
	if testing.Short() {
		calls, connections, deposit = calls/10, connections/10, deposit/10
	}
	const price = money.One / 10_000
	s := newTill(t, price)
	p := start(t, append(args, s.allow())...)
	agent := p.agentID()
	session := text(p.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": deposit.Dollars()}), "session", "id")
	begin := time.Now()
	c := newCrowd(connections)
	answers := c.ask(calls, func(int) order {
		return p.fetch(map[string]any{"url": s.URL + "/"}, "X-Agent-Wallet", agent, "X-Session-Id", session)
	})
	t.Logf("%d calls in %s: %v", calls, time.Since(begin).Round(time.Millisecond), answers)
	fit := int(deposit / price)
	if answers["200 200 success"] != fit || answers["402 "+noMoney] != calls-fit {
		t.Errorf("%d calls should be served and the others refused: %v", fit, answers)
	}
	if len(s.taken()) != fit || s.repeated() != 0 {
		t.Errorf("the seller has %d proofs, and %d twice", len(s.taken()), s.repeated())
	}
	v := p.must("GET", "/sessions/"+session, nil)
	if text(v, "session", "used_amount") != deposit.String() || text(v, "session", "remaining") != "0" || text(v, "session", "call_count") != strconv.Itoa(fit) {
		t.Errorf("session %v", v)
	}
	p.audit()
	collected := min(fit, 1000) // the rest may still be collected until the proofs end, long after this test
	s.collect(p, collected)
	begin = time.Now()
	for p.settled(agent) != collected {
		if time.Since(begin) > 5*time.Minute {
			t.Fatal("what the seller has collected is never booked")
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d settlements booked in %s", collected, time.Since(begin).Round(time.Millisecond))
	if out := p.audit(); !strings.Contains(out, "= sessions 0.000000 + clearing "+(deposit-price*money.USDC(collected)).Decimal()+" + treasury 0.000000") {
		t.Errorf("what is not collected yet should be in clearing: %s", out)
	}
}

// settled counts the agent's payments at which the chain's transaction stands.
func (p *program) settled(agent string) int {
	const page = 100
	n := 0
	for offset := 0; ; offset += page {
		found, _ := at(p.must("GET", fmt.Sprintf("/agents/%s/transactions?limit=%d&offset=%d", agent, page, offset), nil), "transactions").([]any)
		for _, t := range found {
			if text(t, "to_address") == payee.Hex() && at(t, "tx_hash") != nil {
				n++
			}
		}
		if len(found) < page {
			return n
		}
	}
}

// noMoney is what a call is told when the session has nothing left.
const noMoney = "Insufficient"

// TestDailyLimitOfManyWriters calls 400 times at 0.01 under a daily limit of 1.00: from four sessions of one agent, by
// REST and by GraphQL, at every one of several processes over one PostgreSQL. Exactly 100 calls are served.
// BURSAR_REPLICAS says how many processes; 2 without it. With -short it is one, on SQLite.
func TestDailyLimitOfManyWriters(t *testing.T) {
	if left := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)); left < 2*time.Minute {
		t.Logf("the day is about to end: waiting for the next one for %s", left)
		time.Sleep(left)
	}
	s := newTill(t, money.One/100)
	programs := replicas(t, s.allow())
	first := programs[0]
	agent := first.agentID()
	first.must("PUT", "/agents/"+agent+"/policy", map[string]any{"daily_limit": 1_000_000})
	var sessions [4]string
	for i := range sessions {
		sessions[i] = text(first.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 2.00}), "session", "id")
	}
	const calls, connections = 400, 100
	answers := newCrowd(connections).ask(calls, func(n int) order {
		p, session := programs[n%len(programs)], sessions[n/len(programs)%len(sessions)]
		if n/len(programs)/len(sessions)%2 == 0 {
			return p.fetch(map[string]any{"url": s.URL + "/"}, "X-Agent-Wallet", agent, "X-Session-Id", session)
		}
		return p.graph(`mutation($in: FetchInput!) { fetch(input: $in) { status transaction { status } } }`,
			map[string]any{"in": map[string]any{"agent": agent, "sessionId": session, "url": s.URL + "/"}})
	})
	t.Logf("%d processes: %v", len(programs), answers)
	served := answers["200 200 success"] + answers["200 200 SUCCESS"]
	refused := answers["402 Daily"] + answers["200 SPENDING_LIMIT"]
	if served != 100 || refused != calls-100 || answers["200 200 success"] == 0 && answers["200 200 SUCCESS"] == 0 {
		t.Errorf("%d served, %d refused: %v", served, refused, answers)
	}
	if len(s.taken()) != 100 || s.repeated() != 0 {
		t.Errorf("the seller has %d proofs, and %d twice", len(s.taken()), s.repeated())
	}
	var used money.USDC
	for _, id := range sessions {
		v, err := money.ParseAtomic(text(first.must("GET", "/sessions/"+id, nil), "session", "used_amount"))
		if err != nil {
			t.Fatal(err)
		}
		used += v
	}
	if used != money.One {
		t.Errorf("the sessions have used %s", used)
	}
	first.audit()
}

// replicas are several programs that share one PostgreSQL and the first one's chain.
func replicas(t *testing.T, args ...string) []*program {
	t.Helper()
	if testing.Short() {
		return []*program{start(t, args...)}
	}
	n := 2
	if given := os.Getenv("BURSAR_REPLICAS"); given != "" {
		var err error
		if n, err = strconv.Atoi(given); err != nil || n < 1 {
			t.Fatalf("BURSAR_REPLICAS is %q", given)
		}
	}
	args = append(append(secrets(), "--database-url="+coretest.EmptyPostgres(t)), args...)
	out := []*program{start(t, args...)}
	for range n - 1 {
		p := newProgram(t, append(args, "--rpc-url="+out[0].RPC, fmt.Sprintf("--chain-id=%d", evm.DevID), "--poll-interval=250ms")...)
		p.start()
		p.Key, p.Token = out[0].Key, out[0].Token
		out = append(out, p)
	}
	return out
}

// order is one request, and how its answer is told in a few words.
type order struct {
	url    string
	body   any
	header []string
	words  func(status int, answer map[string]any) string
}

func (p *program) fetch(in map[string]any, header ...string) order {
	return order{p.API + "/external/fetch", in, append(header, "X-API-Key", p.Key), func(status int, a map[string]any) string {
		if status != http.StatusOK {
			word, _, _ := strings.Cut(text(a, "error"), " ")
			return fmt.Sprintf("%d %s", status, word)
		}
		return fmt.Sprintf("200 %s %s", text(a, "status"), text(a, "_indiegent", "payment_status"))
	}}
}

func (p *program) graph(query string, variables map[string]any) order {
	return order{p.API + "/graphql", map[string]any{"query": query, "variables": variables}, []string{"X-API-Key", p.Key}, func(status int, a map[string]any) string {
		if errs, _ := a["errors"].([]any); len(errs) > 0 {
			return fmt.Sprintf("%d %s", status, text(errs[0], "extensions", "code"))
		}
		return fmt.Sprintf("%d %s %s", status, text(a, "data", "fetch", "status"), text(a, "data", "fetch", "transaction", "status"))
	}}
}

// crowd asks over many connections at once, each of which is kept.
type crowd struct {
	size   int
	client *http.Client
}

func newCrowd(size int) *crowd {
	return &crowd{size, &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: size}}}
}

// ask makes n requests and counts the answers by their words.
func (c *crowd) ask(n int, next func(n int) order) map[string]int {
	numbers := make(chan int, n)
	for i := range n {
		numbers <- i
	}
	close(numbers)
	var mu sync.Mutex
	answers := map[string]int{}
	var wg sync.WaitGroup
	for range c.size {
		wg.Go(func() {
			for i := range numbers {
				words := c.one(next(i))
				mu.Lock()
				answers[words]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.client.CloseIdleConnections()
	return answers
}

func (c *crowd) one(o order) string {
	in, err := json.Marshal(o.body)
	if err != nil {
		return err.Error()
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, o.url, bytes.NewReader(in))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(o.header); i += 2 {
		req.Header.Set(o.header[i], o.header[i+1])
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return "no answer: " + err.Error()
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		return fmt.Sprintf("%d %v", resp.StatusCode, err)
	}
	return o.words(resp.StatusCode, out)
}
