package resolvers_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/money"
	"bursar/pay/paytest"
)

const cent = money.One / 100

// fund mints USDC at an agent's address, and announces it.
func (d *door) fund(h http.Header, agent string, amount money.USDC) {
	d.T.Helper()
	address := d.do(h, `query($id: ID!) { agent(id: $id) { address } }`, map[string]any{"id": agent}).str("agent.address")
	hash := d.Net.Fund(hexAddress(address), amount)
	d.Settle()
	a := d.do(h, `mutation($in: FundAgentInput!) { fundAgent(input: $in) { funded } }`,
		map[string]any{"in": map[string]any{"agentId": agent, "txHash": hash.Hex(), "amount": amount.String()}})
	if a.at("fundAgent.funded") != true {
		d.T.Fatal(a.text)
	}
}

func (d *door) agent(h http.Header, name string, funds money.USDC) string {
	d.T.Helper()
	id := d.do(h, `mutation($n: String!) { createAgent(input: {name: $n}) { id } }`, map[string]any{"n": name}).str("createAgent.id")
	if funds > 0 {
		d.fund(h, id, funds)
	}
	return id
}

const openSession = `mutation($in: OpenSessionInput!) { openSession(input: $in) { id status deposit remaining expiresAt depositTxHash } }`

const fetch = `mutation($in: FetchInput!) { fetch(input: $in) { status headers { name value } body bodyBase64 paid cost paidBy unpayable sessionRemaining
	transaction { id status kind quoted amount from to txHash service endpoint protocol scheme network upstreamStatus reason settledAt sessionId agentId wei } } }`

// TestUnknown: a payment without a good answer says what is known of it and when it will be decided.
func TestUnknown(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	s := d.Seller(cent)
	d.agent(me, "bot", money.One)
	a := d.do(me, `mutation($in: FetchInput!) { fetch(input: $in) { transaction { id status reason decidedBy } } }`,
		map[string]any{"in": map[string]any{"url": s.Link(2, paytest.FailAfter, 0)}})
	end := time.Unix(s.Seen()[0].Proof.Authorization.ValidBefore, 0).UTC().Format(time.RFC3339)
	if a.str("fetch.transaction.status") != "UNKNOWN" || a.str("fetch.transaction.decidedBy") != end || !strings.Contains(a.str("fetch.transaction.reason"), "answered 500") {
		t.Error(end, a.text)
	}
	d.Settle()
	a = d.do(me, `query($id: ID!) { transaction(id: $id) { status decidedBy } }`, map[string]any{"id": a.str("fetch.transaction.id")})
	if a.str("transaction.status") != "SUCCESS" || a.at("transaction.decidedBy") != nil {
		t.Error(a.text)
	}
}

