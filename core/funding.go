package core

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/ent/transfer"
	"bursar/evm"
	"bursar/money"
)

// Funding is money that comes into wallets and leaves them.
type Funding struct {
	*store
	operations *Operations
	reading    *together
}

// FundResult is the answer to an announced funding.
type FundResult struct {
	Funded       bool
	GasSponsored bool    // this funding was the wallet's first, and ether was sent to it
	GasTxHash    *string // of that grant
}

// Fund verifies that a transaction has brought amount to the agent's wallet and books it, once. The watcher
// finds unannounced funding as well; whichever comes second does nothing. key is the caller's own name for this
// request; nil: none.
func (f *Funding) Fund(ctx context.Context, p Principal, agentID uuid.UUID, txHash string, amount money.USDC, key *string) (*FundResult, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	a := ask{key, "agent.fund", []string{agentID.String(), strings.ToLower(txHash), amount.String()}}
	return once(ctx, f.store, p, a, nil, func(*run) (*FundResult, error) { return f.announce(ctx, p, agentID, txHash, amount) }) // again books nothing more
}

func (f *Funding) announce(ctx context.Context, p Principal, agentID uuid.UUID, txHash string, amount money.USDC) (*FundResult, error) {
	hash, err := parseHash(txHash)
	if err != nil {
		return nil, err
	}
	if amount <= 0 {
		return nil, E(InvalidRequest, "amount must be positive")
	}
	a, err := of(p, f.db.readEnt).agent(agentID).Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	m, err := f.announced(ctx, p, hash, common.HexToAddress(a.Address), amount)
	if err != nil {
		return nil, err
	}
	if err := f.ReadChain(ctx); err != nil {
		return nil, err
	}
	booked, err := f.db.readEnt.Transfer.Query().Where(transfer.LogKey(logKey(m))).Exist(ctx)
	if err != nil {
		return nil, err
	}
	if !booked {
		return nil, E(InvalidRequest, "Transaction not confirmed")
	}
	return f.fundResult(ctx, agentID, hash)
}

func parseHash(text string) (common.Hash, error) {
	digits, ok := strings.CutPrefix(strings.ToLower(text), "0x")
	if !ok || len(digits) != 2*common.HashLength || strings.Trim(digits, "0123456789abcdef") != "" {
		return common.Hash{}, E(InvalidRequest, "tx_hash must be a transaction hash")
	}
	return common.HexToHash(digits), nil
}

// announced finds the movement that a caller speaks of in the transaction's receipt.
func (f *Funding) announced(ctx context.Context, p Principal, hash common.Hash, to common.Address, amount money.USDC) (evm.Movement, error) {
	r, err := f.chain.Receipt(ctx, hash)
	if errors.Is(err, evm.ErrNotFound) {
		return evm.Movement{}, E(InvalidRequest, "Transaction not confirmed")
	}
	if err != nil {
		return evm.Movement{}, &Error{Code: ServiceFailed, Message: "The network did not answer", Err: err}
	}
	if !r.OK {
		return evm.Movement{}, E(InvalidRequest, "The transaction was reverted")
	}
	moved := evm.MovementsOf(f.chain.Network().USDC, r.Logs)
	for _, m := range moved {
		if m.To == to && m.Amount == amount {
			return m, nil
		}
	}
	for _, m := range moved {
		if other, err := of(p, f.db.readEnt).agents().Where(agent.Address(m.To.Hex())).Exist(ctx); err == nil && other && m.To != to {
			return evm.Movement{}, E(Conflict, "The transaction funds another agent")
		}
	}
	return evm.Movement{}, E(InvalidRequest, "The transaction does not bring %s atomic USDC to this agent", amount)
}

func (f *Funding) fundResult(ctx context.Context, agentID uuid.UUID, hash common.Hash) (*FundResult, error) {
	out := &FundResult{Funded: true}
	first, err := f.db.readEnt.Transaction.Query().Where(transaction.AgentID(agentID), transaction.KindIn(transaction.KindFund, transaction.KindAutoTopup), transaction.StatusEQ(transaction.StatusSuccess)).
		Order(transaction.ByCreatedAt(), transaction.ByID()).First(ctx)
	if err != nil {
		return nil, missing(err, "Funding")
	}
	if first.TxHash == nil || !strings.EqualFold(*first.TxHash, hash.Hex()) {
		return out, nil
	}
	op, err := f.db.readEnt.Operation.Query().Where(operation.Key(gasKey(agentID))).Only(ctx)
	if ent.IsNotFound(err) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if err := f.operations.Advance(ctx, op.ID); err != nil {
		f.log.WarnContext(ctx, "gas grant does not advance", "operation_id", op.ID, "error", err)
	}
	if op, err = f.db.readEnt.Operation.Get(ctx, op.ID); err != nil {
		return nil, err
	}
	out.GasSponsored, out.GasTxHash = op.TxHash != nil, op.TxHash
	return out, nil
}

func gasKey(agentID uuid.UUID) string { return "gas:" + agentID.String() }

// minGasFunding is what a wallet must have received for its gas grant: a grant for a speck of dust could be farmed.
const minGasFunding = money.One

