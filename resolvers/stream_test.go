package resolvers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/ent/apikey"
	"bursar/money"
	"bursar/pay/paytest"
)

func hexAddress(s string) common.Address { return common.HexToAddress(s) }

const balanceChanged = `subscription($id: ID!) { balanceChanged(agentId: $id) { agentId sessionId balance { posted pending available version } } }`

// TestBalanceStream: a funding on chain, which nobody announced, arrives once, after the snapshot.
func TestBalanceStream(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	id := d.agent(me, "Bot", 0)
	s := d.live(me)
	s.subscribe("1", balanceChanged, map[string]any{"id": id})
	first := s.event("balanceChanged").(map[string]any)
	if at(t, first, "balance.posted") != "0" || first["agentId"] != id || first["sessionId"] != nil {
		t.Error(first)
	}
	address := d.do(me, `query($id: ID!) { agent(id: $id) { address } }`, map[string]any{"id": id}).str("agent.address")
	for i := range 3 {
		d.Net.Fund(hexAddress(address), money.One)
		d.Settle()
		e := s.event("balanceChanged").(map[string]any)
		if want := (money.USDC(i+1) * money.One).String(); at(t, e, "balance.posted") != want || at(t, e, "balance.available") != want {
			t.Errorf("%v, want %s", e, want)
		}
	}
	d.Settle()
	s.quiet()
	s.say(map[string]any{"id": "1", "type": "complete"})
	d.Net.Fund(hexAddress(address), money.One)
	d.Settle()
	s.quiet()
}

// TestSessionStream follows a session from opening to closed, and the balances beside it: in order, each once, and
// never a version that goes back.
func TestSessionStream(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	id := d.agent(me, "Bot", 5*money.One)
	all, balances, payments := d.live(me), d.live(me), d.live(me)
	all.subscribe("1", `subscription { sessionChanged { id status used remaining refunded } }`, nil)
	balances.subscribe("1", balanceChanged, map[string]any{"id": id})
	balances.event("balanceChanged") // the snapshot: the other two subscriptions were begun before it came
	payments.subscribe("1", `subscription($id: ID) { paymentSettled(agentId: $id) { id status amount txHash } }`, map[string]any{"id": id})
	all.quiet()
	payments.quiet()
	time.Sleep(200 * time.Millisecond) // a subscription without a snapshot does not say when it has begun

	session := d.do(me, openSession, map[string]any{"in": map[string]any{"agentId": id, "deposit": "1000000"}}).str("openSession.id")
	one := d.live(me)
	one.subscribe("1", `subscription($id: ID) { sessionChanged(sessionId: $id) { status remaining } }`, map[string]any{"id": session})
	if v := one.event("sessionChanged").(map[string]any); v["status"] != "OPEN" || v["remaining"] != "1000000" {
		t.Error(v)
	}
	paid := d.do(me, fetch, map[string]any{"in": map[string]any{"agent": id, "sessionId": session, "url": d.Seller(cent).Link(2, paytest.Serve, 0)}}).str("fetch.transaction.id")
	d.Settle()
	d.do(me, `mutation($id: ID!) { closeSession(input: {sessionId: $id}) { status } }`, map[string]any{"id": session})
	d.Settle()

	var seen []string
	for len(seen) == 0 || seen[len(seen)-1] != "CLOSED" {
		v := all.event("sessionChanged").(map[string]any)
		if v["id"] != session {
			t.Error(v)
		}
		if s := v["status"].(string); len(seen) == 0 || seen[len(seen)-1] != s {
			seen = append(seen, s)
		}
	}
	order := []string{"OPENING", "OPEN", "CLOSING", "CLOSED"} // a state stream may leave some out, and turns none round
	if rest := subsequence(seen, order); rest != nil {
		t.Errorf("statuses %v", seen)
	}
	if v := payments.event("paymentSettled").(map[string]any); v["id"] != paid || v["status"] != "SUCCESS" || v["amount"] != "10000" {
		t.Error(v)
	}
	payments.quiet()
	all.quiet()

	last, wallet := map[string]float64{}, ""
	for wallet != "4990000" {
		v := balances.event("balanceChanged").(map[string]any)
		account := fmt.Sprint(v["sessionId"])
		version := at(t, v, "balance.version").(float64)
		if version <= last[account] && len(last) > 0 {
			t.Errorf("%s: version %v after %v", account, version, last[account])
		}
		last[account] = version
		if v["sessionId"] == nil {
			wallet = at(t, v, "balance.posted").(string)
		}
	}
	if len(last) != 2 {
		t.Errorf("accounts %v", last)
	}
}

// subsequence returns what of the words is not found, in order, in all.
func subsequence(words, all []string) []string {
	for _, a := range all {
		if len(words) > 0 && words[0] == a {
			words = words[1:]
		}
	}
	if len(words) == 0 {
		return nil
	}
	return words
}

