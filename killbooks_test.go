package main

import (
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
)

// What is checked here comes from the token's logs and balances and from the history that users see, not from the
// ledger's accounts: those the audit proves.

// column reads one column of text.
func (k *killRun) column(query string) []string {
	k.t.Helper()
	rows, err := k.db.QueryContext(k.t.Context(), query)
	k.no(err)
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		k.no(rows.Scan(&s))
		out = append(out, s)
	}
	k.no(rows.Err())
	return out
}

// unfinished names everything that has not come to its end.
func (k *killRun) unfinished() []string {
	k.t.Helper()
	out := k.column(`SELECT 'operation ' || id || ' ' || kind || ' ' || status || ' ' || COALESCE(error, '') FROM operations
		WHERE status NOT IN ('final', 'expired', 'failed')`)
	out = append(out, k.column(`SELECT 'session ' || id || ' ' || status FROM sessions WHERE status IN ('opening', 'closing')`)...)
	out = append(out, k.column(`SELECT 'transaction ' || id || ' ' || kind || ' ' || status || ' until ' || COALESCE(valid_before_unix, 0)
		FROM transactions WHERE status IN ('pending', 'unknown')`)...)
	out = append(out, k.column(`SELECT 'not collected ' || id FROM transactions
		WHERE kind = 'payment' AND status = 'success' AND amount > 0 AND tx_hash IS NULL AND service_id IS NULL`)...)
	out = append(out, k.column(`SELECT 'owed to ' || owner_id FROM accounts WHERE kind = 'seller' AND credits_posted > debits_posted`)...)
	out = append(out, k.column(`SELECT 'hold ' || id || ' ' || key FROM transfers WHERE status = 'pending'`)...)
	return append(out, k.owed()...)
}

// figures say what has happened.
func (k *killRun) figures() string {
	k.t.Helper()
	return strings.Join(k.column(`SELECT kind || ' ' || status || CASE WHEN amount = 0 AND kind = 'payment' THEN ' free' ELSE '' END || ' ' || COUNT(*)
		FROM transactions GROUP BY kind, status, amount = 0 ORDER BY 1`), ", ")
}

// record is a row of history, or an operation.
type record struct {
	id, agent, session, kind, status, from, to, hash, endpoint, nonce, protocol string
	amount                                                                      money.USDC
}

func (k *killRun) records(query string) []record {
	k.t.Helper()
	rows, err := k.db.QueryContext(k.t.Context(), query)
	k.no(err)
	defer rows.Close()
	var out []record
	for rows.Next() {
		var r record
		k.no(rows.Scan(&r.id, &r.agent, &r.session, &r.kind, &r.status, &r.from, &r.to, &r.hash, &r.endpoint, &r.nonce, &r.protocol, &r.amount))
		out = append(out, r)
	}
	k.no(rows.Err())
	return out
}

// facts are what the chain shows up to the block that the books have read.
type facts struct {
	block   uint64
	all     []evm.Movement
	byNonce map[string]evm.Movement // of authorizations, by payer and nonce
}

func authKey(from, nonce string) string { return strings.ToLower(from + nonce) }

func (k *killRun) facts() facts {
	k.t.Helper()
	f := facts{byNonce: map[string]evm.Movement{}}
	k.no(k.db.QueryRowContext(k.t.Context(), "SELECT block FROM cursors").Scan(&f.block))
	var err error
	f.all, err = k.chain.Movements(k.t.Context(), 1, f.block)
	k.no(err)
	for _, m := range f.all {
		if m.AuthNonce == nil && m.To == k.seller { // by Permit2: its nonce is the third word that the proxy is called with
			data, err := k.chain.CallData(k.t.Context(), m.TxHash)
			k.no(err)
			nonce := common.BytesToHash(data[4+2*32 : 4+3*32])
			m.AuthNonce = &nonce
		}
		if m.AuthNonce == nil {
			continue
		}
		key := authKey(m.From.Hex(), m.AuthNonce.Hex())
		if _, twice := f.byNonce[key]; twice {
			k.t.Errorf("the chain used %s twice", key)
		}
		f.byNonce[key] = m
	}
	return f
}

