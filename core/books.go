package core

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/money"
)

// Books prove the ledger: against itself, and against the chain.
type Books struct{ *store }

// Audit is the outcome of one proof. Differences name the rows; none means that the books balance.
type Audit struct {
	Accounts, Transfers int
	Block               uint64 // the chain was read at it
	Platform            PlatformFigures
	Differences         []string
}

// PlatformFigures are the money at the platform's address and what it is owed to, atomic units.
type PlatformFigures struct {
	OnChain, Sessions, Clearing, Treasury, Suspense money.USDC
}

// Audit checks, at the watcher's block: every account's columns are the sums of its transfers; debits equal
// credits; the platform's address holds what sessions, clearing and treasury say; every wallet holds what its
// account says; no hold is older than its proof.
func (b *Books) Audit(ctx context.Context) (*Audit, error) {
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
	states, err := b.columns(ctx, tx, a)
	if err != nil {
		return nil, err
	}
	if err := b.oldHolds(ctx, tx, a, cursorTime); err != nil {
		return nil, err
	}
	return a, b.againstChain(ctx, a, states)
}

// columns compares each account with its transfers and adds up the chart.
func (b *Books) columns(ctx context.Context, tx *sql.Tx, a *Audit) (map[uuid.UUID]ledger.State, error) {
	states, err := ledger.Sums(ctx, tx, b.chainID())
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
		case ledger.Wallet:
			out[s.State.OwnerID] = s.State
		}
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

func (b *Books) oldHolds(ctx context.Context, tx *sql.Tx, a *Audit, cursorTime int64) error {
	rows, err := tx.QueryContext(ctx, b.db.bind(`SELECT f.id, t.id, t.valid_before_unix FROM transfers f JOIN transactions t ON t.hold_id = f.id
		WHERE f.status = 'pending' AND t.valid_before_unix > 0 AND t.valid_before_unix < $1`), cursorTime-holdSlack)
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

// againstChain compares with the token's balances at the watcher's block.
func (b *Books) againstChain(ctx context.Context, a *Audit, wallets map[uuid.UUID]ledger.State) error {
	var err error
	if a.Platform.OnChain, err = b.chain.BalanceOf(ctx, b.keys.platformAddress(), a.Block); err != nil {
		return err
	}
	if owed := a.Platform.Sessions.Add(a.Platform.Clearing).Add(a.Platform.Treasury).Add(a.Platform.Suspense); owed != a.Platform.OnChain {
		a.differ("platform address holds %s, the books say %s", a.Platform.OnChain, owed)
	}
	agents, err := b.db.readEnt.Agent.Query().Select(agent.FieldID, agent.FieldAddress).All(ctx)
	if err != nil {
		return err
	}
	for _, v := range agents {
		if err := b.wallet(ctx, a, v, wallets[v.ID]); err != nil {
			return err
		}
	}
	return nil
}

func (b *Books) wallet(ctx context.Context, a *Audit, v *ent.Agent, s ledger.State) error {
	held, err := b.chain.BalanceOf(ctx, common.HexToAddress(v.Address), a.Block)
	if err != nil {
		return err
	}
	if held != s.Balance() {
		a.differ("wallet %s of agent %s holds %s on chain, the books say %s", v.Address, v.ID, held, s.Balance())
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
