package core

import (
	"context"
	"maps"
	"math/big"
	"sync"
	"time"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/operation"
	"bursar/ent/predicate"
	"bursar/ent/transaction"
	"bursar/money"
)

// Figures are the operator's view of the whole server at one moment: of all organisations together, and of no person,
// agent or service. They are for whoever runs the server, and never for a caller of the API.
type Figures struct {
	At time.Time

	// What the database tells; Database is why it did not, and the part is zero then.
	Database   error
	Accounts   []AccountFigures
	Holds      Open                        // promised money that has not ended
	Payments   map[transaction.Status]Open // those without an end
	Operations map[operation.Status]Open   // those without an end
	Block      uint64                      // the watcher has read up to it; 0: nothing yet
	BlockTime  time.Time

	// What the chain tells; Chain is why it did not, and the part is zero then.
	Chain      error
	Head       uint64
	RelayerWei *big.Int // of the relayer that has least

	// What this process has done since it began.
	Outcomes  map[Outcome]uint64
	Ledger    ledger.Stats
	LastAudit *LastAudit // nil: none yet
}

// Histogram counts observations by size.
type Histogram = ledger.Histogram

// AccountFigures are all accounts of a kind together, in atomic units.
type AccountFigures struct {
	Kind             string
	Count            int
	Balance, Pending money.USDC
}

// Open counts what has not ended. Oldest is when the first of it began; zero when there is none.
type Open struct {
	Count  int
	Oldest time.Time
}

// Figures gathers the figures. What cannot be had before ctx ends is left out and says why.
func (c *Core) Figures(ctx context.Context) *Figures {
	s := c.Books.store
	f := &Figures{At: s.now(), Outcomes: s.outcomes.all(), Ledger: s.batch.Stats(), LastAudit: c.Books.last.Load()}
	var chain sync.WaitGroup
	chain.Go(func() { f.Chain = s.chainFigures(ctx, f) })
	f.Database = s.storedFigures(ctx, f)
	chain.Wait()
	return f
}

func (s *store) chainFigures(ctx context.Context, f *Figures) error {
	head, err := s.chain.Head(ctx)
	if err != nil {
		return err
	}
	f.Head = head.Number
	for _, r := range s.keys.relayers {
		has, err := s.chain.EtherOf(ctx, r.at)
		if err != nil {
			return err
		}
		if f.RelayerWei == nil || has.Cmp(f.RelayerWei) < 0 {
			f.RelayerWei = has
		}
	}
	return nil
}

// openOperations are the states that an operation does not stay in.
var openOperations = []operation.Status{
	operation.StatusQueued, operation.StatusAuthorized, operation.StatusSigned, operation.StatusSent, operation.StatusIncluded,
}

// openPayments are the states that a payment does not stay in.
var openPayments = []transaction.Status{transaction.StatusPending, transaction.StatusUnknown}

// storedFigures reads what indexes find: sums over accounts, and what has not ended. It counts no history.
func (s *store) storedFigures(ctx context.Context, f *Figures) error {
	at, err := s.db.readEnt.Cursor.Get(ctx, int(s.chainID()))
	if err != nil && !ent.IsNotFound(err) {
		return err
	}
	if err == nil {
		f.Block, f.BlockTime = uint64(at.Block), time.Unix(at.TimeUnix, 0).UTC()
	}
	if err := s.accountFigures(ctx, f); err != nil {
		return err
	}
	// A hold belongs to a record without an end, and is found by it: transfers have no index by status, which would cost
	// each end of a hold more than it tells.
	if f.Holds, err = s.openRecords(ctx, transaction.StatusIn(openPayments...), transaction.HoldIDNotNil()); err != nil {
		return err
	}
	f.Payments = map[transaction.Status]Open{}
	for _, status := range openPayments {
		if f.Payments[status], err = s.openRecords(ctx, transaction.StatusEQ(status), transaction.KindEQ(transaction.KindPayment)); err != nil {
			return err
		}
	}
	f.Operations = map[operation.Status]Open{}
	for _, status := range openOperations {
		q := s.db.readEnt.Operation.Query().Where(operation.StatusEQ(status))
		o := Open{}
		if o.Count, err = q.Clone().Count(ctx); err != nil {
			return err
		}
		if o.Count > 0 {
			first, err := q.Order(operation.ByCreatedAt()).Select(operation.FieldCreatedAt).First(ctx)
			if err == nil {
				o.Oldest = first.CreatedAt
			} else if !ent.IsNotFound(err) { // it has ended meanwhile
				return err
			}
		}
		f.Operations[status] = o
	}
	return nil
}

func (s *store) openRecords(ctx context.Context, where ...predicate.Transaction) (o Open, err error) {
	q := s.db.readEnt.Transaction.Query().Where(where...)
	if o.Count, err = q.Clone().Count(ctx); err != nil || o.Count == 0 {
		return o, err
	}
	first, err := q.Order(transaction.ByCreatedAt()).Select(transaction.FieldCreatedAt).First(ctx)
	if ent.IsNotFound(err) { // it has ended meanwhile
		return o, nil
	}
	if err == nil {
		o.Oldest = first.CreatedAt
	}
	return o, err
}

func (s *store) accountFigures(ctx context.Context, f *Figures) error {
	var rows []struct {
		Kind    string     `json:"kind"`
		Count   int        `json:"count"`
		Credits money.USDC `json:"credits"`
		Debits  money.USDC `json:"debits"`
		Pending money.USDC `json:"pending"`
	}
	err := s.db.readEnt.Account.Query().Where(account.ChainID(int64(s.chainID()))).GroupBy(account.FieldKind).Aggregate(
		ent.Count(), ent.As(ent.Sum(account.FieldCreditsPosted), "credits"), ent.As(ent.Sum(account.FieldDebitsPosted), "debits"),
		ent.As(ent.Sum(account.FieldDebitsPending), "pending"),
	).Scan(ctx, &rows)
	for _, r := range rows {
		f.Accounts = append(f.Accounts, AccountFigures{Kind: r.Kind, Count: r.Count, Balance: r.Credits.Sub(r.Debits), Pending: r.Pending})
	}
	return err
}

// Outcome is a step that a payment can make.
type Outcome string

// The steps. One that is reserved ends as charged or failed; unknown lies between, and returned comes after charged.
const (
	PaymentReserved Outcome = "reserved" // held, about to be signed
	PaymentUnknown  Outcome = "unknown"  // the proof has left and no good answer came
	PaymentCharged  Outcome = "charged"
	PaymentFailed   Outcome = "failed"   // nothing was charged
	PaymentReturned Outcome = "returned" // a session's charge that the seller never collected
)

// Outcomes lists every step.
func Outcomes() []Outcome {
	return []Outcome{PaymentReserved, PaymentUnknown, PaymentCharged, PaymentFailed, PaymentReturned}
}

// outcomes counts the steps that this process has committed.
type outcomes struct {
	mu sync.Mutex
	n  map[Outcome]uint64
}

func (o *outcomes) add(steps ...Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == nil {
		o.n = map[Outcome]uint64{}
	}
	for _, s := range steps {
		o.n[s]++
	}
}

func (o *outcomes) all() map[Outcome]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[Outcome]uint64{}
	maps.Copy(out, o.n)
	return out
}
