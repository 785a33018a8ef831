package core

import (
	"context"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Payments by Permit2. A wallet signs each of them; besides, it must let Uniswap's contract of that name take its USDC. We
// see to that ourselves, by a permit that a relayer hands in: one that a seller sponsors is for one payment at a time, since
// the token counts the permits of a wallet. The allowance is bounded, as that contract holds the deposits of all sessions
// in its hands then: what is promised, and a reserve for the payments to come.

// Bounds of allowances.
const (
	allowWait   = 40 * time.Second // that a call waits for its allowance to be in a block
	refusedMost = 10               // of one number in refusedFor: each may have cost gas
	refusedFor  = time.Hour
)

// upToScheme is that of payments whose price is a maximum (specs/schemes/upto).
const upToScheme = "upto"

// wallet is who pays a call, and what it may do.
func (f *Payments) wallet(c *call) pay.Wallet {
	w := pay.Wallet{Network: f.chain.Network(), Address: c.payer}
	if f.reserve2 > 0 {
		w.Also = append(w.Also, pay.SignPermit2)
	}
	if c.mayTransfer() {
		w.Also = append(w.Also, pay.Transfer)
	}
	return w
}

// upTo reports whether a payment is charged what the chain shows, which may be less than what was reserved.
func upTo(t *ent.Transaction) bool { return t.Permit2 && t.Scheme == upToScheme }

// fits reports whether an amount that moved may be a payment's.
func fits(t *ent.Transaction, amount money.USDC) bool {
	return amount == t.Quoted || (upTo(t) && amount < t.Quoted)
}

// signature is what a wallet signs: its hash, the nonce under which the chain takes it once, and the first time at which the
// chain refuses it, in unix seconds.
type signature struct {
	digest, nonce common.Hash
	ends          int64
}

func signatureOf(in pay.Instruction, n evm.Network) signature {
	if in.Kind == pay.SignPermit2 { // taken while block time <= Deadline (SignatureTransfer.sol)
		return signature{in.Permit2.Digest(n.ChainID), in.Permit2.Nonce, in.Permit2.Deadline + 1}
	}
	return signature{in.Authorization.Digest(n.Domain()), in.Authorization.Nonce, in.Authorization.ValidBefore}
}

// prove signs what is reserved.
func (f *Payments) prove(ctx context.Context, c *call, d *decision) (pay.Proof, error) {
	in := d.instruction
	proof := pay.Proof{Authorization: in.Authorization, Permit2: in.Permit2, Identifier: pay.PaymentIdentifier(d.payment.ID)}
	if in.Kind == pay.SignPermit2 {
		if err := f.allow(ctx, c, d.payment); err != nil {
			return proof, err
		}
	}
	var err error
	proof.Signature, err = f.keys.signAs(c.signer(), c.payer, signatureOf(in, f.chain.Network()).digest)
	return proof, err
}

// signer is the agent whose key pays, or nil for the platform's.
func (c *call) signer() *ent.Agent {
	if c.prepaid != nil {
		return nil
	}
	return c.agent
}

// allow returns when Permit2 may take what the payer has promised, this payment among it.
func (f *Payments) allow(ctx context.Context, c *call, t *ent.Transaction) error {
	ctx, cancel := context.WithTimeout(ctx, allowWait)
	defer cancel()
	for wait := driveFirst; ; wait = min(2*wait, driveMost) {
		op, err := f.missing(ctx, c)
		if err != nil {
			return err
		}
		if op == uuid.Nil {
			return f.inTime(t)
		}
		if err := f.operations.Advance(ctx, op); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "operation waits", "operation_id", op, "error", err)
		}
		if pause(ctx, wait) != nil {
			return E(Timeout, "Permit2 has no allowance of the wallet's USDC yet: nothing was signed, and the same call may be made again")
		}
	}
}

