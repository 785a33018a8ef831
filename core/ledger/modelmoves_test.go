package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/money"
)

// drawn makes wishes: most of them such as core makes, some that no sane caller would.
type drawn struct {
	*rand.Rand
	m        *model
	name     string // of the history, in its keys
	accounts []uuid.UUID
	counters []string
	agent    uuid.UUID
	key      uuid.UUID // a credential
	made     []uuid.UUID
	past     []wish
	n        int
}

func (d *drawn) one(in int) bool { return d.IntN(in) == 0 }

// id is drawn too, so that a seed repeats its history.
func (d *drawn) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(d.Uint32())
	}
	return id
}

func (d *drawn) account() uuid.UUID {
	if d.one(60) {
		return d.id() // there is none such
	}
	return d.accounts[d.IntN(len(d.accounts))]
}

func (d *drawn) amount() money.USDC {
	if d.one(25) {
		return 0
	}
	return money.USDC(1 + d.IntN(90))
}

func (d *drawn) fresh(kind string) string {
	d.n++
	return fmt.Sprintf("%s:%s:%d", kind, d.name, d.n)
}

// log names a log of the chain: mostly a new one.
func (d *drawn) log() (string, uint64) {
	switch d.IntN(8) {
	case 0, 1, 2:
		return d.fresh("log"), uint64(1 + d.IntN(1000))
	case 3:
		return fmt.Sprintf("log:%s:%d", d.name, 1+d.IntN(d.n+1)), 7
	}
	return "", 0
}

func (d *drawn) some() []string {
	var out []string
	for _, c := range d.counters {
		if d.one(2) {
			out = append(out, c)
		}
	}
	return out
}

func (d *drawn) hold() ledger.Move {
	return ledger.Move{
		Verb: ledger.Hold, ID: d.id(), Key: d.fresh("cause"), Debit: d.account(), Credit: d.account(), Amount: d.amount(), Code: "model",
		Counters: d.some(), Read: d.some(), Owed: d.one(12), Again: d.one(24),
	}
}

// old picks an earlier transfer, mostly one of the last.
func (d *drawn) old() uuid.UUID {
	if len(d.made) == 0 || d.one(80) {
		return d.id()
	}
	if last := 12; d.one(4) || len(d.made) <= last {
		return d.made[d.IntN(len(d.made))]
	} else {
		return d.made[len(d.made)-1-d.IntN(last)]
	}
}

func (d *drawn) end() ledger.Move {
	m := ledger.Move{Verb: ledger.Void, HoldID: d.old()}
	if d.one(3) {
		return m
	}
	m.Verb, m.Amount = ledger.Post, d.amount()
	if t, known := d.m.transfers[m.HoldID]; known && !d.one(3) {
		m.Amount = t.amount - money.USDC(d.IntN(2))*money.USDC(d.IntN(int(t.amount)))
	}
	m.LogKey, m.Block = d.log()
	return m
}

func (d *drawn) transfer() ledger.Move {
	m := ledger.Move{Verb: ledger.Transfer, ID: d.id(), Key: d.fresh("cause"), Debit: d.account(), Credit: d.account(), Amount: d.amount(), Code: "model"}
	m.LogKey, m.Block = d.log()
	if t := d.m.transfers[d.old()]; d.one(4) && t.status == "posted" { // what was charged comes back
		m.Debit, m.Credit, m.Amount, m.Counters = t.credit, t.debit, t.posted, strings.Fields(t.counters)
	}
	return m
}

func (d *drawn) move() ledger.Move {
	switch n := d.IntN(20); {
	case n < 8:
		return d.hold()
	case n < 15:
		return d.end()
	case n < 19:
		return d.transfer()
	}
	until := []int64{0, d.m.now + int64(d.IntN(100)), ledger.Always}
	return ledger.Move{Verb: ledger.Limit, Debit: d.account(), HoldsUntil: until[d.IntN(len(until))]}
}

// wish draws a unit. plain: one whose fate does not hang on who shares its transaction.
func (d *drawn) wish(plain bool) wish {
	if len(d.past) > 0 && d.one(10) {
		return d.past[d.IntN(len(d.past))] // the same once more
	}
	o := wish{checked: !d.one(4)}
	for range []int{1, 1, 1, 1, 2, 3}[d.IntN(6)] {
		m := d.move()
		if plain {
			m.Owed, m.Again = false, false
			if m.Verb == ledger.Transfer {
				m.Counters = nil
			}
		}
		if m.ID != uuid.Nil {
			d.made = append(d.made, m.ID)
		}
		o.moves = append(o.moves, m)
	}
	if d.one(3) {
		o.row = d.fresh("row")
		o.bad = d.one(8)
	}
	if d.one(2) {
		o.guard = ledger.Guard{Agent: d.agent, Rules: d.m.rules[d.agent], Credential: d.key}
		if d.one(10) {
			o.guard.Rules.PolicyVersion--
		}
	}
	d.past = append(d.past, o)
	return o
}

// unit is the wish as the ledger takes it.
func (o wish) unit(limits map[string]money.USDC) ledger.Unit {
	u := ledger.Unit{Guard: o.guard}
	for _, m := range o.moves {
		if o.checked && m.Verb == ledger.Hold {
			m.Check = func(spent map[string]money.USDC) error {
				for id, s := range spent {
					if limit, set := limits[id]; set && s+m.Amount > limit {
						return errLimit
					}
				}
				return nil
			}
		}
		u.Moves = append(u.Moves, m)
	}
	if o.row != "" {
		u.Rows = func(ledger.Result) []ledger.Row {
			if o.bad {
				return []ledger.Row{{Into: addModelRow, Values: []any{o.row}}, {Into: badRow, Values: []any{o.row}}}
			}
			return []ledger.Row{{Into: addModelRow, Values: []any{o.row}}}
		}
	}
	return u
}

var (
	addModelRow = &ledger.Statement{
		Name: "add model row", Columns: []string{"text"},
		Postgres: `INSERT INTO model_rows (id) SELECT c1 FROM v`, SQLite: `INSERT INTO model_rows (id) VALUES (?1)`,
	}
	badRow = &ledger.Statement{ // hits nothing
		Name: "change a row that is not there", Columns: []string{"text"},
		Postgres: `UPDATE model_rows r SET id = 'x' FROM v WHERE r.id = v.c1 || 'not there'`, SQLite: `UPDATE model_rows SET id = 'x' WHERE id = ?1 || 'not there'`,
	}
)
