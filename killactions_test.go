package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"bursar/money"
)

const (
	openPool = 8 // open sessions that a group of kills begins with
	deposit  = "0.20"
)

// signUp registers the owner, whose address for drains is the bank's, and the wallet that pays.
func (k *killRun) signUp() {
	k.t.Helper()
	k.p.Key = ""
	login := k.p.must("POST", "/auth/register", map[string]any{"email": "owner@example.com", "password": "correct horse battery"})
	bearer := "Bearer " + text(login, "token")
	k.p.must("POST", "/graphql", map[string]any{
		"query":     "mutation($a: Address!) { setWalletAddress(input: {address: $a}) { walletAddress } }",
		"variables": map[string]any{"a": address(k.bank).Hex()},
	}, "Authorization", bearer)
	k.openBusiness(bearer)
	k.p.Key = text(k.p.must("POST", "/api-keys", map[string]any{"name": "kills"}, "Authorization", bearer), "key")
	made := k.p.must("POST", "/agents", map[string]any{"name": "Payer"})
	k.agent = text(made, "id")
	k.p.must("PUT", "/agents/"+k.agent+"/policy", map[string]any{"allowed_services": []string{"127.0.0.1", "gateway/business"}}) // else nothing is sent ahead
	k.p.must("POST", "/graphql", map[string]any{
		"query": "mutation($a: ID!) { updatePolicy(input: {agentId: $a, signIn: true}) { signIn } }", "variables": map[string]any{"a": k.agent},
	})
	k.no(k.give(text(made, "wallet_address"), 2000*money.One))
	eventually(k.t, "the payer is funded", func() bool { return k.balance(k.agent) == 2000*money.One })
	k.openSources()
}

// balance is a wallet's, as the program shows it; 0 when it does not answer.
func (k *killRun) balance(agent string) money.USDC {
	_, out, err := k.p.call("GET", "/agents/"+agent, nil)
	if err != nil {
		return 0
	}
	v, err := money.ParseAtomic(text(out, "usdc_balance"))
	if err != nil {
		return 0
	}
	return v
}

// prepare starts the program if it does not run, finds the sessions that are open, and opens some if they are few.
func (k *killRun) prepare() {
	k.t.Helper()
	if k.p.cmd == nil {
		k.launch(death{})
		if !k.p.listening() {
			k.t.Fatalf("the program ended:\n%s", k.p.out)
		}
	}
	var open []openSession
	for _, line := range k.column("SELECT CAST(id AS TEXT) || ' ' || CAST(agent_id AS TEXT) FROM sessions WHERE status = 'open'") {
		id, agent, _ := strings.Cut(line, " ")
		open = append(open, openSession{id, agent})
	}
	k.mu.Lock()
	k.sessions = open
	k.mu.Unlock()
	var callers sync.WaitGroup
	for range openPool - k.sessionsOpen() {
		callers.Go(k.open)
	}
	callers.Wait()
}

func (k *killRun) sessionsOpen() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.sessions)
}

// pay makes one paid call; without a session it pays from the wallet.
func (k *killRun) pay(from openSession) { k.fetch(from, fmt.Sprintf("v%d/weather", 1+rand.IntN(2))) }

// sendAhead makes one call that is paid by a transfer before it is served.
func (k *killRun) sendAhead() {
	from := openSession{agent: k.agent}
	if rand.IntN(2) == 0 {
		from = k.anySession()
	}
	k.fetch(from, "agent-pay")
}

// payByPermit2 makes one call for a price or for a maximum, whose payer may have to let Permit2 have an allowance first.
func (k *killRun) payByPermit2() {
	from := openSession{agent: k.agent}
	if rand.IntN(2) == 0 {
		from = k.anySession()
	}
	k.fetch(from, []string{"permit2", "permit2-most"}[rand.IntN(2)])
}

// signIn makes one call of the shop's club from the wallet, which is served for its login or pays.
func (k *killRun) signIn() {
	path := fmt.Sprintf("/call/%d/club", k.calls.Add(1))
	_, _, _ = k.p.call("POST", "/external/fetch", map[string]any{"url": k.shop + path}, "X-Agent-Wallet", k.agent)
}

// fetch makes a call under a path that no other call has.
func (k *killRun) fetch(from openSession, what string) {
	headers := []string{"X-Agent-Wallet", from.agent}
	if from.id != "" {
		headers = append(headers, "X-Session-Id", from.id)
	}
	path := fmt.Sprintf("/call/%d/%s", k.calls.Add(1), what)
	status, out, err := k.p.call("POST", "/external/fetch", map[string]any{"url": k.shop + path}, headers...)
	if err == nil && status == 200 && text(out, "status") == "200" { // an agent whose policy does not name the shop is shown its 402
		k.told("payment " + path)
	}
}

// told remembers what a caller has been answered, and so must never be lost.
func (k *killRun) told(row string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answered = append(k.answered, row)
}

// anySession is one of the open ones, which somebody else may be closing; the payer's wallet when there is none.
func (k *killRun) anySession() openSession {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.sessions) == 0 {
		return openSession{agent: k.agent}
	}
	return k.sessions[rand.IntN(len(k.sessions))]
}

func (k *killRun) open() { _, _ = k.openFor(k.agent) }

// openFor opens a session of an agent; none and no error is a refusal. The error says that the program did not answer.
func (k *killRun) openFor(agent string) (openSession, error) {
	_, out, err := k.p.call("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": json.Number(deposit)})
	if text(out, "session", "status") != "open" {
		return openSession{}, err
	}
	s := openSession{text(out, "session", "id"), agent}
	k.told("deposit " + s.id)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sessions = append(k.sessions, s)
	return s, nil
}

// closeSession closes one; with none left it opens one first.
func (k *killRun) closeSession() {
	k.mu.Lock()
	last := len(k.sessions) - 1
	if last < 0 {
		k.mu.Unlock()
		k.open()
		return
	}
	id := k.sessions[last].id
	k.sessions = k.sessions[:last]
	k.mu.Unlock()
	if _, out, _ := k.p.call("POST", "/sessions/"+id+"/close", nil); text(out, "session", "status") == "closed" {
		k.told("closed " + id)
	}
}

// newWallet makes an agent and funds it for the first time, with what brings the gas grant.
func (k *killRun) newWallet() {
	_, made, _ := k.p.call("POST", "/agents", map[string]any{"name": fmt.Sprintf("Wallet %d", k.calls.Add(1))})
	id := text(made, "id")
	if id == "<nil>" || k.give(text(made, "wallet_address"), money.One) != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wallets = append(k.wallets, id)
}

// drain empties a funded wallet; with none left it makes one first.
func (k *killRun) drain() {
	id := k.funded()
	if id == "" {
		k.newWallet()
		return
	}
	for range 100 { // its funding may be on the way
		status, _, err := k.p.call("POST", "/agents/"+id+"/drain", map[string]any{})
		if err == nil && status < 300 {
			k.told("drain " + id)
		}
		if err != nil || status < 300 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
