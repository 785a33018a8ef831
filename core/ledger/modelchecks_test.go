package ledger_test

import (
	"database/sql"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/money"
)

// must ends the test on an error that is none of the test's own making.
func (r *modelRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.fail("%v", err)
	}
}

func (r *modelRun) exec(query string, args ...any) {
	r.t.Helper()
	_, err := r.w.look.db.ExecContext(r.t.Context(), query, args...)
	r.must(err)
}

// insert writes what the ledger only reads, and the accounts, as core opens them.
func (r *modelRun) insert() {
	r.t.Helper()
	begin := r.clock()
	for _, id := range r.accounts {
		r.exec(`INSERT INTO accounts (id, created_at, kind, chain_id, owner_id, org_id, agent_id, holds_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			id.String(), begin, r.m.accounts[id].kind, modelChain, r.id().String(), r.org.String(), r.agent.String(), ledger.Always)
	}
	r.exec(`INSERT INTO orgs (id, created_at, name, owner_id) VALUES ($1, $2, 'model', $1)`, r.org.String(), begin)
	r.exec(`INSERT INTO agents (id, created_at, org_id, owner_id, name, slug, address, sealed_key) VALUES ($1, $2, $3, $3, 'model', 'model', $4, '')`,
		r.agent.String(), begin, r.org.String(), r.name)
	r.exec(`INSERT INTO spending_policies (id, created_at, allowed_services, blocked_services, agent_id) VALUES ($1, $2, '[]', '[]', $1)`, r.agent.String(), begin)
	r.exec(`INSERT INTO api_keys (id, created_at, org_id, user_id, kind, name, hash, prefix, last4) VALUES ($1, $2, $3, $3, 'secret', 'model', $4, '', '')`,
		r.key.String(), begin, r.org.String(), r.key[:])
}

// faulty asks one unit while connections break. The batch tries a unit alone three times more; what was committed
// without an answer is recognised, unless nothing names its cause.
func (r *modelRun) faulty(i int) {
	o := r.wish(false)
	plan := make([]fault, 1)
	if r.one(4) {
		plan = make([]fault, 2+r.IntN(ledgerTries))
	}
	for k := range plan {
		plan[k] = fault(1 + r.IntN(int(afterCommit)))
	}
	killed := r.one(4)
	r.note("process %d, connections break %v, then gone %t: %s", i, plan, killed, o)
	r.w.processes[i].meets(killed, plan...)
	got := r.do(i, o)
	want, tries := verdict{broken: true}, 0
	for ; tries < min(ledgerTries, len(plan)); tries++ {
		if plan[tries] == afterCommit {
			r.m.ask(o)
		}
	}
	if tries < ledgerTries && !killed {
		want = r.m.ask(o)
	}
	r.same(o, got, want)
	r.restart(i)
}

// ledgerTries is how often the batch begins a transaction for a unit that comes alone.
const ledgerTries = 4

// group applies units in one transaction, as core's own transactions do, and sometimes thinks better of it.
func (r *modelRun) group(i int) {
	all := make([]wish, 2+r.IntN(3))
	units := make([]ledger.Unit, len(all))
	giveUp := r.one(4)
	for k := range all {
		all[k] = r.wish(false)
		units[k] = all[k].unit(r.m.limits)
		r.note("process %d, one transaction, given up %t: %s", i, giveUp, all[k])
	}
	tx, err := r.w.processes[i].begin(r.t.Context())
	r.must(err)
	results, err := ledger.Apply(r.t.Context(), tx, r.clock(), units)
	m := r.m.clone()
	verdicts, broken := m.together(all)
	if err != nil || giveUp {
		r.must(tx.SQL.Rollback())
	} else {
		r.must(tx.SQL.Commit())
	}
	if broken != (err != nil) {
		r.fail("the database says %v, the model %t %+v", err, broken, verdicts)
	}
	if broken {
		return
	}
	for k, o := range all {
		if why := r.differs(wish{}, told{result: ledger.Result{Err: results[k].Err, Repeated: results[k].Repeated}}, verdicts[k], m); why != "" {
			r.fail("%s\n%s", o, why)
		}
	}
	if !giveUp {
		*r.m = *m
	}
}

// change is everything that the ledger is told of by others: time, policies, credentials, limits.
func (r *modelRun) change() {
	rules := r.m.rules[r.agent]
	switch r.IntN(6) {
	case 0:
		r.m.now += int64(r.IntN(200))
		r.note("time is %d", r.m.now)
	case 1:
		rules.PolicyVersion++
		r.exec(`UPDATE spending_policies SET version = version + 1 WHERE agent_id = $1`, r.agent.String())
	case 2:
		rules.OrgVersion++
		r.exec(`UPDATE orgs SET version = version + 1 WHERE id = $1`, r.org.String())
	case 3:
		rules.Active = !rules.Active
		r.exec(`UPDATE agents SET active = NOT active WHERE id = $1`, r.agent.String())
	case 4:
		if r.m.revoked[r.key] = !r.m.revoked[r.key]; r.m.revoked[r.key] {
			r.exec(`UPDATE api_keys SET revoked_at = created_at WHERE id = $1`, r.key.String())
		} else {
			r.exec(`UPDATE api_keys SET revoked_at = NULL WHERE id = $1`, r.key.String())
		}
	default:
		r.m.limits[r.counters[r.IntN(len(r.counters))]] = money.USDC(r.IntN(1500))
	}
	r.m.rules[r.agent] = rules
	r.note("rules are %+v, revoked %t, limits %v", rules, r.m.revoked[r.key], r.m.limits)
}

// columns demands that every account and counter are the model's.
func (r *modelRun) columns() {
	r.t.Helper()
	if why := r.rowsDiffer(r.m); why != "" {
		r.fail("%s", why)
	}
}

func (r *modelRun) rowsDiffer(m *model) (why string) {
	ids := make([]string, len(r.accounts))
	for i, id := range r.accounts {
		ids[i] = id.String()
	}
	r.each(`SELECT id, debits_pending, debits_posted, credits_posted, holds_until, version FROM accounts WHERE id `, "uuid", ids, func(rows *sql.Rows) {
		var id uuid.UUID
		var a modelAccount
		r.must(rows.Scan(&id, &a.pending, &a.debits, &a.credits, &a.until, &a.version))
		if a.kind = m.accounts[id].kind; a != m.accounts[id] {
			why = fmt.Sprintf("account %s is %+v, in the model %+v", short(id), a, m.accounts[id])
		}
	})
	found := 0
	r.each(`SELECT id, spent, calls FROM usages WHERE id `, "text", r.counters, func(rows *sql.Rows) {
		var id string
		var c modelCounter
		r.must(rows.Scan(&id, &c.spent, &c.calls))
		if found++; c != m.counters[id] {
			why = fmt.Sprintf("counter %s is %+v, in the model %+v", id, c, m.counters[id])
		}
	})
	if found < len(m.counters) {
		why = fmt.Sprintf("%d counters of %d", found, len(m.counters))
	}
	return why
}

func (r *modelRun) each(query, kind string, values []string, f func(*sql.Rows)) {
	r.t.Helper()
	where, arg := r.w.look.list(kind, values)
	s := r.w.prepared[query]
	if s == nil {
		var err error
		s, err = r.w.look.db.PrepareContext(r.t.Context(), query+where)
		r.must(err)
		r.w.prepared[query] = s
	}
	rows, err := s.QueryContext(r.t.Context(), arg)
	r.must(err)
	defer rows.Close()
	for rows.Next() {
		f(rows)
	}
	r.must(rows.Err())
}

// sums proves the books against themselves: columns are sums of transfers, debits are credits, nothing is below its floor.
func (r *modelRun) sums() {
	r.t.Helper()
	tx, err := r.w.look.begin(r.t.Context())
	r.must(err)
	defer func() { _ = tx.SQL.Rollback() }()
	sums, err := ledger.Sums(r.t.Context(), tx.SQL, modelChain, r.org)
	r.must(err)
	var debits, credits money.USDC
	for _, s := range sums {
		if s.State.DebitsPending != s.Pending || s.State.DebitsPosted != s.Debits || s.State.CreditsPosted != s.Credits {
			r.fail("account %+v, its transfers %s/%s/%s", s.State, s.Pending, s.Debits, s.Credits)
		}
		if floor, bounded := ledger.Floor(s.State); bounded && floor < 0 {
			r.fail("account %+v is below zero", s.State)
		}
		debits, credits = debits.Add(s.State.DebitsPosted), credits.Add(s.State.CreditsPosted)
	}
	if debits != credits || len(sums) != len(r.accounts) {
		r.fail("debits %s, credits %s on %d accounts", debits, credits, len(sums))
	}
}

// rest compares what is looked at once a history: every transfer, and the rows that went with them.
func (r *modelRun) rest() {
	r.t.Helper()
	r.sums()
	ids := make([]string, len(r.accounts))
	for i, id := range r.accounts {
		ids[i] = id.String()
	}
	found := 0
	r.each(`SELECT id, key, debit_id, credit_id, status, amount, posted, COALESCE(counters, ''), COALESCE(log_key, ''), COALESCE(block, 0), ended_at IS NOT NULL
		FROM transfers WHERE debit_id `, "uuid", ids, func(rows *sql.Rows) {
		var id uuid.UUID
		var t modelTransfer
		var ended bool
		r.must(rows.Scan(&id, &t.key, &t.debit, &t.credit, &t.status, &t.amount, &t.posted, &t.counters, &t.log, &t.block, &ended))
		if found++; t != r.m.transfers[id] || ended != (t.status != "pending") {
			r.fail("transfer %s is %+v, ended %t; in the model %+v", id, t, ended, r.m.transfers[id])
		}
	})
	if found != len(r.m.transfers) {
		r.fail("%d transfers, in the model %d", found, len(r.m.transfers))
	}
	var rows []string
	for id := range r.m.rows {
		rows = append(rows, id)
	}
	found = 0
	r.each(`SELECT id FROM model_rows WHERE id `, "text", slices.Clone(rows), func(*sql.Rows) { found++ })
	var all int
	r.must(r.w.look.db.QueryRowContext(r.t.Context(), `SELECT COUNT(*) FROM model_rows WHERE id LIKE $1`, "row:"+r.name+":%").Scan(&all))
	if found != len(rows) || all != len(rows) {
		r.fail("%d of %d rows, in the model %d", found, all, len(rows))
	}
}

// race lets two or three callers ask at the same time, of two processes: their answers and the rows are those of some
// order.
func (r *modelRun) race() {
	all := make([]wish, 2+r.IntN(2))
	contested, hold := r.one(3), r.old()
	for i := range all {
		if all[i] = r.wish(true); contested {
			m := r.end()
			m.HoldID = hold
			all[i].moves = []ledger.Move{m}
		}
		r.note("at once: %s", all[i])
	}
	answers := make([]told, len(all))
	var wg sync.WaitGroup
	for i, o := range all {
		wg.Go(func() { answers[i] = r.do(i%2, o) })
	}
	wg.Wait()
	var reasons []string
	for _, order := range orders(len(all)) {
		m, why := r.m.clone(), ""
		for _, i := range order {
			want := m.ask(all[i])
			if why == "" {
				why = r.differs(all[i], answers[i], want, m)
			}
		}
		if why == "" {
			why = r.rowsDiffer(m)
		}
		if why == "" {
			*r.m = *m
			return
		}
		reasons = append(reasons, fmt.Sprintf("%v: %s", order, why))
	}
	r.fail("no order explains it: %s", reasons)
}

func orders(n int) [][]int {
	if n == 1 {
		return [][]int{{0}}
	}
	var out [][]int
	for _, o := range orders(n - 1) {
		for at := range n {
			out = append(out, slices.Insert(slices.Clone(o), at, n-1))
		}
	}
	return out
}