// grantGas queues the one gas grant of a wallet, with the funding that brings it to the minimum.
func (f *Funding) grantGas(ctx context.Context, tx *Tx, a *ent.Agent) error {
	if f.gasGrant == nil || f.gasGrant.Sign() <= 0 {
		return nil
	}
	wallet, err := ledger.Find(ctx, tx.Client, ledger.Wallet, f.chainID(), a.ID)
	if err != nil {
		return err
	}
	state, err := tx.Account.Get(ctx, wallet)
	if err != nil || state.CreditsPosted < minGasFunding {
		return err
	}
	given, err := tx.Operation.Query().Where(operation.Key(gasKey(a.ID))).Exist(ctx)
	if err != nil || given {
		return err
	}
	_, err = f.operations.queue(ctx, tx, newOperation{
		Key: gasKey(a.ID), Kind: operation.KindGas, History: transaction.KindGasSponsor, OrgID: a.OrgID, AgentID: a.ID,
		From: f.keys.relayerAddress(), To: common.HexToAddress(a.Address), Wei: new(big.Int).Set(f.gasGrant),
	})
	return err
}

// DrainResult says what left a wallet.
type DrainResult struct {
	Drained bool
	Amount  money.USDC
	TxHash  *string
	To      string
}

// Drain sends everything that is free in an agent's wallet to its owner's address. The amount is the available
// balance at the moment of the hold, never "max". to may name the owner's stored address only; empty means it.
// key is the caller's own name for this request; nil: none.
func (f *Funding) Drain(ctx context.Context, p Principal, agentID uuid.UUID, to string, key *string) (*DrainResult, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	a := ask{key, "agent.drain", []string{agentID.String(), strings.ToLower(to)}}
	return once(ctx, f.store, p, a, f.begunDrain, func(r *run) (*DrainResult, error) { return f.drainAgent(ctx, p, agentID, to, r) })
}

func (f *Funding) drainAgent(ctx context.Context, p Principal, agentID uuid.UUID, to string, r *run) (*DrainResult, error) {
	a, err := of(p, f.db.readEnt).agent(agentID).Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	d, err := f.drain(ctx, a, to, r)
	if err == nil && !d.Drained {
		return nil, E(InvalidRequest, "Nothing to drain")
	}
	return d, err
}

func (f *Funding) drain(ctx context.Context, a *ent.Agent, to string, r *run) (*DrainResult, error) {
	dest, err := f.payoutAddress(ctx, a, to)
	if err != nil {
		return nil, err
	}
	out := &DrainResult{To: dest.Hex()}
	var op uuid.UUID
	err = f.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		wallet, err := ledger.Find(ctx, tx.Client, ledger.Wallet, f.chainID(), a.ID)
		if err != nil {
			return err
		}
		acc, err := tx.Account.Get(ctx, wallet)
		if err != nil {
			return err
		}
		if out.Amount = ledger.StateOf(acc).Available(); out.Amount <= 0 {
			out.Amount = 0
			return nil
		}
		out.Drained = true
		op, err = f.operations.queue(ctx, tx, newOperation{
			Key: fmt.Sprintf("drain:%s:%d", a.ID, acc.Version), Kind: operation.KindDrain, History: transaction.KindDrain,
			OrgID: a.OrgID, AgentID: a.ID, From: common.HexToAddress(a.Address), To: dest, Debit: wallet, Credit: f.platform.External, Amount: out.Amount,
		})
		if err != nil {
			return err
		}
		return r.began(ctx, tx, op)
	})
	if err != nil || !out.Drained {
		return out, err
	}
	f.drive(ctx, op, openDeadline)
	done, err := f.db.readEnt.Operation.Get(ctx, op)
	if err != nil {
		return nil, err
	}
	out.TxHash = done.TxHash
	return out, nil
}

// payoutAddress is the owner's stored address; a request may repeat it, not replace it.
func (f *Funding) payoutAddress(ctx context.Context, a *ent.Agent, to string) (common.Address, error) {
	owner, err := f.db.readEnt.User.Get(ctx, a.OwnerID)
	if err != nil {
		return common.Address{}, err
	}
	if owner.WalletAddress == nil {
		return common.Address{}, E(InvalidRequest, "The owner has no wallet address yet: set one before draining, by GraphQL setWalletAddress with the owner's login")
	}
	dest := common.HexToAddress(*owner.WalletAddress)
	if dest.Hex() == a.Address {
		return common.Address{}, E(InvalidRequest, "The owner's wallet address is this agent's own")
	}
	if to == "" {
		return dest, nil
	}
	asked, err := parseAddress(to)
	if err != nil {
		return common.Address{}, err
	}
	if asked != dest {
		return common.Address{}, E(Forbidden, "Drains go to the owner's own wallet only")
	}
	return dest, nil
}

// The pauses of drive grow from the first to the second, so that a slow chain is not asked a thousand times.
const (
	driveFirst = 25 * time.Millisecond
	driveMost  = time.Second
)

// drive takes an operation to its end together with the watcher, for a caller who waits. Running out of time is
// no error: the jobs go on.
func (f *Funding) drive(ctx context.Context, id uuid.UUID, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := driveFirst; ; wait = min(2*wait, driveMost) {
		if err := errors.Join(f.operations.Advance(ctx, id), f.ReadChain(ctx)); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "operation waits", "operation_id", id, "error", err)
		}
		op, err := f.db.readEnt.Operation.Get(ctx, id)
		if err != nil {
			return
		}
		switch op.Status {
		case operation.StatusFinal, operation.StatusExpired, operation.StatusFailed:
			return
		case operation.StatusQueued, operation.StatusAuthorized, operation.StatusSigned, operation.StatusSent, operation.StatusIncluded:
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// pause waits for d, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
