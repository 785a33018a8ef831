package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"entgo.io/ent/dialect"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/block"
	"bursar/ent/cursor"
	"bursar/evm"
)

const (
	blocksPerRead = 2000 // bounds one reading of the watcher
	blocksKept    = 2000 // below the cursor, to find the way back after a reorganisation: more than an hour on Base
)

// ReadChain books every USDC movement of ours up to the confirmed head, in chain order: the only way by which
// the chain reaches the ledger. The cursor moves after the last of a range is booked, from the value that was read.
// Callers that come while one reads share the next reading.
func (f *Funding) ReadChain(ctx context.Context) error { return f.reading.do(ctx, f.readChain) }

func (f *Funding) readChain(ctx context.Context) error {
	head, err := f.chain.Head(ctx)
	if err != nil {
		return err
	}
	depth := f.chain.Network().Confirmations
	target := uint64(0) // on a chain younger than the depth: the books begin at its first block
	if head.Number > depth {
		target = head.Number - depth
	}
	for {
		at, err := f.db.writeEnt.Cursor.Get(ctx, int(f.chainID()))
		if ent.IsNotFound(err) {
			return f.firstBlock(ctx, target)
		}
		if err != nil {
			return err
		}
		if uint64(at.Block) > target || (uint64(at.Block) == target && (head.Number != target || head.Hash.Hex() == at.Hash)) {
			return nil
		}
		same, err := f.sameBranch(ctx)
		switch {
		case err != nil:
		case !same:
			err = f.rewind(ctx, at)
		default:
			err = f.readRange(ctx, at, min(uint64(at.Block)+blocksPerRead, target))
		}
		if errors.Is(err, errMoved) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// firstBlock starts the books at the chain's confirmed head: wallets are made after it, and what the platform's
// address holds already is the operator's.
func (f *Funding) firstBlock(ctx context.Context, number uint64) error {
	b, err := f.chain.BlockByNumber(ctx, number)
	if err != nil {
		return err
	}
	own, err := f.chain.BalanceOf(ctx, f.keys.platformAddress(), number)
	if err != nil {
		return err
	}
	err = f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if err := tx.Cursor.Create().SetID(int(f.chainID())).SetBlock(int64(number)).SetHash(b.Hash.Hex()).SetTimeUnix(b.Time.Unix()).
			SetRechecked(int64(number)).SetRecheckedUnix(b.Time.Unix()).Exec(ctx); err != nil {
			return err
		}
		if err := f.remember(ctx, tx, b.Number, b.Hash, b.Time.Unix()); err != nil {
			return err
		}
		if own == 0 {
			return nil
		}
		_, err := tx.move(ctx, ledger.Move{
			Verb: ledger.Transfer, Key: fmt.Sprintf("opening:%d", f.chainID()), Debit: f.platform.External, Credit: f.platform.Treasury,
			Amount: own, Code: "opening",
		})
		return err
	})
	if ent.IsConstraintError(err) {
		return nil // another process was first
	}
	return err
}

func (f *Funding) readRange(ctx context.Context, at *ent.Cursor, to uint64) error {
	last, err := f.chain.BlockByNumber(ctx, to)
	if err != nil {
		return err
	}
	moved, err := f.chain.Movements(ctx, uint64(at.Block)+1, to)
	if err != nil {
		return err
	}
	if moved, err = f.ours(ctx, moved); err != nil {
		return err
	}
	of, err := f.tellApart(ctx, moved, at.TimeUnix)
	if err != nil {
		return err
	}
	// The branch may have changed between the reads; the block's hash tells.
	if again, err := f.chain.BlockByNumber(ctx, to); err != nil || again.Hash != last.Hash {
		return errors.Join(err, errors.New("core: the chain changed while it was read"))
	}
	// Each movement commits by itself, so that locks are held for one at a time; a log posts once, so that reading a
	// range again, after a crash or beside another process, books nothing twice. The cursor moves when all are booked.
	for _, m := range of {
		if err := f.inTx(ctx, func(ctx context.Context, tx *Tx) error { return f.bookAt(ctx, tx, at, m) }); err != nil {
			return fmt.Errorf("core: book %s: %w", logKey(m.Movement), err)
		}
		f.step(StepLog)
	}
	f.step(StepRange)
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Cursor.Update().Where(cursor.ID(at.ID), cursor.Block(at.Block), cursor.Hash(at.Hash)).
			SetBlock(int64(to)).SetHash(last.Hash.Hex()).SetTimeUnix(last.Time.Unix()).Save(ctx)
		if err == nil && n == 0 {
			err = errMoved
		}
		if err != nil {
			return err
		}
		if err := f.remember(ctx, tx, to, last.Hash, last.Time.Unix()); err != nil {
			return err
		}
		_, err = tx.Block.Delete().Where(block.ChainID(int64(f.chainID())), block.NumberLT(int64(to)-blocksKept)).Exec(ctx)
		return err
	})
}

// bookAt books a movement unless the cursor has left the place that it was read from: then another process is ahead,
// or has taken back the branch that the movement is of. The cursor's row is locked, so that neither happens meanwhile, and
// one movement is booked at a time.
func (f *Funding) bookAt(ctx context.Context, tx *Tx, at *ent.Cursor, m told) error {
	q := tx.Cursor.Query().Where(cursor.ID(at.ID), cursor.Block(at.Block), cursor.Hash(at.Hash))
	if f.db.Dialect == dialect.Postgres {
		q = q.ForUpdate()
	}
	if _, err := q.Only(ctx); err != nil {
		if ent.IsNotFound(err) {
			return errMoved
		}
		return err
	}
	return f.apply(ctx, tx, m)
}

// addressesPerQuery keeps a list below what databases take as parameters.
const addressesPerQuery = 5000

// ours leaves the movements that touch an address of ours: on a busy chain they are few among thousands.
func (f *Funding) ours(ctx context.Context, moved []evm.Movement) ([]evm.Movement, error) {
	seen := map[string]bool{}
	for _, m := range moved {
		seen[m.From.Hex()], seen[m.To.Hex()] = true, true
	}
	known := map[string]bool{f.keys.platformAddress().Hex(): true}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(seen)), addressesPerQuery) {
		found, err := f.db.writeEnt.Agent.Query().Where(agent.AddressIn(some...)).Select(agent.FieldAddress).Strings(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			known[a] = true
		}
	}
	return slices.DeleteFunc(moved, func(m evm.Movement) bool {
		return m.Amount == 0 || (!known[m.From.Hex()] && !known[m.To.Hex()])
	}), nil
}
