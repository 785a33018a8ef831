package ledger_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/money"
)

// The model: what the ledger promises, on maps and one thing after the other. It shares no code with the ledger.

type modelAccount struct {
	kind                     string
	pending, debits, credits money.USDC
	until, version           int64
}

func (a modelAccount) free() money.USDC { return a.credits - a.debits - a.pending }

// sound repeats the floors of the chart.
func (a modelAccount) sound() bool {
	switch a.kind {
	case ledger.Session, ledger.Treasury:
		return a.free() >= 0
	case ledger.Wallet, ledger.Clearing:
		return a.credits >= a.debits
	}
	return true
}

type modelCounter struct {
	spent money.USDC
	calls int64
}

type modelTransfer struct {
	key, log, status string
	debit, credit    uuid.UUID
	amount, posted   money.USDC
	counters         string
	block            uint64
}

type model struct {
	now       int64
	accounts  map[uuid.UUID]modelAccount
	counters  map[string]modelCounter
	transfers map[uuid.UUID]modelTransfer
	rows      map[string]bool
	limits    map[string]money.USDC // of counters
	rules     map[uuid.UUID]ledger.Rules
	revoked   map[uuid.UUID]bool
}

func (m *model) clone() *model {
	c := *m
	c.accounts, c.counters, c.transfers = maps.Clone(m.accounts), maps.Clone(m.counters), maps.Clone(m.transfers)
	c.rows = maps.Clone(m.rows)
	return &c
}

// wish is a unit that a caller asks for, as the model reads it.
type wish struct {
	guard   ledger.Guard
	moves   []ledger.Move
	checked bool   // by the counters' limits
	row     string // id of a row that goes with it; "" none
	bad     bool   // with a row that the database refuses
}

func (o wish) String() string {
	var b strings.Builder
	for _, m := range o.moves {
		fmt.Fprintf(&b, "[%s %s", []string{"", "hold", "post", "void", "transfer", "limit"}[m.Verb], m.Amount)
		if m.Owed {
			b.WriteString(" owed")
		}
		if m.Again {
			b.WriteString(" again")
		}
		if m.Key != "" {
			fmt.Fprintf(&b, " key %s, %s → %s", m.Key, short(m.Debit), short(m.Credit))
		}
		if m.HoldID != uuid.Nil {
			fmt.Fprintf(&b, " of %s", short(m.HoldID))
		}
		if m.LogKey != "" {
			b.WriteString(" " + m.LogKey)
		}
		fmt.Fprintf(&b, " %d counters]", len(m.Counters))
	}
	fmt.Fprintf(&b, " row %q bad %t", o.row, o.bad)
	return b.String()
}

func short(id uuid.UUID) string { return id.String()[:8] }

// verdict is what a caller must be told: accepted, repeated, refused for a reason, or an error of the database.
type verdict struct {
	err      error
	repeated bool
	broken   bool
}

// ask judges one unit that has a transaction of its own, and books it if it is accepted.
func (m *model) ask(o wish) verdict {
	next := m.clone()
	v := next.judge(o)
	if v.err == nil && !v.repeated && (v.broken || !next.sound()) {
		return verdict{broken: true}
	}
	*m = *next
	return v
}

// together judges units that share a transaction: the database sees their end only.
func (m *model) together(all []wish) (verdicts []verdict, broken bool) {
	next := m.clone()
	for _, o := range all {
		v := next.judge(o)
		verdicts, broken = append(verdicts, v), broken || v.broken
	}
	if broken = broken || !next.sound(); !broken {
		*m = *next
	}
	return verdicts, broken
}

func (m *model) judge(o wish) verdict {
	for _, v := range o.moves {
		if m.done(v) {
			return verdict{repeated: true}
		}
	}
	if g := o.guard; (g.Agent != uuid.Nil && m.rules[g.Agent] != g.Rules) || (g.Credential != uuid.Nil && m.revoked[g.Credential]) {
		return verdict{err: ledger.ErrChanged}
	}
	next, touched := m.clone(), map[uuid.UUID]bool{}
	for _, v := range o.moves {
		if err := next.move(v, o.checked, touched); err != nil {
			return verdict{err: err}
		}
	}
	for id := range touched {
		a := next.accounts[id]
		a.version++
		next.accounts[id] = a
	}
	broken := o.bad || (o.row != "" && next.rows[o.row])
	if o.row != "" {
		next.rows[o.row] = true
	}
	*m = *next
	return verdict{broken: broken}
}

// sound is what the database itself demands of the rows.
func (m *model) sound() bool {
	for _, a := range m.accounts {
		if !a.sound() || a.pending < 0 {
			return false
		}
	}
	for _, c := range m.counters {
		if c.spent < 0 || c.calls < 0 {
			return false
		}
	}
	keys, logs := map[string]bool{}, map[string]bool{}
	for _, t := range m.transfers {
		if keys[t.key] || (t.log != "" && logs[t.log]) || t.debit == t.credit {
			return false
		}
		keys[t.key], logs[t.log] = true, true
	}
	return true
}

