package core

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent/agent"
	"bursar/money"
)

// Books prove the ledger: against itself, and against the chain.
type Books struct {
	*store
	slots chan struct{} // bounds the proofs that callers run at once
	last  atomic.Pointer[LastAudit]
}

// maxAudits is how many proofs callers may run at once; others wait. Each reads all the history of an organisation.
const maxAudits = 2

func newBooks(s *store) *Books { return &Books{store: s, slots: make(chan struct{}, maxAudits)} }

// Audit is the outcome of one proof. Differences name the rows; none means that the books balance.
type Audit struct {
	Accounts, Transfers int
	Block               uint64          // the chain was read at it
	Platform            PlatformFigures // zero in an organisation's own proof
	Differences         []string
}

// Balanced reports that there is no difference.
func (a *Audit) Balanced() bool { return len(a.Differences) == 0 }

// LastAudit is when this process has last proven all the books, and with how many differences.
type LastAudit struct {
	At          time.Time
	Differences int
}

// PlatformFigures are the money at the platform's address and what it is owed to, atomic units.
type PlatformFigures struct {
	OnChain, Sessions, Clearing, Treasury, Suspense, Sellers money.USDC
}

// Audit checks, at the watcher's block: every account's columns are the sums of its transfers; debits equal
// credits; the platform's address holds what sessions, sellers, clearing and treasury say; every wallet holds what its
// account says; no hold is older than its proof.
func (b *Books) Audit(ctx context.Context) (*Audit, error) {
	a, err := b.audit(ctx, uuid.Nil)
	if err == nil {
		b.last.Store(&LastAudit{At: b.now(), Differences: len(a.Differences)})
	}
	return a, err
}

// AuditOrg is the part of Audit that concerns the caller's organisation alone: its wallets and sessions against their
// transfers, its wallets against the chain, its holds against their proofs. Only owners and admins may ask. What the
// platform holds and owes is the operator's to see.
func (b *Books) AuditOrg(ctx context.Context, p Principal) (*Audit, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	if p.Credential == ByAgnicToken || (p.Role != Owner && p.Role != Admin) {
		return nil, E(Forbidden, "Only owners and admins may prove the books")
	}
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return b.audit(ctx, p.OrgID)
}

// auditTries is how often an audit begins again because the watcher stands in the middle of a block.
const auditTries = 200

