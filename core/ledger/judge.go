package ledger

import (
	"time"

	"github.com/google/uuid"

	"bursar/money"
)

// counter is one usage row.
type counter struct {
	spent money.USDC
	calls int64
}

// books are the locked rows that a batch of units touches. judge changes them in memory only.
type books struct {
	accounts  map[uuid.UUID]*State
	counters  map[string]*counter
	transfers map[uuid.UUID]*Entry
	byKey     map[string]uuid.UUID
	byLog     map[string]uuid.UUID
	guards    guards

	changedAccounts  map[uuid.UUID]bool
	changedCounters  map[string]bool
	newTransfers     []uuid.UUID
	added            map[uuid.UUID]bool // the same: they are written once, as they stand after the last unit
	changedTransfers map[uuid.UUID]bool
}

func newBooks() *books {
	return &books{
		accounts: map[uuid.UUID]*State{}, counters: map[string]*counter{}, transfers: map[uuid.UUID]*Entry{},
		byKey: map[string]uuid.UUID{}, byLog: map[string]uuid.UUID{},
		guards:          guards{rules: map[uuid.UUID]Rules{}, credentials: map[uuid.UUID]credential{}},
		changedAccounts: map[uuid.UUID]bool{}, changedCounters: map[string]bool{}, added: map[uuid.UUID]bool{}, changedTransfers: map[uuid.UUID]bool{},
	}
}

func (b *books) add(e *Entry) {
	b.transfers[e.ID] = e
	b.byKey[e.Key] = e.ID
	if e.LogKey != "" {
		b.byLog[e.LogKey] = e.ID
	}
}

// judge applies one unit to the books, or leaves them as they were. It does no I/O.
func (b *books) judge(now time.Time, u Unit) Result {
	if r, ok := b.repeated(u); ok {
		return r
	}
	if !b.guards.hold(now, u.Guard) {
		return Result{Err: ErrChanged}
	}
	j := &judgement{books: b, now: now, accounts: map[uuid.UUID]State{}, counters: map[string]counter{}, entries: map[uuid.UUID]Entry{}}
	r := Result{Accounts: map[uuid.UUID]State{}}
	for _, m := range u.Moves {
		e, err := j.move(m)
		if err != nil {
			return Result{Err: err}
		}
		r.Transfers = append(r.Transfers, e)
	}
	for i, e := range r.Transfers { // a later move may have ended what an earlier one made
		if last, ok := j.entries[e.ID]; ok {
			r.Transfers[i] = last
		}
	}
	j.commit()
	for id := range j.accounts {
		r.Accounts[id] = *b.accounts[id]
	}
	return r
}

// repeated recognises a unit whose cause has been committed: any key or log of its own that exists, or an end
// of a hold that has ended in the same way.
func (b *books) repeated(u Unit) (Result, bool) {
	r := Result{Repeated: true, Accounts: map[uuid.UUID]State{}}
	found := false
	for _, m := range u.Moves {
		e := b.existing(m)
		if e == nil {
			r.Transfers = append(r.Transfers, Entry{})
			continue
		}
		found = true
		r.Transfers = append(r.Transfers, *e)
		for _, id := range []uuid.UUID{e.Debit, e.Credit} {
			if a, ok := b.accounts[id]; ok {
				r.Accounts[id] = *a
			}
		}
	}
	return r, found
}

func (b *books) existing(m Move) *Entry {
	if m.LogKey != "" {
		if id, ok := b.byLog[m.LogKey]; ok {
			return b.transfers[id]
		}
	}
	switch m.Verb {
	case Hold, Transfer:
		if id, ok := b.byKey[m.Key]; ok {
			return b.transfers[id]
		}
	case Post:
		if e := b.transfers[m.HoldID]; e != nil && e.Status == posted && e.Posted == m.Amount {
			return e
		}
	case Void:
		if e := b.transfers[m.HoldID]; e != nil && e.Status == voided {
			return e
		}
	case Limit:
	}
	return nil
}

const (
	pending = "pending"
	posted  = "posted"
	voided  = "voided"
)

// judgement holds the changes of one unit until all of its moves are accepted.
type judgement struct {
	books    *books
	now      time.Time
	accounts map[uuid.UUID]State
	counters map[string]counter
	entries  map[uuid.UUID]Entry
	fresh    []uuid.UUID
}

func (j *judgement) commit() {
	for id, s := range j.accounts {
		s.Version++
		*j.books.accounts[id] = s
		j.books.changedAccounts[id] = true
	}
	for id, c := range j.counters {
		*j.books.counters[id] = c
		j.books.changedCounters[id] = true
	}
	for id, e := range j.entries {
		if _, old := j.books.transfers[id]; old && !j.books.added[id] {
			j.books.changedTransfers[id] = true
		}
		j.books.add(&e)
	}
	for _, id := range j.fresh {
		j.books.newTransfers, j.books.added[id] = append(j.books.newTransfers, id), true
	}
}

func (j *judgement) account(id uuid.UUID) (State, error) {
	if s, ok := j.accounts[id]; ok {
		return s, nil
	}
	if s, ok := j.books.accounts[id]; ok {
		return *s, nil
	}
	return State{}, ErrUnknown
}

func (j *judgement) entry(id uuid.UUID) (Entry, error) {
	if e, ok := j.entries[id]; ok {
		return e, nil
	}
	if e, ok := j.books.transfers[id]; ok {
		return *e, nil
	}
	return Entry{}, ErrUnknown
}

