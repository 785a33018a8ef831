package core

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/operation"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/ent/transfer"
	"bursar/evm"
)

// movement is one that the chain shows, with the key under which it is booked.
type movement struct {
	evm.Movement
	key string
}

// logKey names a log. The block's hash belongs to it: after a reorganisation the same transaction may stand in another
// block, and is then another log.
func logKey(m evm.Movement) string {
	return fmt.Sprintf("log:%s:%d:%s", m.TxHash.Hex(), m.LogIndex, m.BlockHash.Hex())
}

// freshKey is the key under which a log counts now. One that was booked and taken back has a number more: its block may
// return when the chain changes its mind twice.
func freshKey(ctx context.Context, c *ent.Client, m evm.Movement) (string, error) {
	key := logKey(m)
	for n := 1; ; n++ {
		undone, err := c.Transfer.Query().Where(transfer.Key(undoKey(key))).Exist(ctx)
		if err != nil || !undone {
			return key, err
		}
		key = fmt.Sprintf("%s#%d", logKey(m), n)
	}
}

func undoKey(key string) string { return "undo:" + key }

// apply books one movement: the end of an operation or a payment of ours, told by its authorization, or money
// that somebody else has moved.
//
// An owner with an exported key can use the nonce of one of our authorizations for a transfer of another kind, and
// a hold may have been given up before. What is not exactly the movement that we wait for is therefore booked as
// anybody's; the operation or payment whose nonce it took ends by its own expiry.
func (f *Funding) apply(ctx context.Context, tx *Tx, seen told) error {
	key, err := freshKey(ctx, tx.Client, seen.Movement)
	if err != nil {
		return err
	}
	if err := f.remember(ctx, tx, seen.Block, seen.BlockHash, 0); err != nil {
		return err
	}
	m := movement{seen.Movement, key}
	if seen.payment != nil {
		return f.throughPermit2(ctx, tx, m, seen.payment.ID)
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
func (f *Funding) ordered(ctx context.Context, tx *Tx, m movement, nonce string) (bool, error) {
	op, err := tx.Operation.Query().Where(operation.AuthNonce(nonce), operation.FromAddress(m.From.Hex())).Only(ctx)
	if err == nil {
		ended := op.Status == operation.StatusFinal || op.Status == operation.StatusExpired || op.Status == operation.StatusFailed
		switch {
		case m.To.Hex() != op.ToAddress || m.Amount != op.Amount:
			return false, nil
		case op.Status == operation.StatusExpired && pays(op.Kind):
			return true, f.finishLate(ctx, tx, op, m)
		case ended:
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
	return f.settles(ctx, tx, t, m)
}

// throughPermit2 books a movement that was found to be of a payment through Permit2. errMoved: another process has found
// otherwise meanwhile, and what is left is told apart anew.
func (f *Funding) throughPermit2(ctx context.Context, tx *Tx, m movement, payment uuid.UUID) error {
	booked, err := tx.Transfer.Query().Where(transfer.LogKey(m.key)).Exist(ctx)
	if err != nil || booked {
		return err
	}
	t, err := tx.Transaction.Get(ctx, payment)
	if err != nil {
		return err
	}
	booked, err = f.settles(ctx, tx, t, m)
	if err == nil && !booked {
		err = errMoved
	}
	return err
}

// settles books a movement by which a payment is settled, and reports whether it is.
func (f *Funding) settles(ctx context.Context, tx *Tx, t *ent.Transaction, m movement) (bool, error) {
	if t.TxHash != nil || m.To.Hex() != t.ToAddress || !fits(t, m.Amount) || t.HoldID == nil {
		return false, nil
	}
	if t.Status == transaction.StatusFailed || (t.Status == transaction.StatusSuccess && t.Amount == 0) {
		return true, f.settleLate(ctx, tx, t, m)
	}
	return true, f.settlePayment(ctx, tx, t, m)
}

// finishOperation posts an operation's hold and does what follows from it. before is moved first.
func (f *Funding) finishOperation(ctx context.Context, tx *Tx, op *ent.Operation, m movement, before ...ledger.Move) error {
	to := side{account: f.platform.External}
	var err error
	if arrives(op.Kind) && (op.Kind != operation.KindCharge || m.To != f.keys.platformAddress()) {
		if to, err = f.sideOf(ctx, tx, m.To); err != nil {
			return err
		}
	}
	post := ledger.Move{Verb: ledger.Post, HoldID: *op.HoldID, Amount: op.Amount, LogKey: m.key, Block: m.Block}
	units := apart(slices.Concat(before, []ledger.Move{post}, f.arrival(to, m)))
	if op.Kind == operation.KindTransfer {
		t, err := tx.Transaction.Get(ctx, op.TransactionID)
		if err != nil {
			return err
		}
		units[len(before)].Rows = func(ledger.Result) []ledger.Row { return charged(t, m.Amount) }
	}
	results, err := tx.units(ctx, units...)
	if err != nil || results[0].Repeated {
		return err
	}
	if err := finish(ctx, tx, op, m.TxHash.Hex(), m.Block); err != nil {
		return err
	}
	switch op.Kind {
	case operation.KindDeposit:
		return f.opened(ctx, tx, op)
	case operation.KindRefund:
		return f.refunded(ctx, tx, op)
	case operation.KindDrain, operation.KindPayout:
		return f.arrived(ctx, tx, to, m)
	case operation.KindCharge, operation.KindTransfer:
		return errors.Join(f.arrived(ctx, tx, to, m), tx.chargeEnded(ctx, op, PaymentCharged))
	case operation.KindGas, operation.KindTopUp, operation.KindPermit, operation.KindAllowance: // no authorization carries them
	}
	return nil
}

// pays tells the operations that are a call's payment.
func pays(k operation.Kind) bool { return k == operation.KindCharge || k == operation.KindTransfer }

// arrives tells the operations that may pay an address of ours, besides those whose way the ledger knows.
func arrives(k operation.Kind) bool {
	return k == operation.KindDrain || k == operation.KindPayout || pays(k)
}

// arrival credits money that left one of our accounts for an address that is also ours: another agent's wallet, or
// the platform. The ledger has it outside after the first half of the way.
func (f *Funding) arrival(to side, m movement) []ledger.Move {
	if to.account == f.platform.External {
		return nil
	}
	return []ledger.Move{{
		Verb: ledger.Transfer, Key: m.key + ":in", Debit: f.platform.External, Credit: to.account, Amount: m.Amount, Code: "chain", Block: m.Block,
	}}
}

// arrived records an arrival in the receiving agent's history.
func (f *Funding) arrived(ctx context.Context, tx *Tx, to side, m movement) error {
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
	n, err := tx.Session.Update().Where(session.ID(*op.SessionID), session.StatusEQ(session.StatusOpening)).SetStatus(session.StatusOpen).Save(ctx)
	if err != nil || n == 0 {
		return err
	}
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
	return tx.sessionChanged(ctx, v)
}

// refunded closes a session whose refund has arrived. What has come back to it since the refund was made keeps it
// closing; its job sends that on.
func (f *Funding) refunded(ctx context.Context, tx *Tx, op *ent.Operation) error {
	owner, err := ledger.Find(ctx, tx.Client, ledger.Session, f.chainID(), *op.SessionID)
	if err != nil {
		return err
	}
	left, err := tx.Account.Get(ctx, owner)
	if err != nil || ledger.StateOf(left).Balance() > 0 {
		return err
	}
	n, err := tx.Session.Update().Where(session.ID(*op.SessionID), session.StatusEQ(session.StatusClosing)).
		SetStatus(session.StatusClosed).SetClosedAt(tx.Now).Save(ctx)
	if err != nil || n == 0 {
		return err
	}
	v, err := tx.Session.Get(ctx, *op.SessionID)
	if err != nil {
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
func (f *Funding) foreign(ctx context.Context, tx *Tx, m movement) error {
	from, err := f.sideOf(ctx, tx, m.From)
	if err != nil {
		return err
	}
	to, err := f.sideOf(ctx, tx, m.To)
	if err != nil || from.account == to.account {
		return err
	}
	if from.account == f.platform.Treasury {
		if booked, err := tx.Transfer.Query().Where(transfer.LogKey(m.key)).Exist(ctx); err != nil || booked {
			return err // as one of ours: the range is read again
		}
		if from.account, err = f.unordered(ctx, tx, m); err != nil {
			return err
		}
	}
	move := ledger.Move{
		Verb: ledger.Transfer, Key: m.key, LogKey: m.key, Block: m.Block, Debit: from.account, Credit: to.account, Amount: m.Amount, Code: "chain",
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

// unordered says what pays for money that left the platform's address although nothing here ordered it: the
// operator's own, as far as it goes. Beyond it somebody else has the key or the database is an old one; the books say
// so by a suspense account below zero, and go on.
func (f *Funding) unordered(ctx context.Context, tx *Tx, m movement) (uuid.UUID, error) {
	own, err := tx.Account.Get(ctx, f.platform.Treasury)
	if err != nil {
		return uuid.Nil, err
	}
	if ledger.StateOf(own).Available() >= m.Amount {
		return f.platform.Treasury, nil
	}
	f.log.ErrorContext(ctx, "money left the platform's address that nothing here has ordered", "tx_hash", m.TxHash, "amount", m.Amount)
	return f.platform.Suspense, nil
}

func (f *Funding) record(ctx context.Context, tx *Tx, a *ent.Agent, kind transaction.Kind, m movement) error {
	return tx.Transaction.Create().SetOrgID(a.OrgID).SetAgentID(a.ID).SetKind(kind).SetStatus(transaction.StatusSuccess).
		SetQuoted(m.Amount).SetAmount(m.Amount).SetFromAddress(m.From.Hex()).SetToAddress(m.To.Hex()).SetTxHash(m.TxHash.Hex()).
		SetNetwork(f.chain.Network().Name).SetCreatedAt(tx.Now).SetSettledAt(tx.Now).Exec(ctx)
}
