package core

import (
	"context"
	"errors"
	"slices"
	"time"

	"entgo.io/ent/dialect/sql/sqlgraph"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// pay takes the cheapest offer.
func (f *Payments) pay(ctx context.Context, c *call, q pay.Quote) (*FetchResult, error) {
	d, err := f.decide(ctx, c, f.protocols, q)
	if err != nil {
		return nil, f.refused(ctx, c, err)
	}
	return f.complete(ctx, c, d)
}

// complete pays what is reserved: sign, send once, and book what the answer tells.
func (f *Payments) complete(ctx context.Context, c *call, d *decision) (_ *FetchResult, err error) {
	t, offer := d.payment, d.offer
	f.step(StepHeld)
	if d.instruction.Kind == pay.Transfer {
		return f.transfer(ctx, c, d)
	}
	proof, err := f.prove(ctx, c, d)
	if err != nil {
		return nil, f.giveUp(ctx, t, err)
	}
	paid := &pay.Request{Method: c.request.Method, URL: c.request.URL, Header: c.request.Header.Clone(), Body: c.request.Body}
	if err := d.protocol.Attach(paid, offer, proof); err != nil {
		return nil, f.giveUp(ctx, t, err)
	}
	f.step(StepSigned)
	// From here on the money may be gone, whatever happens: the request and the books outlive the caller.
	x, sendErr := f.sendOnce(context.WithoutCancel(ctx), paid, clampTimeout(c.in.Timeout))
	f.step(StepPaid)
	bookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterPayment)
	defer cancel()
	err = f.book(bookCtx, c, t, d.protocol, offer, x, sendErr)
	f.step(StepBooked)
	if err != nil {
		return nil, err
	}
	return f.deliver(ctx, c, x, t)
}

// decision is what a call pays, and how.
type decision struct {
	protocol    pay.Protocol
	offer       pay.Offer
	instruction pay.Instruction
	payment     *ent.Transaction
	again       bool        // payment is a transfer of an earlier call
	hand        uuid.UUID   // by which the call has its transfer
	shown       common.Hash // of its transaction, when the service last saw it

	memory   *memory
	found    []policy.Finding // rules of caution that the offer falls under
	approval *ent.Approval    // a person's yes, where one is needed; nil: there is none yet
}

// nonce derives an authorization's nonce from the record that it is for: signing the same record again gives
// the same authorization, which the token executes once.
func (s *store) nonce(what string, id uuid.UUID) common.Hash {
	return crypto.Keccak256Hash([]byte("bursar "+what), evm.Uint256(s.chainID()), id[:])
}

// reserve makes the hold and the history record, in one commit, if every limit allows it.
func (f *Payments) reserve(ctx context.Context, c *call, id uuid.UUID, d *decision) (*ent.Transaction, error) {
	now, o := f.now(), d.offer
	counters := c.budget.Counters(now)
	proof := signatureOf(d.instruction, o.Network)
	nonce := proof.nonce.Hex()
	t := &ent.Transaction{
		ID: id, CreatedAt: now, OrgID: c.agent.OrgID, AgentID: c.agent.ID, Kind: transaction.KindPayment, Status: transaction.StatusPending,
		Quoted: o.Amount, FromAddress: c.payer.Hex(), ToAddress: o.PayTo.Hex(), Service: c.target.service, Endpoint: c.target.endpoint(),
		Method: c.request.Method, Protocol: o.Protocol, Scheme: o.Scheme, Network: o.Network.Name, AuthNonce: &nonce, ValidBeforeUnix: proof.ends,
		Permit2: d.instruction.Kind == pay.SignPermit2,
	}
	hold := ledger.Move{
		Verb: ledger.Hold, ID: uuid.Must(uuid.NewV7()), Key: "fetch:" + id.String(), Debit: c.account, Credit: f.platform.External, Amount: o.Amount,
		Code: "fetch", TransactionID: id, Counters: counters.Raise, Read: counters.Read,
		Check: func(spent map[string]money.USDC) error {
			c.weighed = c.budget.Weigh(now, o.Amount, spent)
			return policy.Verdict(c.weighed)
		},
	}
	t.HoldID = &hold.ID
	if c.p.CredentialID != uuid.Nil {
		t.CredentialID = &c.p.CredentialID
	}
	if !c.shown {
		t.PriceID = &c.place.price
	}
	if c.prepaid != nil {
		t.SessionID, hold.Credit = &c.prepaid.session.ID, f.platform.Clearing
		hold.Counters = append(hold.Counters, sessionCounter(c.prepaid.session.ID))
	}
	digest := proof.digest.Hex()
	rows := c.run.begunRows(id)
	switch {
	case c.entry != nil:
		digest = c.entry.bill(t, &hold)
	case o.Kind == pay.Transfer:
		digest, rows = "", append(rows, f.byTransfer(d, t, &hold))
	}
	r, err := f.commit(ctx, unit{
		guard: ledger.Guard{Agent: c.agent.ID, Rules: c.from.rules, Credential: c.p.CredentialID},
		moves: []ledger.Move{hold},
		rows: func(_ time.Time, r ledger.Result) []ledger.Row {
			rows := append(rows, c.paymentRow(t, d), c.allowedRow(t, digest, r.Accounts[c.account].Available()))
			return slices.Concat(rows, c.memoryRows(t, d), d.useApproval(t))
		},
		news: d.news(),
		done: []Outcome{PaymentReserved},
	})
	if sqlgraph.IsUniqueConstraintError(err) { // of auth_nonce, which MPP takes from the challenge
		return nil, E(ServiceFailed, "The service asks by a challenge that was answered before")
	}
	if err != nil {
		return nil, err
	}
	c.run.noted()
	c.saw(r)
	c.usual = d.memory.usual(o)
	return t, nil
}

// saw keeps the newest state of the session's account.
func (c *call) saw(r ledger.Result) {
	if c.prepaid == nil {
		return
	}
	if a, ok := r.Accounts[c.account]; ok {
		c.prepaid = &prepaid{session: c.prepaid.session, account: a}
	}
}

// reload reads the agent and its limits again, and judges what needs no price.
func (f *Payments) reload(ctx context.Context, c *call) error {
	c.p.payer = nil
	if err := f.load(ctx, c, c.agent.ID); err != nil {
		return err
	}
	if c.p.CredentialID != uuid.Nil {
		if err := f.stillValid(ctx, c.p.CredentialID); err != nil {
			return err
		}
	}
	return c.checkService()
}

// stillValid refuses a credential that has ended since the request came in.
func (f *Payments) stillValid(ctx context.Context, id uuid.UUID) error {
	k, err := f.db.writeEnt.APIKey.Get(ctx, id)
	if err != nil {
		return err
	}
	if k.RevokedAt != nil || (k.ExpiresAt != nil && !f.clock().Before(*k.ExpiresAt)) {
		return E(Unauthorized, "Invalid or revoked API key")
	}
	return nil
}

// giveUp frees a hold whose proof never left the process.
func (f *Payments) giveUp(ctx context.Context, t *ent.Transaction, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterPayment)
	defer cancel()
	return errors.Join(AsError(cause), f.release(ctx, t, "The proof could not be made"))
}