// TestLife goes from registering to the refund by GraphQL alone.
func TestLife(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	s := d.Seller(cent)
	id := d.agent(me, "Research Bot", 5*money.One)
	a := d.do(me, `query($id: ID!) { agent(id: $id) { name slug active isDefault wallet { posted pending available version } policy { spendingCap allowedServices } } }`, map[string]any{"id": id})
	if a.str("agent.slug") != "research-bot" || a.str("agent.wallet.posted") != "5000000" || a.str("agent.wallet.pending") != "0" || a.at("agent.policy.spendingCap") != nil {
		t.Error(a.text)
	}

	a = d.do(me, openSession, map[string]any{"in": map[string]any{"agentId": id, "deposit": "2000000", "durationSeconds": 600}})
	session := a.str("openSession.id")
	if a.str("openSession.status") != "OPEN" || a.str("openSession.remaining") != "2000000" || !strings.HasSuffix(a.str("openSession.expiresAt"), "Z") || a.str("openSession.depositTxHash") == "" {
		t.Error(a.text)
	}

	in := map[string]any{"agent": "research-bot", "sessionId": session, "url": s.Link(2, paytest.Serve, 0), "headers": []any{map[string]any{"name": "Accept", "value": "text/plain"}}}
	a = d.do(me, fetch, map[string]any{"in": in})
	if a.at("fetch.status") != 200.0 || a.at("fetch.paid") != true || a.str("fetch.cost") != "10000" || a.str("fetch.paidBy") != "session" ||
		a.str("fetch.sessionRemaining") != "1990000" || a.str("fetch.transaction.kind") != "PAYMENT" || a.str("fetch.transaction.sessionId") != session {
		t.Error(a.text)
	}
	in["maxCost"] = "9999"
	d.ask(me, fetch, map[string]any{"in": in}).refused("COST_EXCEEDS_MAX")
	in = map[string]any{"agent": id, "url": s.URL + "/free", "method": "post", "body": base64.StdEncoding.EncodeToString([]byte{0xff}), "bodyBase64": true}
	if a = d.do(me, fetch, map[string]any{"in": in}); a.str("fetch.body") != "free\n" || a.at("fetch.paid") != false || a.at("fetch.transaction") != nil || a.str("fetch.cost") != "0" {
		t.Error(a.text)
	}

	d.do(me, `mutation($id: ID!) { updatePolicy(input: {agentId: $id, perCallMax: "5000", blockedServices: ["x.example"]}) { perCallMax } }`, map[string]any{"id": id})
	in = map[string]any{"agent": id, "url": s.Link(2, paytest.Serve, 0)}
	a = d.ask(me, fetch, map[string]any{"in": in})
	a.refused("SPENDING_LIMIT")
	limit, _ := a.Errors[0].Extensions["limit"].(map[string]any)
	if limit["max"] != "5000" || limit["requested"] != "10000" || limit["rule"] == "" {
		t.Error(a.text)
	}
	a = d.do(me, `mutation($id: ID!) { updatePolicy(input: {agentId: $id, perCallMax: null}) { perCallMax blockedServices version } }`, map[string]any{"id": id})
	if a.at("updatePolicy.perCallMax") != nil || a.str("updatePolicy.blockedServices.0") != "x.example" || a.at("updatePolicy.version") != 3.0 {
		t.Error(a.text)
	}

	d.Settle()
	a = d.do(me, `mutation($id: ID!) { closeSession(input: {sessionId: $id}) { status used remaining refunded callCount refundTxHash } }`, map[string]any{"id": session})
	if a.str("closeSession.status") != "CLOSED" || a.str("closeSession.refunded") != "1990000" || a.str("closeSession.remaining") != "0" || a.at("closeSession.callCount") != 1.0 {
		t.Error(a.text)
	}
	d.Settle()
	a = d.do(me, `query($f: TransactionFilter) { transactions(filter: $f, limit: 5) { total spent succeeded items { kind status amount upstreamStatus txHash from to settledAt } }
		all: transactions(limit: 1, offset: 1) { total items { kind } } balanceOverview { total activeAgents agents { id } } sessions { id agentId status } }`,
		map[string]any{"f": map[string]any{"agentId": id, "paymentsOnly": true, "statuses": []string{"SUCCESS"}, "search": "SERVE"}})
	if a.at("transactions.total") != 1.0 || a.str("transactions.spent") != "10000" || a.str("transactions.items.0.status") != "SUCCESS" ||
		a.at("transactions.items.0.upstreamStatus") != 200.0 || a.str("balanceOverview.total") != "4990000" || len(a.at("all.items").([]any)) != 1 {
		t.Error(a.text)
	}

	d.ask(me, `mutation($id: ID!) { drainAgent(input: {agentId: $id}) { amount } }`, map[string]any{"id": id}).refused("INVALID_REQUEST")
	owner := "0x00000000000000000000000000000000000000aA"
	d.do(me, `mutation($a: Address!) { setWalletAddress(input: {address: $a}) { walletAddress } }`, map[string]any{"a": owner})
	a = d.do(me, `mutation($id: ID!) { deactivateAgent(input: {agentId: $id}) { drained amount txHash to } }`, map[string]any{"id": id})
	if a.str("deactivateAgent.amount") != "4990000" || !strings.EqualFold(a.str("deactivateAgent.to"), owner) {
		t.Error(a.text)
	}
	d.Settle()
	d.Balanced()
	if d.log.Len() != 0 {
		t.Errorf("logged: %s", d.log)
	}
}

// TestKeys: secrets are shown once, and programs make and read none.
func TestKeys(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	id := d.agent(me, "Bot", 0)
	a := d.do(me, `mutation { k: createApiKey(input: {name: "k"}) { secret key { id prefix last4 } } t: createToken(input: {name: "t", dailyLimit: "5", expiresInSeconds: 60}) { secret key { expiresAt dailyLimit } } }`, nil)
	secret := a.str("k.secret")
	if !strings.HasPrefix(secret, "ig_test_") || !strings.HasSuffix(secret, a.str("k.key.last4")) || !strings.HasPrefix(a.str("t.secret"), "agnic_tok_") || a.str("t.key.dailyLimit") != "5" {
		t.Error("wrong keys")
	}
	if list := d.do(me, `{ apiKeys { id name prefix } tokens: apiKeys(kind: AGNIC_TOKEN) { id } }`, nil); strings.Contains(list.text, secret) || list.str("apiKeys.0.name") != "k" || len(list.at("tokens").([]any)) != 1 {
		t.Error(list.text)
	}
	export := `mutation($id: ID!) { exportAgentKey(input: {agentId: $id}) { address privateKey } }`
	if a := d.do(me, export, map[string]any{"id": id}); len(a.str("exportAgentKey.privateKey")) != 66 {
		t.Error("no key")
	}
	program := bearer(secret)
	for _, query := range []string{export, `query($id: ID!) { agent(id: $id) { id } apiKeys { id } }`, `mutation($id: ID!) { createApiKey(input: {name: $id}) { secret } }`} {
		query = strings.Replace(query, "$id: ID!) { createApiKey", "$id: String!) { createApiKey", 1)
		d.ask(program, query, map[string]any{"id": id}).refused("FORBIDDEN")
	}
	d.do(me, `mutation($id: ID!) { revokeApiKey(input: {id: $id}) }`, map[string]any{"id": a.str("k.key.id")})
	if a := d.ask(program, meQuery, nil); a.status != http.StatusUnauthorized {
		t.Error(a.text)
	}
}

