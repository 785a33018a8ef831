package main

import (
	"math/rand/v2"
	"time"
)

// openSession is a session that is open as far as is known.
type openSession struct{ id, agent string }

// funded takes an agent with money that nobody else works on: one that a top-up has funded, or the bank; "" when there
// is none.
func (k *killRun) funded() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	from := &k.wallets
	if len(k.topped) > 0 && (len(k.wallets) == 0 || rand.IntN(2) == 0) {
		from = &k.topped
	}
	last := len(*from) - 1
	if last < 0 {
		return ""
	}
	id := (*from)[last]
	*from = (*from)[:last]
	return id
}

// findTopped finds the agents that have been topped up, while the program is dead.
func (k *killRun) findTopped() {
	k.t.Helper()
	found := k.column(`SELECT CAST(g.id AS TEXT) FROM agents g JOIN accounts a ON a.owner_id = g.id AND a.kind = 'wallet'
		WHERE g.active AND g.auto_topup_consent_unix > 0 AND a.credits_posted - a.debits_posted - a.debits_pending > 0`)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topped = found
}

// deactivate ends an agent that has money and an open session with calls in it; with none left it makes one first.
func (k *killRun) deactivate() {
	id := k.funded()
	if id == "" {
		k.newWallet()
		return
	}
	from := openSession{agent: id}
	for range 100 { // its funding may be on the way
		opened, err := k.openFor(id)
		if err != nil {
			return
		}
		if opened.id != "" {
			from = opened
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	k.pay(from)
	if status, _, err := k.p.call("DELETE", "/agents/"+id, nil); err == nil && status < 300 {
		k.told("deactivated " + id)
	}
}