// reckon compares history with the chain, movement by movement and sum by sum, and returns what open sessions hold.
func (k *killRun) reckon() money.USDC {
	k.t.Helper()
	f := k.facts()
	history := k.records(`SELECT id, agent_id, COALESCE(CAST(session_id AS TEXT), ''), kind, status, COALESCE(from_address, ''), COALESCE(to_address, ''),
		COALESCE(tx_hash, ''), COALESCE(endpoint, ''), COALESCE(auth_nonce, (SELECT o.auth_nonce FROM operations o WHERE o.kind IN ('charge', 'transfer') AND o.transaction_id = t.id), ''),
		COALESCE(protocol, ''), amount FROM transactions t ORDER BY created_at, id`)
	operations := k.records(`SELECT id, agent_id, COALESCE(CAST(session_id AS TEXT), ''), kind, status, from_address, to_address,
		COALESCE(tx_hash, ''), key, COALESCE(auth_nonce, ''), '', amount FROM operations ORDER BY id`)
	ours := map[string]string{} // which record stands for an authorization
	charged := k.payments(f, history, ours)
	k.operations(f, operations, ours)
	k.pulls(f, history, operations)
	var earned money.USDC
	for _, m := range f.all {
		if m.To == k.seller {
			earned = earned.Add(m.Amount)
		}
		if m.AuthNonce != nil && ours[authKey(m.From.Hex(), m.AuthNonce.Hex())] == "" {
			k.t.Errorf("no record of an authorized movement: %s → %s, %s, %s", m.From, m.To, m.Amount, m.TxHash)
		}
	}
	if has := k.held(k.seller, f.block); has != earned || has != charged {
		k.t.Errorf("the seller holds %s, received %s, and %s was charged", has, earned, charged)
	}
	k.balances(f, history)
	k.kept(history)
	return k.platform(f, history, k.meters(f, history, operations))
}