// TestSocketCredentials: by connection_init in every spelling, by the upgrade's headers, and until the end of each.
func TestSocketCredentials(t *testing.T) {
	d := open(t)
	p, l := d.User("dev@example.com")
	key, err := d.Core.APIKeys.Create(d.Ctx, p, "key")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		header  http.Header
		payload map[string]any
	}{
		{bearer(l.Token), nil},
		{http.Header{"X-Api-Key": {key.Secret}}, nil},
		{nil, map[string]any{"Authorization": "Bearer " + l.Token}},
		{nil, map[string]any{"authorization": "bearer " + key.Secret}},
		{nil, map[string]any{"X-API-Key": key.Secret}},
		{nil, map[string]any{"apiKey": key.Secret}},
		{nil, map[string]any{"api_key": key.Secret}},
		{bearer("bad"), map[string]any{"x-api-key": key.Secret}},
	} {
		s := d.dial(c.header, c.payload)
		s.hear("connection_ack")
		s.subscribe("1", `{ me { user { email } } }`, nil)
		if s.event("me.user.email") != "dev@example.com" {
			t.Error(c)
		}
		s.hear("complete")
	}
	for _, payload := range []map[string]any{nil, {}, {"Authorization": "Bearer bad"}, {"apiKey": 7}, {"X-API-Key": key.Secret, "Authorization": "Bearer bad"}} {
		d.dial(nil, payload).closed(4403)
	}

	// A key that is revoked neither reads nor changes over a connection that is still open, which then ends.
	s := d.dial(nil, map[string]any{"apiKey": key.Secret})
	s.hear("connection_ack")
	if err := d.Core.APIKeys.Revoke(d.Ctx, p, apikey.KindAPIKey, key.ID); err != nil {
		t.Fatal(err)
	}
	for i, query := range []string{meQuery, `mutation { createAgent(input: {name: "late"}) { id } }`, `subscription { paymentSettled { id } }`} {
		s.subscribe(fmt.Sprint(i), query, nil)
		if code := s.failure(); code != "UNAUTHORIZED" {
			t.Errorf("%s: %s", query, code)
		}
	}

	// A token's end closes the connection.
	token, err := d.Core.APIKeys.CreateToken(d.Ctx, p, core.TokenInput{Label: "short", ExpiresIn: 700 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s = d.live(http.Header{"X-Agnic-Token": {token.Secret}})
	s.subscribe("1", `subscription { paymentSettled { id } }`, nil)
	s.closed(4403)
}

// TestRecheck: a stream of a revoked key ends without the client's doing.
func TestRecheck(t *testing.T) {
	d := openWith(t, 20*time.Millisecond)
	p, _ := d.User("dev@example.com")
	key, err := d.Core.APIKeys.Create(d.Ctx, p, "key")
	if err != nil {
		t.Fatal(err)
	}
	s := d.live(bearer(key.Secret))
	s.subscribe("1", `subscription { paymentSettled { id } }`, nil)
	time.Sleep(100 * time.Millisecond) // several checks
	s.quiet()
	if err := d.Core.APIKeys.Revoke(d.Ctx, p, apikey.KindAPIKey, key.ID); err != nil {
		t.Fatal(err)
	}
	s.closed(4403)
}

// TestQuotas: one credential cannot take all connections and subscriptions, and another is not touched by it.
func TestQuotas(t *testing.T) {
	d := open(t)
	greedy, modest := d.user("greedy@example.com"), d.user("modest@example.com")
	var sockets []*socket
	for range 100 {
		sockets = append(sockets, d.live(greedy))
	}
	d.dial(greedy, nil).closed(4403)
	d.live(modest)
	// Each begins with a snapshot, so the test knows when it is there.
	id := map[string]any{"id": d.agent(greedy, "Bot", 0)}
	for i := range 200 {
		sockets[i%3].subscribe(fmt.Sprint(i), balanceChanged, id)
		sockets[i%3].hear("next")
	}
	sockets[3].subscribe("over", balanceChanged, id)
	if code := sockets[3].failure(); code != "TOO_MANY_SUBSCRIPTIONS" {
		t.Error(code)
	}
	other := d.live(modest)
	other.subscribe("1", balanceChanged, map[string]any{"id": d.agent(modest, "Bot", 0)})
	other.hear("next")

	// What ends gives its place back.
	_ = sockets[0].Close()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		s := d.dial(greedy, nil)
		if s.first().Type == "connection_ack" {
			s.subscribe("1", balanceChanged, id)
			if s.next().Type == "next" {
				return
			}
			_ = s.Close() // the subscriptions' places follow a little later
		}
		if time.Now().After(end) {
			t.Fatal("no place was given back")
		}
	}
}

// first is the first message, or nothing when the connection is closed instead.
func (s *socket) first() (m message) {
	_ = s.SetReadDeadline(time.Now().Add(patience))
	if err := s.ReadJSON(&m); err != nil && !strings.Contains(err.Error(), "4403") {
		s.t.Fatal(err)
	}
	return m
}