// done: the cause has been committed before.
func (m *model) done(v ledger.Move) bool {
	h, known := m.transfers[v.HoldID]
	if known && v.Verb == ledger.Post && h.status == "posted" && h.posted == v.Amount {
		return true
	}
	if known && v.Verb == ledger.Void && h.status == "voided" {
		return true
	}
	for _, t := range m.transfers {
		if (v.LogKey != "" && t.log == v.LogKey) || (v.Key != "" && t.key == v.Key) {
			return true
		}
	}
	return false
}

func (m *model) move(v ledger.Move, checked bool, touched map[uuid.UUID]bool) error {
	switch v.Verb {
	case ledger.Limit:
		return m.change(v.Debit, touched, func(a *modelAccount) { a.until = v.HoldsUntil })
	case ledger.Hold:
		return m.hold(v, checked, touched)
	case ledger.Transfer:
		if v.Amount <= 0 || v.Debit == v.Credit {
			return ledger.ErrAmount
		}
		if err := m.shift(v.Debit, v.Credit, v.Amount, touched); err != nil {
			return err
		}
		m.count(v.Counters, -v.Amount, 0)
		m.transfers[v.ID] = modelTransfer{v.Key, v.LogKey, "posted", v.Debit, v.Credit, v.Amount, v.Amount, "", v.Block}
		return nil
	case ledger.Post, ledger.Void:
		return m.end(v, touched)
	}
	return ledger.ErrUnknown
}

func (m *model) hold(v ledger.Move, checked bool, touched map[uuid.UUID]bool) error {
	a, known := m.accounts[v.Debit]
	if _, other := m.accounts[v.Credit]; !known || !other {
		return ledger.ErrUnknown
	}
	switch {
	case v.Amount <= 0:
		return ledger.ErrAmount
	case !v.Owed && m.now > a.until:
		return ledger.ErrNoHolds
	case !v.Owed && a.free() < v.Amount:
		return ledger.ErrInsufficient
	}
	for _, id := range slices.Concat(v.Counters, v.Read) {
		if limit, set := m.limits[id]; checked && set && m.counters[id].spent+v.Amount > limit {
			return errLimit
		}
	}
	calls := int64(1)
	if v.Again {
		calls = 0
	}
	m.count(v.Counters, v.Amount, calls)
	m.transfers[v.ID] = modelTransfer{v.Key, "", "pending", v.Debit, v.Credit, v.Amount, 0, strings.Join(v.Counters, " "), 0}
	return m.change(v.Debit, touched, func(a *modelAccount) { a.pending += v.Amount })
}

func (m *model) end(v ledger.Move, touched map[uuid.UUID]bool) error {
	t, known := m.transfers[v.HoldID]
	switch {
	case !known:
		return ledger.ErrUnknown
	case t.status != "pending":
		return ledger.ErrEnded
	case v.Verb == ledger.Post && (v.Amount <= 0 || v.Amount > t.amount):
		return ledger.ErrAmount
	}
	if err := m.change(t.debit, touched, func(a *modelAccount) { a.pending -= t.amount }); err != nil {
		return err
	}
	t.status = "voided"
	counters, calls := strings.Fields(t.counters), int64(-1)
	if v.Verb == ledger.Post {
		if err := m.shift(t.debit, t.credit, v.Amount, touched); err != nil {
			return err
		}
		t.status, t.posted, t.log, t.block, calls = "posted", v.Amount, v.LogKey, v.Block, 0
	}
	m.count(counters, t.posted-t.amount, calls)
	m.transfers[v.HoldID] = t
	return nil
}

func (m *model) shift(from, to uuid.UUID, amount money.USDC, touched map[uuid.UUID]bool) error {
	if _, known := m.accounts[to]; !known {
		return ledger.ErrUnknown
	}
	if err := m.change(from, touched, func(a *modelAccount) { a.debits += amount }); err != nil {
		return err
	}
	if !m.accounts[from].sound() {
		return ledger.ErrInsufficient
	}
	return m.change(to, touched, func(a *modelAccount) { a.credits += amount })
}

func (m *model) change(id uuid.UUID, touched map[uuid.UUID]bool, f func(*modelAccount)) error {
	a, known := m.accounts[id]
	if !known {
		return ledger.ErrUnknown
	}
	f(&a)
	m.accounts[id], touched[id] = a, true
	return nil
}

func (m *model) count(ids []string, amount money.USDC, calls int64) {
	for _, id := range ids {
		c := m.counters[id]
		c.spent, c.calls = c.spent+amount, c.calls+calls
		m.counters[id] = c
	}
}