// TestTenants: whatever names another's record is NOT_FOUND, as if it did not exist, in every field that takes an id.
func TestTenants(t *testing.T) {
	d := open(t)
	me, other := d.user("me@example.com"), d.user("other@example.com")
	agent := d.agent(other, "Bot", 5*money.One)
	session := d.do(other, openSession, map[string]any{"in": map[string]any{"agentId": agent, "deposit": "1000000"}}).str("openSession.id")
	department := d.do(other, `mutation { createDepartment(input: {name: "Ops"}) { id } }`, nil).str("createDepartment.id")
	payment := d.do(other, `{ transactions { items { id } } }`, nil).str("transactions.items.0.id")
	key := d.do(other, `mutation { createApiKey(input: {name: "k"}) { key { id } } }`, nil).str("createApiKey.key.id")
	own := d.agent(me, "Bot", 0)
	nobody := uuid.NewString()
	hash := "0x" + strings.Repeat("0", 64)
	for _, c := range []struct{ query, id string }{
		{`{ agent(id: "%s") { id } }`, agent},
		{`{ session(id: "%s") { id } }`, session},
		{`{ transaction(id: "%s") { id } }`, payment},
		{`{ transactions(filter: {agentId: "%s"}) { total } }`, agent},
		{`mutation { updateAgent(input: {agentId: "%s", name: "x"}) { id } }`, agent},
		{`mutation { updateAgent(input: {agentId: "` + own + `", departmentId: "%s"}) { id } }`, department},
		{`mutation { createAgent(input: {name: "x", departmentId: "%s"}) { id } }`, department},
		{`mutation { updatePolicy(input: {agentId: "%s", requireSession: true}) { version } }`, agent},
		{`mutation { deactivateAgent(input: {agentId: "%s"}) { drained } }`, agent},
		{`mutation { exportAgentKey(input: {agentId: "%s"}) { privateKey } }`, agent},
		{`mutation { fundAgent(input: {agentId: "%s", txHash: "` + hash + `", amount: "1"}) { funded } }`, agent},
		{`mutation { drainAgent(input: {agentId: "%s"}) { drained } }`, agent},
		{`mutation { openSession(input: {agentId: "%s", deposit: "1"}) { id } }`, agent},
		{`mutation { closeSession(input: {sessionId: "%s"}) { id } }`, session},
		{`mutation { fetch(input: {agent: "%s", url: "http://example.com/"}) { status } }`, agent},
		{`mutation { fetch(input: {agent: "` + own + `", sessionId: "%s", url: "http://example.com/"}) { status } }`, session},
		{`mutation { revokeApiKey(input: {id: "%s"}) }`, key},
	} {
		foreign, absent := d.ask(me, fmt.Sprintf(c.query, c.id), nil), d.ask(me, fmt.Sprintf(c.query, nobody), nil)
		foreign.refused("NOT_FOUND")
		if foreign.text != absent.text {
			t.Errorf("%s\nforeign %s\nabsent  %s", c.query, foreign.text, absent.text)
		}
	}
	for _, list := range []string{
		`{ agents { id } }`, `{ sessions { id } }`, `{ departments { id } }`, `{ apiKeys { id } }`, `{ transactions { items { id } } }`,
		`{ sessions(agentId: "` + agent + `") { id } }`, `{ transactions(filter: {sessionId: "` + session + `"}) { items { id } total } }`,
	} {
		a := d.ask(me, list, nil)
		for _, id := range []string{agent, session, department, payment, key} {
			if strings.Contains(a.text, `"id":"`+id) {
				t.Errorf("%s shows another's record: %s", list, a.text)
			}
		}
	}
	s := d.live(me)
	for i, q := range []string{`subscription { balanceChanged(agentId: "%s") { agentId } }`, `subscription { paymentSettled(agentId: "%s") { id } }`} {
		s.subscribe(fmt.Sprint(i), fmt.Sprintf(q, agent), nil)
		if code := s.failure(); code != "NOT_FOUND" {
			t.Errorf("%s: %s", q, code)
		}
	}
	s.subscribe("s", fmt.Sprintf(`subscription { sessionChanged(sessionId: "%s") { id } }`, session), nil)
	if code := s.failure(); code != "NOT_FOUND" {
		t.Error(code)
	}
	// News of another's money does not reach a subscription to all of one's own.
	s.subscribe("p", `subscription { paymentSettled { id } }`, nil)
	s.subscribe("all", `subscription { sessionChanged { id } }`, nil)
	s.quiet()
	d.do(other, fetch, map[string]any{"in": map[string]any{"agent": agent, "url": d.Seller(cent).Link(2, paytest.Serve, 0)}})
	d.do(other, `mutation($id: ID!) { closeSession(input: {sessionId: $id}) { status } }`, map[string]any{"id": session})
	d.Settle()
	s.quiet()
}
