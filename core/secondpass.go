package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"bursar/ent"
	"bursar/ent/block"
	"bursar/ent/cursor"
	"bursar/ent/transfer"
)

// The second pass follows the cursor at a distance, as far as it gets in one run. How far it has come stands on the
// cursor's row, so that all processes go on from there, and any of them may decide by it.
const (
	recheckBehind = 60  // blocks below the cursor: some minutes
	recheckSpan   = 150 // blocks of one reading
	recheckMost   = 20  // readings of one run
)

// Recheck reads each block once more some minutes after it was read first, from all nodes, and books what was missed
// then: nodes have been seen to show a block before all of its logs.
func (f *Funding) Recheck(ctx context.Context) error {
	for range recheckMost {
		at, err := f.db.writeEnt.Cursor.Get(ctx, int(f.chainID()))
		if ent.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		from, err := f.notRechecked(ctx, at)
		if err != nil {
			return err
		}
		to := min(at.Block-recheckBehind, from+recheckSpan-1)
		if from > to {
			return nil
		}
		moved, err := f.recheck(ctx, at, uint64(from), uint64(to))
		if err != nil || !moved {
			return err // another process is ahead, or the cursor has gone on: the next run
		}
	}
	return nil
}

// notRechecked is the first block that the second pass has not read. Books that are older than it begin at the oldest
// block that is remembered.
func (f *Funding) notRechecked(ctx context.Context, at *ent.Cursor) (int64, error) {
	if at.Rechecked > 0 {
		return at.Rechecked + 1, nil
	}
	oldest, err := f.db.readEnt.Block.Query().Where(block.ChainID(int64(f.chainID()))).Order(block.ByNumber()).First(ctx)
	if err != nil {
		return 0, err
	}
	return oldest.Number + 1, nil
}

// recheck reads a range once more, books what is missing, and notes that it has. It reports whether it has.
func (f *Funding) recheck(ctx context.Context, at *ent.Cursor, from, to uint64) (bool, error) {
	last, err := f.chain.BlockByNumber(ctx, to)
	if err != nil {
		return false, err
	}
	moved, err := f.chain.Recheck(ctx, from, to)
	if err != nil {
		return false, err
	}
	if moved, err = f.ours(ctx, moved); err != nil {
		return false, err
	}
	of, err := f.tellApart(ctx, moved, at.RecheckedUnix)
	if err != nil {
		return false, err
	}
	for _, m := range of {
		err := f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
			key, err := freshKey(ctx, tx.Client, m.Movement)
			if err != nil {
				return err
			}
			known, err := tx.Transfer.Query().Where(transfer.LogKey(key)).Exist(ctx)
			if err != nil || known {
				return err
			}
			f.log.ErrorContext(ctx, "a movement was not shown when its block was read first", "log", key)
			return f.bookAt(ctx, tx, at, m)
		})
		if errors.Is(err, errMoved) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("core: book %s: %w", logKey(m.Movement), err)
		}
	}
	err = f.inTx(ctx, func(ctx context.Context, tx *Tx) error { return f.rechecked(ctx, tx, at, int64(to), last.Time.Unix()) })
	if errors.Is(err, errMoved) {
		return false, nil
	}
	return err == nil, err
}

// rechecked moves the second pass on, from the block that it was read from. The cursor may have gone on meanwhile, but not
// back: what it stood at is then no longer remembered.
func (f *Funding) rechecked(ctx context.Context, tx *Tx, at *ent.Cursor, to, time int64) error {
	n, err := tx.Cursor.Update().Where(cursor.ID(at.ID), cursor.Rechecked(at.Rechecked)).SetRechecked(to).SetRecheckedUnix(time).Save(ctx)
	if err != nil {
		return err
	}
	same, err := tx.Block.Query().Where(block.ChainID(int64(f.chainID())), block.Number(at.Block), block.Hash(at.Hash)).Exist(ctx)
	if err == nil && (n == 0 || !same) {
		err = errMoved
	}
	return err
}

// lastLook is how long after an authorization's end, in seconds of chain time, is waited for the second pass. Nodes that
// cannot be read twice for so long do not keep money for ever; what they show later is charged late.
const lastLook = 3600

// usedLately reports whether to wait for the watcher, although it has read to a block whose time is past validBefore: the
// chain calls the authorization used, and nothing was booked, so the nodes may have left its log out. Once the second pass
// has read past its end too, it was used or cancelled in some other way, and cannot move this money any more.
// The chain is asked as of the watcher's block: a node that has not reached it would still say "unused".
func (s *store) usedLately(ctx context.Context, p onceOnly, read *ent.Cursor) (bool, error) {
	if read.RecheckedUnix >= p.ends || read.TimeUnix >= p.ends+lastLook {
		return false, nil
	}
	used := s.chain.AuthorizationUsed
	if p.permit2 {
		used = s.chain.Permit2Used
	}
	return used(ctx, common.HexToAddress(p.from), common.HexToHash(p.nonce), uint64(read.Block))
}

// onceOnly is what the chain knows of a signature that it takes once: whose, its nonce, and the first time at which it is
// refused, in unix seconds.
type onceOnly struct {
	from, nonce string
	ends        int64
	permit2     bool // Permit2 keeps the nonce, not the token
}