// kept holds the history to what callers were told.
func (k *killRun) kept(history []record) {
	k.t.Helper()
	have := map[string]bool{}
	for _, r := range history {
		switch r.kind {
		case "payment":
			// A business is written down by its name, and not by where it is called.
			have["payment "+strings.Replace(strings.TrimPrefix(r.endpoint, k.shop), "gateway/business/", meterPath, 1)] = true
		case "deposit":
			have["deposit "+r.session] = r.status == "success"
		case "drain":
			have["drain "+r.agent] = true
		}
	}
	for _, row := range k.column(`SELECT 'closed ' || id FROM sessions WHERE status = 'closed'
		UNION SELECT 'deactivated ' || id FROM agents WHERE NOT active UNION SELECT 'consent ' || id FROM agents WHERE auto_topup_consent_unix > 0`) {
		have[row] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, what := range k.answered {
		if !have[what] {
			k.t.Errorf("a caller was told of %q, and it is not so", what)
		}
	}
	for _, nonce := range k.logins {
		if n, err := k.loginsKept(nonce); err != nil || n != 1 {
			k.t.Errorf("%d traces tell of the login %q: %v", n, nonce, err)
		}
	}
}

// payments holds each payment to the chain: charged exactly what its one movement shows, or nothing and no movement.
func (k *killRun) payments(f facts, history []record, ours map[string]string) (charged money.USDC) {
	calls := map[string]string{}
	for _, r := range history {
		if r.kind != "payment" {
			continue
		}
		m, moved := f.byNonce[authKey(r.from, r.nonce)]
		ours[authKey(r.from, r.nonce)] = r.id
		switch {
		case r.protocol == "metered" && r.session != "": // no movement of its own
		case moved != (r.amount > 0) || moved && (m.Amount != r.amount || m.To.Hex() != r.to || !strings.EqualFold(m.TxHash.Hex(), r.hash)):
			k.t.Errorf("payment %s is %s with %s in %q, the chain shows %v", r.id, r.status, r.amount, r.hash, m)
		case r.status == "failed" && r.amount != 0:
			k.t.Errorf("payment %s failed and cost %s", r.id, r.amount)
		}
		if other, twice := calls[r.endpoint]; twice {
			k.t.Errorf("one call, two payments: %s %s and %s", r.endpoint, other, r.id)
		}
		calls[r.endpoint] = r.id
		if r.protocol != "metered" {
			charged = charged.Add(r.amount)
		}
	}
	return charged
}

// operations holds each of our own movements to the chain: one log when it is final, none when it is not.
func (k *killRun) operations(f facts, operations []record, ours map[string]string) {
	grants, allowed := map[string]int64{}, map[string]money.USDC{}
	for _, o := range operations {
		switch o.kind {
		case "gas":
			grants[o.to]++
			continue
		case "top_up", "permit": // see pulls
			continue
		case "allowance":
			if o.status != "final" {
				k.t.Errorf("allowance %s of %s by %s is %s", o.id, o.amount, o.from, o.status)
			}
			allowed[o.from] = max(allowed[o.from], o.amount)
			continue
		}
		m, moved := f.byNonce[authKey(o.from, o.nonce)]
		ours[authKey(o.from, o.nonce)] = o.id
		if moved != (o.status == "final") || moved && (m.Amount != o.amount || m.To.Hex() != o.to) {
			k.t.Errorf("operation %s (%s of %s) is %s, the chain shows %v", o.id, o.kind, o.amount, o.status, m)
		}
	}
	for from, most := range allowed {
		if may := k.allows(from); may > most {
			k.t.Errorf("Permit2 may take %s from %s, and was allowed %s", may, from, most)
		}
	}
	for to, n := range grants {
		wei, err := k.chain.EtherOf(k.t.Context(), common.HexToAddress(to))
		k.no(err)
		if n != 1 || wei.String() != gasGrant {
			k.t.Errorf("wallet %s has %d gas grants and %s wei", to, n, wei)
		}
	}
}

// allows is what Permit2 may take from a wallet.
func (k *killRun) allows(from string) money.USDC {
	k.t.Helper()
	v, err := k.chain.Allowance(k.t.Context(), common.HexToAddress(from), evm.Permit2)
	k.no(err)
	return v
}

const gasGrant = "30000000000000" // the setting's default, in wei

func (k *killRun) held(a common.Address, block uint64) money.USDC {
	k.t.Helper()
	v, err := k.chain.BalanceOf(k.t.Context(), a, block)
	k.no(err)
	return v
}

// balances adds up each wallet's history, which must be what the token says.
func (k *killRun) balances(f facts, history []record) {
	sums := map[string]money.USDC{}
	for _, r := range history {
		switch r.kind {
		case "fund", "refund", "auto_topup":
			sums[r.agent] = sums[r.agent].Add(r.amount)
		case "deposit", "drain":
			sums[r.agent] = sums[r.agent].Sub(r.amount)
		case "payment":
			if r.session == "" {
				sums[r.agent] = sums[r.agent].Sub(r.amount)
			}
		}
	}
	wallets := k.column(`SELECT CAST(id AS TEXT) || ' ' || address FROM agents`)
	for _, line := range wallets {
		id, a, _ := strings.Cut(line, " ")
		if has := k.held(common.HexToAddress(a), f.block); has != sums[id] {
			k.t.Errorf("wallet %s holds %s, its history says %s", id, has, sums[id])
		}
	}
	k.leavings(f, platformAddress(history), wallets)
}

// platformAddress is where deposits go.
func platformAddress(history []record) common.Address {
	for _, r := range history {
		if r.kind == "deposit" {
			return common.HexToAddress(r.to)
		}
	}
	return common.Address{}
}

// platform adds up each session's history, and returns what all together hold, which must be what the token says beside what
// metered calls have left there.
func (k *killRun) platform(f facts, history []record, beside money.USDC) (left money.USDC) {
	sums := map[string]money.USDC{}
	for _, r := range history {
		switch {
		case r.session == "":
		case r.kind == "deposit":
			sums[r.session] = sums[r.session].Add(r.amount)
		default: // a refund, or a call
			sums[r.session] = sums[r.session].Sub(r.amount)
		}
	}
	for _, line := range k.column(`SELECT CAST(id AS TEXT) || ' ' || status FROM sessions`) {
		id, status, _ := strings.Cut(line, " ")
		ended := status == "closed" || status == "failed"
		if sums[id] < 0 || ended && sums[id] != 0 {
			k.t.Errorf("session %s is %s with %s left", id, status, sums[id])
		}
		left = left.Add(sums[id])
	}
	if has := k.held(platformAddress(history), f.block); has != left.Add(beside) {
		k.t.Errorf("the platform's address holds %s, the sessions' history says %s, metered calls %s", has, left, beside)
	}
	return left
}