func (j *judgement) move(m Move) (Entry, error) {
	switch m.Verb {
	case Hold:
		return j.hold(m)
	case Post:
		return j.post(m)
	case Void:
		return j.void(m)
	case Transfer:
		return j.transfer(m)
	case Limit:
		a, err := j.account(m.Debit)
		if err != nil {
			return Entry{}, err
		}
		a.HoldsUntil = m.HoldsUntil
		j.accounts[a.ID] = a
		return Entry{}, nil
	}
	panic("ledger: move without a verb")
}

func (j *judgement) hold(m Move) (Entry, error) {
	a, err := j.account(m.Debit)
	if err != nil {
		return Entry{}, err
	}
	if _, err := j.account(m.Credit); err != nil {
		return Entry{}, err
	}
	switch {
	case m.Amount <= 0 || m.Amount > money.Max:
		return Entry{}, ErrAmount
	case m.Owed:
	case j.now.Unix() > a.HoldsUntil:
		return Entry{}, ErrNoHolds
	case a.Available() < m.Amount:
		return Entry{}, ErrInsufficient
	}
	if m.Check != nil {
		if err := m.Check(j.spent(m)); err != nil {
			return Entry{}, err
		}
	}
	a.DebitsPending = a.DebitsPending.Add(m.Amount)
	j.accounts[a.ID] = a
	calls := int64(1)
	if m.Again {
		calls = 0
	}
	j.count(m.Counters, m.Amount, calls)
	return j.open(m, pending, 0), nil
}

func (j *judgement) spent(m Move) map[string]money.USDC {
	out := make(map[string]money.USDC, len(m.Counters)+len(m.Read))
	for _, ids := range [][]string{m.Counters, m.Read} {
		for _, id := range ids {
			out[id] = j.counter(id).spent
		}
	}
	return out
}

func (j *judgement) counter(id string) counter {
	if c, ok := j.counters[id]; ok {
		return c
	}
	if c, ok := j.books.counters[id]; ok {
		return *c
	}
	return counter{}
}

func (j *judgement) count(ids []string, amount money.USDC, calls int64) {
	for _, id := range ids {
		c := j.counter(id)
		c.spent, c.calls = c.spent.Add(amount), c.calls+calls
		j.counters[id] = c
	}
}

func (j *judgement) open(m Move, status string, moved money.USDC) Entry {
	id := m.ID
	if id == uuid.Nil {
		id = uuid.Must(uuid.NewV7())
	}
	e := Entry{
		ID: id, Key: m.Key, Debit: m.Debit, Credit: m.Credit, Status: status, Amount: m.Amount, Posted: moved,
		Code: m.Code, TransactionID: m.TransactionID, Counters: m.Counters, LogKey: m.LogKey, Block: m.Block,
	}
	j.entries[e.ID] = e
	j.fresh = append(j.fresh, e.ID)
	return e
}

func (j *judgement) post(m Move) (Entry, error) {
	e, err := j.entry(m.HoldID)
	if err != nil {
		return Entry{}, err
	}
	if e.Status != pending {
		return Entry{}, ErrEnded
	}
	if m.Amount <= 0 || m.Amount > e.Amount {
		return Entry{}, ErrAmount
	}
	if err := j.end(e); err != nil {
		return Entry{}, err
	}
	if err := j.shift(e.Debit, e.Credit, m.Amount); err != nil {
		return Entry{}, err
	}
	j.count(e.Counters, m.Amount.Sub(e.Amount), 0)
	e.Status, e.Posted, e.LogKey, e.Block = posted, m.Amount, m.LogKey, m.Block
	j.entries[e.ID] = e
	return e, nil
}

func (j *judgement) void(m Move) (Entry, error) {
	e, err := j.entry(m.HoldID)
	if err != nil {
		return Entry{}, err
	}
	if e.Status != pending {
		return Entry{}, ErrEnded
	}
	if err := j.end(e); err != nil {
		return Entry{}, err
	}
	j.count(e.Counters, -e.Amount, -1)
	e.Status = voided
	j.entries[e.ID] = e
	return e, nil
}

// end frees what the hold reserves on the paying side.
func (j *judgement) end(e Entry) error {
	a, err := j.account(e.Debit)
	if err != nil {
		return err
	}
	a.DebitsPending = a.DebitsPending.Sub(e.Amount)
	j.accounts[a.ID] = a
	return nil
}

func (j *judgement) transfer(m Move) (Entry, error) {
	if m.Amount <= 0 || m.Amount > money.Max || m.Debit == m.Credit {
		return Entry{}, ErrAmount
	}
	if err := j.shift(m.Debit, m.Credit, m.Amount); err != nil {
		return Entry{}, err
	}
	j.count(m.Counters, -m.Amount, 0)
	m.Counters = nil
	return j.open(m, posted, m.Amount), nil
}

// shift moves posted money. What may not fall below zero is said by the chart.
func (j *judgement) shift(debit, credit uuid.UUID, amount money.USDC) error {
	from, err := j.account(debit)
	if err != nil {
		return err
	}
	to, err := j.account(credit)
	if err != nil {
		return err
	}
	from.DebitsPosted = from.DebitsPosted.Add(amount)
	if floor, bounded := Floor(from); bounded && floor < 0 {
		return ErrInsufficient
	}
	to.CreditsPosted = to.CreditsPosted.Add(amount)
	j.accounts[from.ID], j.accounts[to.ID] = from, to
	return nil
}
