package main

import (
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
)

// owed names the work that rules make and no row of its own stands for: agents to be topped up, and deactivated ones that
// have something left.
func (k *killRun) owed() []string {
	k.t.Helper()
	const wallets = ` FROM agents g JOIN accounts a ON a.owner_id = g.id AND a.kind = 'wallet' WHERE `
	out := k.column(`SELECT 'low ' || g.id || ' ' || COALESCE(g.auto_topup_error, '')` + wallets + `g.active AND g.auto_topup_consent_unix > 0
		AND a.credits_posted - a.debits_posted - a.debits_pending < g.auto_topup_threshold`)
	out = append(out, k.column(`SELECT 'deactivated with money ' || g.id`+wallets+`NOT g.active AND a.credits_posted <> a.debits_posted`)...)
	return append(out, k.column(`SELECT 'deactivated with a session ' || g.id FROM agents g JOIN sessions s ON s.agent_id = g.id
		WHERE NOT g.active AND s.status NOT IN ('closed', 'failed')`)...)
}

// pulls holds each top-up to the chain: its one movement when it is final, none when it is not, and nothing else leaves a
// source. What a source has lost is what history says that agents got of it.
func (k *killRun) pulls(f facts, history, operations []record) {
	k.t.Helper()
	has := map[string]money.USDC{} // by source
	for _, a := range k.sources {
		has[a.Hex()] = 0
	}
	gone := map[string]evm.Movement{} // by transaction, each of which pulls once
	for _, m := range f.all {
		if _, source := has[m.To.Hex()]; source {
			has[m.To.Hex()] = has[m.To.Hex()].Add(m.Amount)
		}
		if _, source := has[m.From.Hex()]; source {
			if _, twice := gone[m.TxHash.Hex()]; twice {
				k.t.Errorf("%s pulls twice", m.TxHash)
			}
			gone[m.TxHash.Hex()] = m
		}
	}
	for _, o := range operations {
		if o.kind != "top_up" {
			continue
		}
		m, moved := gone[o.hash]
		delete(gone, o.hash)
		if moved != (o.status == "final") || moved && (m.From.Hex() != o.from || m.To.Hex() != o.to || m.Amount != o.amount) {
			k.t.Errorf("top-up %s (%s of %s) is %s, the chain shows %v", o.id, o.amount, o.from, o.status, m)
		}
	}
	for _, m := range gone {
		k.t.Errorf("no top-up stands for %s → %s, %s, %s", m.From, m.To, m.Amount, m.TxHash)
	}
	k.sourcesHave(f, has, history)
	k.pulledOnce(history)
	k.permits(f, operations)
}

// sourcesHave compares what sources hold with what they were given, less the top-ups of history.
func (k *killRun) sourcesHave(f facts, has map[string]money.USDC, history []record) {
	for _, r := range history {
		if r.kind == "auto_topup" {
			has[r.from] = has[r.from].Sub(r.amount)
		}
	}
	for a, says := range has {
		if held := k.held(common.HexToAddress(a), f.block); held != says {
			k.t.Errorf("the source %s holds %s, history says %s", a, held, says)
		}
	}
}

// pulledOnce allows an agent one top-up, and one more for each time that money has left it.
func (k *killRun) pulledOnce(history []record) {
	pulled, left := map[string]int{}, map[string]int{}
	for _, r := range history {
		switch {
		case r.kind == "auto_topup" && r.status == "success":
			pulled[r.agent]++
		case r.kind == "drain" || r.kind == "deposit" || r.kind == "payment" && r.session == "":
			left[r.agent]++
		}
	}
	for id, n := range pulled {
		if n > 1+left[id] {
			k.t.Errorf("agent %s was topped up %d times, and money has left it %d times", id, n, left[id])
		}
	}
}

// permits holds each permit to the token: final when the token has taken it, and what it allows is less what was pulled.
func (k *killRun) permits(f facts, operations []record) {
	k.t.Helper()
	pulled := map[string]money.USDC{}
	for _, o := range operations {
		if o.kind == "top_up" && o.status == "final" {
			pulled[o.from] = pulled[o.from].Add(o.amount)
		}
	}
	for _, o := range operations {
		if o.kind != "permit" {
			continue
		}
		source := common.HexToAddress(o.from)
		used, err := k.chain.PermitNonce(k.t.Context(), source)
		k.no(err)
		left, err := k.chain.Allowance(k.t.Context(), source, common.HexToAddress(o.to))
		k.no(err)
		if used != 1 || o.status != "final" || left != o.amount.Sub(pulled[o.from]) {
			k.t.Errorf("permit %s of %s by %s is %s, the token has taken %d and allows %s, %s was pulled", o.id, o.amount, o.from, o.status, used, left, pulled[o.from])
		}
	}
}

// leavings demands that what leaves a wallet goes to the platform, to the seller or to its owner's address.
func (k *killRun) leavings(f facts, platform common.Address, wallets []string) {
	k.t.Helper()
	ours := map[string]bool{}
	for _, line := range wallets {
		_, a, _ := strings.Cut(line, " ")
		ours[a] = true
	}
	for _, m := range f.all {
		if ours[m.From.Hex()] && m.To != platform && m.To != k.seller && m.To != k.earner && m.To != address(k.bank) {
			k.t.Errorf("%s left %s for %s", m.Amount, m.From, m.To)
		}
	}
}
