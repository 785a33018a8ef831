package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/pay"
)

// A transfer is a payment that is on the chain before the service has answered; the hash of its transaction is the proof.
// The money is gone when the hash is shown, and everybody can see the hash. So it is sent only where the owner's policy
// names the service; it travels in a transaction of its own, whose hash is nobody else's; it is shown at once, and again
// while the service has not seen its block; and should the call end without having been served, the next call of the same
// shows the same hash in place of paying again.

// Bounds of a transfer.
const (
	minedDeadline = 40 * time.Second                           // until it is in a block
	shownFor      = 10 * time.Second                           // to a service that answers that it is not paid
	shownAgain    = time.Hour                                  // since it was made, to a later call
	inHandFor     = minedDeadline + maxTimeout + 5*time.Minute // longer than a call that shows one takes, and than clocks differ
	showFirst     = 100 * time.Millisecond
	showMost      = 2 * time.Second
)

// mayTransfer reports whether a call may send money ahead: where the policy names the service. A policy that names any has
// let this call through because it names this one.
func (c *call) mayTransfer() bool { return len(c.budget.Agent.Allowed) > 0 }

func transferKey(payment uuid.UUID) string { return "transfer:" + payment.String() }

// byTransfer makes a payment and its hold those of a transfer, and returns the operation that makes it, in the hand of the
// call. The money leaves for the outside when the chain shows it, from a session too.
func (f *Payments) byTransfer(d *decision, t *ent.Transaction, hold *ledger.Move) ledger.Row {
	t.AuthNonce, t.ValidBeforeUnix, hold.Credit = nil, 0, f.platform.External
	d.hand = uuid.New()
	return ledger.Row{Into: addTransferRow, Values: []any{
		uuid.Must(uuid.NewV7()).String(), t.CreatedAt, transferKey(t.ID), int64(f.chainID()), t.OrgID.String(), t.AgentID.String(), optional(t.SessionID),
		t.ID.String(), hold.ID.String(), t.FromAddress, t.ToAddress, int64(t.Quoted), d.hand.String(), t.CreatedAt.Add(inHandFor).Unix(),
	}}
}

// transfer waits until the money is on the chain, shows the service its hash, and books what it answers.
func (f *Payments) transfer(caller context.Context, c *call, d *decision) (*FetchResult, error) {
	ctx := context.WithoutCancel(caller) // the money is on its way, whatever the caller does
	paid, err := f.proved(ctx, c, d)
	if err != nil {
		return nil, f.notShown(ctx, d, err)
	}
	f.step(StepMined)
	x, err := f.show(ctx, c, d, paid)
	f.step(StepPaid)
	if err != nil {
		return nil, f.notShown(ctx, d, err)
	}
	if err := f.taken(ctx, d, x); err != nil {
		x.end()
		return nil, unbooked(d.payment, err)
	}
	return f.deliver(caller, c, x, d.payment)
}

// proved is the request with the hash under which a block has the transfer now.
func (f *Payments) proved(ctx context.Context, c *call, d *decision) (*pay.Request, error) {
	hash, err := f.mined(ctx, d.payment)
	if err != nil {
		return nil, err
	}
	d.shown = hash
	paid := &pay.Request{Method: c.request.Method, URL: c.request.URL, Header: c.request.Header.Clone(), Body: c.request.Body}
	return paid, d.protocol.Attach(paid, d.offer, pay.Proof{TxHash: hash})
}

// taken notes what the head of the answer tells.
func (f *Payments) taken(ctx context.Context, d *decision, x *exchange) error {
	if x.status >= http.StatusBadRequest {
		_ = x.peek(pay.MaxBody + 1) // refusals say why
	}
	x.timer.Stop()
	receipt, err := d.protocol.Receipt(d.offer, x.response())
	if err != nil {
		receipt = pay.Receipt{Reason: err.Error()}
	}
	claim := claimed(receipt)
	if claim == "" && d.again { // it has been shown to two calls: a third pays anew
		claim = claimed(pay.Receipt{Known: true, Success: x.status < http.StatusBadRequest, Reason: receipt.Reason})
	}
	return f.handBack(ctx, d, x.status, claim)
}

// mined takes the operation of a transfer on until a block has it, and says by which hash. It asks the chain each time: a
// transfer that was un-mined since may come again in a transaction of another price, or of another relayer.
func (f *Payments) mined(ctx context.Context, t *ent.Transaction) (common.Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, minedDeadline)
	defer cancel()
	for wait := driveFirst; ; wait = min(2*wait, driveMost) {
		op, err := f.db.writeEnt.Operation.Query().Where(operation.Key(transferKey(t.ID))).Only(ctx)
		if err != nil {
			return common.Hash{}, err
		}
		switch op.Status {
		case operation.StatusIncluded, operation.StatusFinal:
			if hash, err := f.operations.minedAs(ctx, op); err == nil {
				return hash, nil
			}
		case operation.StatusExpired, operation.StatusFailed:
			return common.Hash{}, E(ServiceFailed, "The transfer could not be made: nothing was charged")
		case operation.StatusQueued, operation.StatusAuthorized, operation.StatusSigned, operation.StatusSent:
		}
		if err := f.operations.Advance(ctx, op.ID); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "operation waits", "operation_id", op.ID, "error", err)
		}
		if pause(ctx, wait) != nil {
			return common.Hash{}, E(Timeout, "The transfer is not in a block yet")
		}
	}
}

// minedAs is the hash of the transaction by which a block has moved an operation's money now; evm.ErrNotFound when none has.
func (o *Operations) minedAs(ctx context.Context, op *ent.Operation) (common.Hash, error) {
	r, err := o.chain.Receipt(ctx, common.HexToHash(*op.TxHash)) // of an earlier carrier, perhaps
	if errors.Is(err, evm.ErrNotFound) || (err == nil && !done(op, o.chain.Network().USDC, r)) {
		r, err = o.receipt(ctx, *op.ChainTxID)
	}
	if err == nil && !done(op, o.chain.Network().USDC, r) {
		err = evm.ErrNotFound
	}
	return r.TxHash, err
}

// show sends the request with the hash, and again while the service says that it is not paid: it may not have seen the block
// yet. The same transfer can be taken once.
func (f *Payments) show(ctx context.Context, c *call, d *decision, paid *pay.Request) (*exchange, error) {
	until, cancel := context.WithTimeout(ctx, shownFor)
	defer cancel()
	for wait := showFirst; ; wait = min(2*wait, showMost) {
		x, err := f.sendOnce(ctx, paid, clampTimeout(c.in.Timeout))
		if err != nil || x.status != http.StatusPaymentRequired || pause(until, wait) != nil {
			return x, err
		}
		x.end()
		if paid, err = f.proved(ctx, c, d); err != nil {
			return nil, err
		}
	}
}

// notShown is the error of a call whose money is on its way and that has no answer: another of the same goes on from there.
func (f *Payments) notShown(ctx context.Context, d *decision, cause error) error {
	t := d.payment
	if err := f.handBack(ctx, d, 0, ""); err != nil {
		return unbooked(t, err)
	}
	e := *AsError(cause)
	e.Payment = t.ID.String()
	if t.Status != transaction.StatusFailed {
		e.Message = fmt.Sprintf("%s; the payment was sent ahead. The same call within %s shows the service the same payment, and pays nothing more", e.Message, shownAgain)
	}
	return &e
}