// missing is the operation that must be waited for, or none when the allowance is there. It looks twice: a permit that was
// mined after the first look has its number, which the next one must not have for nothing.
func (f *Payments) missing(ctx context.Context, c *call) (uuid.UUID, error) {
	var need money.USDC
	var number uint64
	for look := range 2 {
		var err error
		if need, err = f.promised(ctx, c.payer.Hex()); err != nil {
			return uuid.Nil, err
		}
		has, err := f.chain.Allowance(ctx, c.payer, evm.Permit2)
		if err != nil {
			return uuid.Nil, unanswered(err)
		}
		if has >= need {
			return uuid.Nil, nil
		}
		if look == 0 {
			if number, err = f.chain.PermitNonce(ctx, c.payer); err != nil {
				return uuid.Nil, unanswered(err)
			}
		}
	}
	return f.allowance(ctx, c, number, need)
}

// inTime refuses a payment whose signature would not live long enough any more.
func (f *Payments) inTime(t *ent.Transaction) error {
	if f.clock().Add(pay.MinWindow).Unix() >= t.ValidBeforeUnix {
		return E(Timeout, "The service's offer has ended meanwhile: nothing was signed, and the same call may be made again")
	}
	return nil
}

// promised is what Permit2 may still be asked to take from a wallet.
func (f *Payments) promised(ctx context.Context, from string) (money.USDC, error) {
	var sum []struct {
		Sum money.USDC `json:"sum"`
	}
	err := f.db.writeEnt.Transaction.Query().Where(
		transaction.Permit2(true), transaction.FromAddress(from), transaction.ValidBeforeUnixGT(f.clock().Unix()), transaction.TxHashIsNil(),
		transaction.StatusNEQ(transaction.StatusFailed),
	).Aggregate(ent.As(ent.Sum(transaction.FieldQuoted), "sum")).Scan(ctx, &sum)
	if err != nil || len(sum) == 0 {
		return 0, err
	}
	return sum[0].Sum, nil
}

// allowance is the operation that lets Permit2 take as much, and a reserve, by the wallet's permit of a number. There is one
// for each number, and another only when that has failed.
func (f *Payments) allowance(ctx context.Context, c *call, n uint64, need money.USDC) (uuid.UUID, error) {
	key := fmt.Sprintf("allowance:%d:%s:%d:", f.chainID(), c.payer.Hex(), n)
	made := f.db.writeEnt.Operation.Query().Where(operation.KindEQ(operation.KindAllowance), operation.KeyHasPrefix(key))
	id, err := made.Clone().Where(operation.StatusNEQ(operation.StatusFailed)).FirstID(ctx)
	if !ent.IsNotFound(err) {
		return id, err
	}
	failed := made.Clone().Where(operation.StatusEQ(operation.StatusFailed))
	lately, err := failed.Clone().Where(operation.CreatedAtGT(f.now().Add(-refusedFor))).Count(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	tried, err := failed.Count(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	if lately >= refusedMost {
		return uuid.Nil, E(ServiceFailed, "The token does not let Permit2 have an allowance of the wallet")
	}
	head, err := f.chain.Head(ctx) // the token goes by the chain's time
	if err != nil {
		return uuid.Nil, unanswered(err)
	}
	permit := evm.Permit{Owner: c.payer, Spender: evm.Permit2, Value: need.Add(f.reserve2), Nonce: n, Deadline: head.Time.Add(permitLife).Unix()}
	sig, err := f.keys.signAs(c.signer(), c.payer, permit.Digest(f.chain.Network().Domain()))
	if err != nil {
		return uuid.Nil, err
	}
	id = uuid.Must(uuid.NewV7())
	err = f.db.writeEnt.Operation.Create().SetID(id).SetKey(fmt.Sprint(key, tried)).SetChainID(int64(f.chainID())).SetOrgID(c.agent.OrgID).
		SetAgentID(c.agent.ID).SetTransactionID(uuid.Nil).SetKind(operation.KindAllowance).SetFromAddress(permit.Owner.Hex()).
		SetToAddress(permit.Spender.Hex()).SetAmount(permit.Value).SetValidBeforeUnix(permit.Deadline).SetSignature(sig).SetCreatedAt(f.now()).Exec(ctx)
	if ent.IsConstraintError(err) { // another call was faster
		id, err = made.FirstID(ctx)
	}
	return id, err
}
