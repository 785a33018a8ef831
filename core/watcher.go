package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/cursor"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/evm"
)

// blocksPerRead bounds one transaction of the watcher.
const blocksPerRead = 2000

// ReadChain books every USDC movement of ours up to the confirmed head, in chain order: the only way by which
// the chain reaches the ledger. The cursor moves after the last of a range is booked, from the value that was read.
func (f *Funding) ReadChain(ctx context.Context) error {
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
		if uint64(at.Block) >= target {
			return nil
		}
		if err := f.sameBranch(ctx, at); err != nil {
			return err
		}
		if err := f.readRange(ctx, at, min(uint64(at.Block)+blocksPerRead, target)); err != nil {
			if errors.Is(err, errMoved) {
				return nil
			}
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
		if err := tx.Cursor.Create().SetID(int(f.chainID())).SetBlock(int64(number)).SetHash(b.Hash.Hex()).SetTimeUnix(b.Time.Unix()).Exec(ctx); err != nil {
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

// sameBranch refuses to go on when the block that was read last is no longer on the chain: a reorganisation
// deeper than the confirmations is for a person to look at, never to be papered over.
func (f *Funding) sameBranch(ctx context.Context, at *ent.Cursor) error {
	b, err := f.chain.BlockByNumber(ctx, uint64(at.Block))
	if err != nil {
		return err
	}
	if b.Hash.Hex() != at.Hash {
		return fmt.Errorf("core: block %d was %s and is now %s: the chain was reorganised below the confirmed depth", at.Block, at.Hash, b.Hash)
	}
	return nil
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
	// The branch may have changed between the reads; the block's hash tells.
	if again, err := f.chain.BlockByNumber(ctx, to); err != nil || again.Hash != last.Hash {
		return errors.Join(err, errors.New("core: the chain changed while it was read"))
	}
	// Each movement commits by itself, so that locks are held for one at a time; a log posts once, so that reading a
	// range again, after a crash or beside another process, books nothing twice. The cursor moves when all are booked.
	for _, m := range moved {
		if err := f.inTx(ctx, func(ctx context.Context, tx *Tx) error { return f.apply(ctx, tx, m) }); err != nil {
			return fmt.Errorf("core: book %s: %w", logKey(m), err)
		}
		f.step(StepLog)
	}
	f.step(StepRange)
	n, err := f.db.writeEnt.Cursor.Update().Where(cursor.ID(at.ID), cursor.Block(at.Block)).
		SetBlock(int64(to)).SetHash(last.Hash.Hex()).SetTimeUnix(last.Time.Unix()).Save(ctx)
	if err == nil && n == 0 {
		return errMoved
	}
	return err
}

// apply books one movement: the end of an operation or a payment of ours, told by its authorization, or money
// that somebody else has moved.
//
// An owner with an exported key can use the nonce of one of our authorizations for a transfer of another kind, and
// a hold may have been given up before. What is not exactly the movement that we wait for is therefore booked as
// anybody's; the operation or payment whose nonce it took ends by its own expiry.
func (f *Funding) apply(ctx context.Context, tx *Tx, m evm.Movement) error {
	if m.Amount == 0 {
		return nil
	}
	if m.AuthNonce != nil {
		booked, err := f.ordered(ctx, tx, m, m.AuthNonce.Hex())
		if err != nil || booked {
			return err
		}
	}
	return f.foreign(ctx, tx, m)
}

// ordered books a movement that one of our operations or payments waits for, and reports whether one did.
func (f *Funding) ordered(ctx context.Context, tx *Tx, m evm.Movement, nonce string) (bool, error) {
	op, err := tx.Operation.Query().Where(operation.AuthNonce(nonce), operation.FromAddress(m.From.Hex())).Only(ctx)
	if err == nil {
		ended := op.Status == operation.StatusFinal || op.Status == operation.StatusExpired || op.Status == operation.StatusFailed
		if ended || m.To.Hex() != op.ToAddress || m.Amount != op.Amount {
			return false, nil
		}
		return true, f.finishOperation(ctx, tx, op, m)
	}
	if !ent.IsNotFound(err) {
		return false, err
	}
	t, err := tx.Transaction.Query().Where(transaction.AuthNonce(nonce), transaction.FromAddress(m.From.Hex())).Only(ctx)
	if ent.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	settled := t.TxHash != nil || t.Status == transaction.StatusFailed || (t.Status == transaction.StatusSuccess && t.Amount == 0)
	if settled || m.To.Hex() != t.ToAddress || m.Amount != t.Quoted || t.HoldID == nil {
		return false, nil
	}
	return true, f.settlePayment(ctx, tx, t, m)
}

// finishOperation posts an operation's hold and does what follows from it.
func (f *Funding) finishOperation(ctx context.Context, tx *Tx, op *ent.Operation, m evm.Movement) error {
	to := side{account: f.platform.External}
	var err error
	if op.Kind == operation.KindDrain {
		if to, err = f.sideOf(ctx, tx, m.To); err != nil {
			return err
		}
	}
	post := ledger.Move{Verb: ledger.Post, HoldID: *op.HoldID, Amount: op.Amount, LogKey: logKey(m)}
	results, err := tx.moves(ctx, append([]ledger.Move{post}, f.arrival(to, m)...)...)
	if err != nil || results[0].Repeated {
		return err
	}
	r := results[0]
	if err := finish(ctx, tx, op, m.TxHash.Hex()); err != nil {
		return err
	}
	switch op.Kind {
	case operation.KindDeposit:
		return f.opened(ctx, tx, op)
	case operation.KindRefund:
		// What has come back to the session since the refund was made keeps it closing; its job sends that on.
		if left := r.Accounts[r.Transfers[0].Debit]; left.Balance() > 0 {
			return nil
		}
		v, err := tx.Session.Get(ctx, *op.SessionID)
		if err != nil {
			return err
		}
		n, err := tx.Session.Update().Where(session.ID(v.ID), session.StatusEQ(session.StatusClosing)).
			SetStatus(session.StatusClosed).SetClosedAt(tx.Now).Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		return tx.sessionChanged(ctx, v)
	case operation.KindDrain:
		return f.arrived(ctx, tx, to, m)
	case operation.KindGas, operation.KindTopUp, operation.KindPermit: // no authorization carries them
	}
	return nil
}

// arrival credits money that left one of our accounts for an address that is also ours: another agent's wallet, or
// the platform. The ledger has it outside after the first half of the way.
func (f *Funding) arrival(to side, m evm.Movement) []ledger.Move {
	if to.account == f.platform.External {
		return nil
	}
	return []ledger.Move{{
		Verb: ledger.Transfer, Key: logKey(m) + ":in", Debit: f.platform.External, Credit: to.account, Amount: m.Amount, Code: "chain",
	}}
}

// arrived records an arrival in the receiving agent's history.
func (f *Funding) arrived(ctx context.Context, tx *Tx, to side, m evm.Movement) error {
	if to.agent == nil {
		return nil
	}
	if err := f.record(ctx, tx, to.agent, transaction.KindFund, m); err != nil {
		return err
	}
	return f.grantGas(ctx, tx, to.agent)
}

// opened makes a session usable: its deposit is there.
func (f *Funding) opened(ctx context.Context, tx *Tx, op *ent.Operation) error {
	v, err := tx.Session.Get(ctx, *op.SessionID)
	if err != nil {
		return err
	}
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), v.ID)
	if err != nil {
		return err
	}
	if _, err := tx.move(ctx, ledger.Move{Verb: ledger.Limit, Debit: owner, HoldsUntil: v.ExpiresUnix}); err != nil {
		return err
	}
	if err := tx.Session.Update().Where(session.ID(v.ID), session.StatusEQ(session.StatusOpening)).SetStatus(session.StatusOpen).Exec(ctx); err != nil {
		return err
	}
	return tx.sessionChanged(ctx, v)
}

// side is one end of a movement: one of our accounts, or the outside.
type side struct {
	account uuid.UUID
	agent   *ent.Agent
}

func (f *Funding) sideOf(ctx context.Context, tx *Tx, a common.Address) (side, error) {
	if a == f.keys.platformAddress() {
		return side{account: f.platform.Treasury}, nil
	}
	found, err := tx.Agent.Query().Where(agent.Address(a.Hex())).Only(ctx)
	if ent.IsNotFound(err) {
		return side{account: f.platform.External}, nil
	}
	if err != nil {
		return side{}, err
	}
	wallet, err := ledger.Find(ctx, tx.Client, ledger.Wallet, f.chainID(), found.ID)
	return side{account: wallet, agent: found}, err
}

// foreign books a movement that we did not order: a funding, or an owner who spends with an exported key.
func (f *Funding) foreign(ctx context.Context, tx *Tx, m evm.Movement) error {
	from, err := f.sideOf(ctx, tx, m.From)
	if err != nil {
		return err
	}
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil || from.account == to.account {
		return err
	}
	move := ledger.Move{
		Verb: ledger.Transfer, Key: logKey(m), LogKey: logKey(m), Debit: from.account, Credit: to.account, Amount: m.Amount, Code: "chain",
	}
	var pull *ent.Operation
	if to.agent != nil {
		if pull, err = f.pullOf(ctx, tx, m); err != nil {
			return err
		}
	}
	if pull != nil {
		move.Code, move.TransactionID = pull.Kind.String(), pull.TransactionID
	}
	r, err := tx.move(ctx, move)
	if err != nil || r.Repeated {
		return err
	}
	if pull != nil {
		return f.toppedUp(ctx, tx, to.agent, pull, m)
	}
	if from.agent != nil {
		if err := f.record(ctx, tx, from.agent, transaction.KindDrain, m); err != nil {
			return err
		}
	}
	return f.arrived(ctx, tx, to, m)
}

func (f *Funding) record(ctx context.Context, tx *Tx, a *ent.Agent, kind transaction.Kind, m evm.Movement) error {
	return tx.Transaction.Create().SetOrgID(a.OrgID).SetAgentID(a.ID).SetKind(kind).SetStatus(transaction.StatusSuccess).
		SetQuoted(m.Amount).SetAmount(m.Amount).SetFromAddress(m.From.Hex()).SetToAddress(m.To.Hex()).SetTxHash(m.TxHash.Hex()).
		SetNetwork(f.chain.Network().Name).SetCreatedAt(tx.Now).SetSettledAt(tx.Now).Exec(ctx)
}

// ExpireOperations ends the operations whose authorization is dead: the watcher has read past its time and has
// not seen it. The money is free again; a refund is begun anew by the session's own job.
func (f *Funding) ExpireOperations(ctx context.Context) error {
	at, err := f.db.readEnt.Cursor.Get(ctx, int(f.chainID()))
	if err != nil {
		return err
	}
	dead, err := f.db.readEnt.Operation.Query().Where(
		operation.StatusIn(operation.StatusAuthorized, operation.StatusSigned, operation.StatusSent, operation.StatusIncluded),
		operation.KindNotIn(operation.KindGas, operation.KindTopUp, operation.KindPermit), operation.ValidBeforeUnixLTE(at.TimeUnix),
	).Order(operation.ByID()).All(ctx)
	if err != nil {
		return err
	}
	for _, op := range dead {
		wait, err := f.usedLately(ctx, op.FromAddress, *op.AuthNonce, op.ValidBeforeUnix, at.TimeUnix)
		if err != nil {
			return err
		}
		if wait {
			continue
		}
		if err := f.expire(ctx, op); err != nil {
			return err
		}
	}
	return nil
}

func (f *Funding) expire(ctx context.Context, op *ent.Operation) error {
	return f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := tx.Operation.Update().Where(operation.ID(op.ID), operation.StatusEQ(op.Status)).SetStatus(operation.StatusExpired).Save(ctx)
		if err != nil || n == 0 {
			return err
		}
		if _, err := tx.move(ctx, ledger.Move{Verb: ledger.Void, HoldID: *op.HoldID}); err != nil {
			return err
		}
		if err := tx.Transaction.UpdateOneID(op.TransactionID).SetStatus(transaction.StatusFailed).SetAmount(0).SetSettledAt(tx.Now).
			SetReason("The authorization expired before it was mined: nothing moved").Exec(ctx); err != nil {
			return err
		}
		if op.Kind != operation.KindDeposit {
			return nil
		}
		if err := tx.Session.Update().Where(session.ID(*op.SessionID), session.StatusEQ(session.StatusOpening)).
			SetStatus(session.StatusFailed).SetClosedAt(tx.Now).Exec(ctx); err != nil {
			return err
		}
		v, err := tx.Session.Get(ctx, *op.SessionID)
		if err != nil {
			return err
		}
		return tx.sessionChanged(ctx, v)
	})
}
