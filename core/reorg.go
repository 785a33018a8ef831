package core

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect/sql"
	"github.com/ethereum/go-ethereum/common"

	"bursar/ent"
	"bursar/ent/block"
	"bursar/ent/cursor"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
)

// A reorganisation below the confirmed depth takes back what was booked. History is append-only, so each transfer of
// the abandoned blocks gets a second one in the other direction; then the watcher reads the new branch like any other.
// What we had sent goes out again, the same bytes, so it is held for again. Two accounts cannot simply give back: a
// session may have spent its deposit, and a wallet its refund. Suspense stands in for them until the operation is
// mined again: it counts with the platform's address, which has lost the deposit, or has got the refund back.

// remember keeps a block that the watcher has read. Another hash under a stored number is another branch.
func (f *Funding) remember(ctx context.Context, tx *Tx, number uint64, hash common.Hash, time int64) error {
	err := tx.Block.Create().SetChainID(int64(f.chainID())).SetNumber(int64(number)).SetHash(hash.Hex()).SetTimeUnix(time).
		OnConflictColumns(block.FieldChainID, block.FieldNumber).
		Update(func(u *ent.BlockUpsert) { u.SetTimeUnix(time) }).Exec(ctx)
	if err != nil {
		return err
	}
	stored, err := tx.Block.Query().Where(block.ChainID(int64(f.chainID())), block.Number(int64(number))).Only(ctx)
	if err == nil && stored.Hash != hash.Hex() {
		return errors.New("core: the chain changed while it was read")
	}
	return err
}

// sameBranch reports whether the newest block that was read is still on the chain. It may lie above the cursor, when
// a range was booked in part.
func (f *Funding) sameBranch(ctx context.Context) (bool, error) {
	newest, err := f.stored().First(ctx)
	if err != nil {
		return false, fmt.Errorf("core: the last block that was read: %w", err)
	}
	return f.onChain(ctx, newest)
}

// stored are the blocks that the watcher remembers, newest first.
func (f *Funding) stored() *ent.BlockQuery {
	return f.db.writeEnt.Block.Query().Where(block.ChainID(int64(f.chainID()))).Order(block.ByNumber(sql.OrderDesc()))
}

// onChain compares a stored block with the chain. A node that does not have the number is behind, which says nothing;
// one node's other hash says nothing either while another node has ours.
func (f *Funding) onChain(ctx context.Context, b *ent.Block) (bool, error) {
	now, err := f.chain.BlockByNumber(ctx, uint64(b.Number))
	if err == nil && now.Hash.Hex() != b.Hash {
		now, err = f.chain.Agreed(ctx, uint64(b.Number))
	}
	if errors.Is(err, evm.ErrNotFound) {
		return false, fmt.Errorf("core: block %d: %w: the node is behind", b.Number, evm.ErrUnavailable)
	}
	return err == nil && now.Hash.Hex() == b.Hash, err
}

// ErrOtherChain says that the books were kept over another chain than the one at hand.
var ErrOtherChain = errors.New("core: the chain has none of the blocks that the books remember")

// SameChain is ErrOtherChain when not one remembered block is on the chain. It is for a chain whose only node is the
// program's own; any other node may just be behind. The first block says nothing: development chains share it.
func (f *Funding) SameChain(ctx context.Context) error {
	known, err := f.stored().Where(block.NumberGT(0)).All(ctx)
	if err != nil || len(known) == 0 {
		return err
	}
	for _, b := range known {
		now, err := f.chain.BlockByNumber(ctx, uint64(b.Number))
		if err == nil && now.Hash.Hex() == b.Hash {
			return nil
		}
		if err != nil && !errors.Is(err, evm.ErrNotFound) {
			return err
		}
	}
	return fmt.Errorf("%w: the newest is %d, %s", ErrOtherChain, known[0].Number, known[0].Hash)
}

// rewind takes back everything above the newest stored block that is still on the chain, and sets the cursor there.
func (f *Funding) rewind(ctx context.Context, at *ent.Cursor) error {
	known, err := f.stored().All(ctx)
	if err != nil {
		return err
	}
	for _, b := range known {
		same, err := f.onChain(ctx, b)
		if err != nil {
			return err
		}
		if same {
			f.log.ErrorContext(ctx, "the chain was reorganised below the confirmed depth", "back_to", b.Number, "from", known[0].Number)
			return f.inTx(ctx, func(ctx context.Context, tx *Tx) error { return f.rewindTo(ctx, tx, at, b) })
		}
	}
	return fmt.Errorf("core: block %d was %s: the chain was reorganised below everything that is remembered", known[len(known)-1].Number, known[len(known)-1].Hash)
}

func (f *Funding) rewindTo(ctx context.Context, tx *Tx, at *ent.Cursor, to *ent.Block) error {
	u := tx.Cursor.Update().Where(cursor.ID(at.ID), cursor.Block(at.Block), cursor.Hash(at.Hash))
	if to.Number < at.Block {
		u.SetBlock(to.Number).SetHash(to.Hash).SetTimeUnix(to.TimeUnix)
	} else {
		u.SetBlock(at.Block) // a range that was booked in part; the row is locked all the same
	}
	n, err := u.Save(ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		return errMoved
	}
	// The second pass begins anew where the branches part.
	if err := tx.Cursor.Update().Where(cursor.ID(at.ID), cursor.RecheckedGT(to.Number)).SetRechecked(to.Number).SetRecheckedUnix(to.TimeUnix).Exec(ctx); err != nil {
		return err
	}
	if _, err := tx.Block.Delete().Where(block.ChainID(int64(f.chainID())), block.NumberGT(to.Number)).Exec(ctx); err != nil {
		return err
	}
	if err := f.unmineGas(ctx, tx, to.Number); err != nil {
		return err
	}
	return f.undo(ctx, tx, to.Number)
}

// unmineGas returns what has no hold (grants, pulls, permits) and whose block is gone to where it is sent again.
func (f *Funding) unmineGas(ctx context.Context, tx *Tx, above int64) error {
	ops, err := tx.Operation.Query().Where(operation.BlockGT(above), operation.HoldIDIsNil(), operation.ChainID(int64(f.chainID()))).All(ctx)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if err := unfinish(ctx, tx, op); err != nil {
			return err
		}
	}
	return nil
}

// unfinish returns a final operation and its record to the state before its block.
func unfinish(ctx context.Context, tx *Tx, op *ent.Operation) error {
	if err := tx.Operation.UpdateOneID(op.ID).SetStatus(operation.StatusSent).ClearBlock().Exec(ctx); err != nil {
		return err
	}
	return tx.Transaction.Update().Where(transaction.ID(op.TransactionID)).SetStatus(transaction.StatusPending).SetAmount(0).ClearSettledAt().Exec(ctx)
}
