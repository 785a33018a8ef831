package resolvers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/money"
	"bursar/pay/paytest"
)

// TestIdempotencyKey: every mutation that moves money answers a repeat with the first answer, and moves money once.
func TestIdempotencyKey(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	s := d.Seller(cent)
	id := d.agent(me, "Research Bot", 5*money.One)
	d.do(me, `mutation { setWalletAddress(input: {address: "0x00000000000000000000000000000000000000aA"}) { walletAddress } }`, nil)
	hash := d.Net.Fund(hexAddress(d.do(me, `query($id: ID!) { agent(id: $id) { address } }`, map[string]any{"id": id}).str("agent.address")), money.One)
	d.Settle()
	session := ""
	for _, c := range []struct {
		name, mutation string
		in             map[string]any
	}{
		{"open", openSession, map[string]any{"agentId": id, "deposit": "2000000"}},
		{"fetch", fetch, map[string]any{"agent": id, "url": s.Link(2, paytest.Serve, 0)}},
		{"fetch in the session", fetch, map[string]any{"agent": id, "url": s.Link(1, paytest.Serve, 0)}},
		{"close", `mutation($in: CloseSessionInput!) { closeSession(input: $in) { id status refunded refundTxHash callCount closedAt createdAt } }`, map[string]any{}},
		{"fund", `mutation($in: FundAgentInput!) { fundAgent(input: $in) { funded gasSponsored gasTxHash } }`, map[string]any{"agentId": id, "txHash": hash.Hex(), "amount": "1000000"}},
		{"drain", `mutation($in: DrainAgentInput!) { drainAgent(input: $in) { drained amount txHash to } }`, map[string]any{"agentId": id}},
		{"deactivate", `mutation($in: DeactivateAgentInput!) { deactivateAgent(input: $in) { drained amount txHash to } }`, map[string]any{"agentId": id}},
	} {
		if _, ok := c.in["agentId"]; !ok && c.name != "fetch" {
			c.in["sessionId"] = session
		}
		c.in["idempotencyKey"] = c.name
		first := d.do(me, c.mutation, map[string]any{"in": c.in})
		if c.name == "open" {
			session = first.str("openSession.id")
		}
		d.Settle()
		if again := d.do(me, c.mutation, map[string]any{"in": c.in}); again.text != first.text {
			t.Errorf("%s again:\n%s\nfirst:\n%s", c.name, again.text, first.text)
		}
		for key, code := range map[string]string{"": "INVALID_REQUEST", "a\nb": "INVALID_REQUEST", "open": "CONFLICT"} {
			if c.in["idempotencyKey"] = key; key != c.name {
				d.ask(me, c.mutation, map[string]any{"in": c.in}).refused(code)
			}
		}
	}
	if n := len(s.Seen()); n != 2 {
		t.Errorf("%d proofs", n)
	}
	d.Settle()
	d.Balanced()
}

// TestStillRunning: a repeat of a request under way is told when to come again.
func TestStillRunning(t *testing.T) {
	d := open(t)
	p, login := d.User("dev@example.com")
	d.Agent(p, "bot", 0)
	inside, gate := make(chan struct{}), make(chan struct{})
	url := d.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-gate
	}))
	done, key := make(chan error), "one"
	go func() {
		_, err := d.Core.Payments.Fetch(d.Ctx, p, core.FetchInput{URL: url, IdempotencyKey: &key, Timeout: time.Minute})
		done <- err
	}()
	<-inside
	a := d.ask(bearer(login.Token), fetch, map[string]any{"in": map[string]any{"url": url, "idempotencyKey": key}})
	a.refused("CONFLICT")
	if a.Errors[0].Extensions["retryAfterSeconds"] != 5.0 || !strings.Contains(a.Errors[0].Message, "still running") {
		t.Error(a.text)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	d.do(bearer(login.Token), fetch, map[string]any{"in": map[string]any{"url": url, "idempotencyKey": key}})
}