// audit proves the books of one organisation, or of all when org is uuid.Nil. The watcher books movement by movement
// and then moves its cursor: in between, the books are of no block that the chain could be asked at.
func (b *Books) audit(ctx context.Context, org uuid.UUID) (*Audit, error) {
	for range auditTries {
		a, err := b.auditOnce(ctx, org)
		if !errors.Is(err, errBetweenBlocks) {
			return a, err
		}
		if err := pause(ctx, driveFirst); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("core: audit: %w", errBetweenBlocks)
}

var errBetweenBlocks = errors.New("the chain is being read: the books are between two blocks")

func (b *Books) auditOnce(ctx context.Context, org uuid.UUID) (*Audit, error) {
	tx, err := b.db.read.BeginTx(ctx, b.db.snapshot())
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // read only: nothing to lose
	a := &Audit{}
	var cursorTime int64
	row := tx.QueryRowContext(ctx, b.db.bind(`SELECT block, time_unix FROM cursors WHERE id = $1`), int64(b.chainID()))
	if err := row.Scan(&a.Block, &cursorTime); err != nil {
		return nil, fmt.Errorf("core: audit: the chain has not been read yet: %w", err)
	}
	var newest uint64
	row = tx.QueryRowContext(ctx, b.db.bind(`SELECT COALESCE(MAX(number), 0) FROM blocks WHERE chain_id = $1`), int64(b.chainID()))
	if err := row.Scan(&newest); err != nil {
		return nil, fmt.Errorf("core: audit: %w", err)
	}
	if newest > a.Block {
		return nil, errBetweenBlocks
	}
	wallets, err := b.columns(ctx, tx, a, org)
	if err != nil {
		return nil, err
	}
	if err := b.oldHolds(ctx, tx, a, cursorTime, org); err != nil {
		return nil, err
	}
	if err := tx.Rollback(); err != nil { // the chain may take its time: no transaction stays open for it
		return nil, err
	}
	if org == uuid.Nil {
		if err := b.platformAgainstChain(ctx, a); err != nil {
			return nil, err
		}
	}
	return a, b.walletsAgainstChain(ctx, a, org, wallets)
}

// columns compares each account with its transfers and adds up the chart. It returns the wallets by their agents.
func (b *Books) columns(ctx context.Context, tx *sql.Tx, a *Audit, org uuid.UUID) (map[uuid.UUID]ledger.State, error) {
	states, err := ledger.Sums(ctx, tx, b.chainID(), org)
	if err != nil {
		return nil, err
	}
	var debits, credits money.USDC
	out := map[uuid.UUID]ledger.State{}
	for _, s := range states {
		a.Accounts++
		a.Transfers += s.Transfers
		if s.State.DebitsPending != s.Pending || s.State.DebitsPosted != s.Debits || s.State.CreditsPosted != s.Credits {
			a.differ("account %s (%s): columns %s/%s/%s, transfers %s/%s/%s", s.State.ID, s.State.Kind,
				s.State.DebitsPending, s.State.DebitsPosted, s.State.CreditsPosted, s.Pending, s.Debits, s.Credits)
		}
		debits, credits = debits.Add(s.State.DebitsPosted), credits.Add(s.State.CreditsPosted)
		switch s.State.Kind {
		case ledger.Session:
			a.Platform.Sessions = a.Platform.Sessions.Add(s.State.Balance())
		case ledger.Clearing:
			a.Platform.Clearing = s.State.Balance()
		case ledger.Treasury:
			a.Platform.Treasury = s.State.Balance()
		case ledger.Suspense:
			a.Platform.Suspense = s.State.Balance()
		case ledger.Seller:
			a.Platform.Sellers = a.Platform.Sellers.Add(s.State.Balance())
		case ledger.Wallet:
			out[s.State.OwnerID] = s.State
		}
	}
	if org != uuid.Nil { // only all accounts together must balance, and add up to what the platform's address holds
		a.Platform = PlatformFigures{}
		return out, nil
	}
	if debits != credits {
		a.differ("debits %s, credits %s", debits, credits)
	}
	return out, nil
}

func (a *Audit) differ(format string, args ...any) {
	a.Differences = append(a.Differences, fmt.Sprintf(format, args...))
}

// holdSlack is how long after a proof's end its hold may still stand, in seconds of chain time: the jobs need
// a moment.
const holdSlack = 300

func (b *Books) oldHolds(ctx context.Context, tx *sql.Tx, a *Audit, cursorTime int64, org uuid.UUID) error {
	query, args := `SELECT f.id, t.id, t.valid_before_unix FROM transfers f JOIN transactions t ON t.hold_id = f.id
		WHERE f.status = 'pending' AND t.valid_before_unix > 0 AND t.valid_before_unix < $1`, []any{cursorTime - holdSlack}
	if org != uuid.Nil {
		query, args = query+` AND t.org_id = $2`, append(args, org.String())
	}
	rows, err := tx.QueryContext(ctx, b.db.bind(query), args...)
	if err != nil {
		return fmt.Errorf("core: audit: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var hold, t uuid.UUID
		var end int64
		if err := rows.Scan(&hold, &t, &end); err != nil {
			return fmt.Errorf("core: audit: %w", err)
		}
		a.differ("hold %s of transaction %s stands although its proof ended at %d", hold, t, end)
	}
	return rows.Err()
}

// platformAgainstChain compares what the platform's address holds at the watcher's block with what it is owed to.
func (b *Books) platformAgainstChain(ctx context.Context, a *Audit) error {
	var err error
	if a.Platform.OnChain, err = b.chain.BalanceOf(ctx, b.keys.platformAddress(), a.Block); err != nil {
		return err
	}
	if owed := a.Platform.Sessions.Add(a.Platform.Clearing).Add(a.Platform.Treasury).Add(a.Platform.Suspense).Add(a.Platform.Sellers); owed != a.Platform.OnChain {
		a.differ("platform address holds %s, the books say %s", a.Platform.OnChain, owed)
	}
	return nil
}

// walletsAgainstChain compares each wallet with the token's balance at the watcher's block.
func (b *Books) walletsAgainstChain(ctx context.Context, a *Audit, org uuid.UUID, wallets map[uuid.UUID]ledger.State) error {
	q := b.db.readEnt.Agent.Query().Select(agent.FieldID, agent.FieldAddress).Order(agent.ByID())
	if org != uuid.Nil {
		q.Where(agent.OrgID(org))
	}
	agents, err := q.All(ctx)
	if err != nil {
		return err
	}
	addresses := make([]common.Address, len(agents))
	for i, v := range agents {
		addresses[i] = common.HexToAddress(v.Address)
	}
	held, err := b.chain.BalancesOf(ctx, addresses, a.Block)
	if err != nil {
		return err
	}
	for i, v := range agents {
		if s := wallets[v.ID]; held[i] != s.Balance() {
			a.differ("wallet %s of agent %s holds %s on chain, the books say %s", v.Address, v.ID, held[i], s.Balance())
		}
	}
	return nil
}

// Check is the audit as a job: a difference is an error that names it.
func (b *Books) Check(ctx context.Context) error {
	a, err := b.Audit(ctx)
	if err != nil {
		return err
	}
	if len(a.Differences) > 0 {
		return fmt.Errorf("core: the books do not balance: %d differences, first: %s", len(a.Differences), a.Differences[0])
	}
	return nil
}
