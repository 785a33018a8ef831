package core

import (
	"context"
	"errors"
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
	instruction, t, offer := d.instruction, d.payment, d.offer
	f.step(StepHeld)
	if instruction.Kind == pay.Transfer {
		return f.transfer(ctx, c, d)
	}
	proof := pay.Proof{Authorization: instruction.Authorization}
	var signer *ent.Agent
	if c.prepaid == nil {
		signer = c.agent
	}
	if proof.Signature, err = f.keys.sign(signer, f.chain.Network(), proof.Authorization); err != nil {
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
	again       bool // payment is a transfer of an earlier call
}

// decide says whether an offer is taken, and how: what it costs is reserved when it returns without an error.
func (f *Payments) decide(ctx context.Context, c *call, protocols []pay.Protocol, q pay.Quote) (*decision, error) {
	id := uuid.Must(uuid.NewV7())
	d, err := f.choose(c, protocols, q, id)
	if err != nil {
		return nil, err
	}
	if d.instruction.Kind == pay.Transfer {
		if d.payment, err = f.owed(ctx, c, d.offer); err != nil || d.payment != nil {
			d.again = d.payment != nil
			return d, err
		}
	}
	if err := f.affordable(c, d.offer); err != nil {
		return nil, err
	}
	d.payment, err = f.secure(ctx, c, id, d.offer, d.instruction.Authorization)
	return d, err
}

// secure is reserve, again when the policy has changed meanwhile.
func (f *Payments) secure(ctx context.Context, c *call, id uuid.UUID, o pay.Offer, auth evm.Authorization) (*ent.Transaction, error) {
	t, err := f.reserve(ctx, c, id, o, auth)
	for tries := 1; errors.Is(err, ledger.ErrChanged) && tries < maxTxTries; tries++ {
		if err = f.reload(ctx, c); err == nil {
			t, err = f.reserve(ctx, c, id, o, auth)
		}
	}
	return t, err
}

// choose takes the cheapest offer for which something can be signed: one may have ended since it was read.
func (f *Payments) choose(c *call, protocols []pay.Protocol, q pay.Quote, id uuid.UUID) (*decision, error) {
	var why error
	for i, o := range q.Offers {
		protocol, known := pay.ByName(protocols, o.Protocol)
		if !known {
			continue
		}
		instruction, err := protocol.Instruct(o, c.payer, f.clock(), f.nonce("payment", id))
		if err == nil && (instruction.Kind == pay.SignAuthorization || instruction.Kind == pay.Transfer) {
			c.why.Chosen = &i
			return &decision{protocol: protocol, offer: o, instruction: instruction}, nil
		}
		why = errors.Join(why, err)
	}
	return nil, E(ServiceFailed, "The service's offer cannot be taken: %v", why)
}

// affordable asks the rules about a price that need neither counters nor locks.
func (f *Payments) affordable(c *call, o pay.Offer) error {
	if c.target.url.Scheme != "https" && !f.chain.Network().Testnet {
		return E(InvalidRequest, "A service is paid over https only: anybody on the way could change who is paid")
	}
	if c.in.MaxCost != nil {
		c.why.Rules = append(c.why.Rules, figure(ruleMaxCost, 0, o.Amount, *c.in.MaxCost))
		if o.Amount > *c.in.MaxCost {
			return E(CostExceedsMax, "Price %s exceeds the maximum of %s", o.Amount.CostUSD(), c.in.MaxCost.RemainingUSD())
		}
	}
	c.why.Rules = append(c.why.Rules, figure(ruleCeiling, 0, o.Amount, f.maxPay))
	if o.Amount > f.maxPay {
		return E(SpendingLimit, "Price %s exceeds this server's ceiling of %s", o.Amount.CostUSD(), f.maxPay.RemainingUSD())
	}
	return nil
}

// nonce derives an authorization's nonce from the record that it is for: signing the same record again gives
// the same authorization, which the token executes once.
func (s *store) nonce(what string, id uuid.UUID) common.Hash {
	return crypto.Keccak256Hash([]byte("bursar "+what), evm.Uint256(s.chainID()), id[:])
}

// reserve makes the hold and the history record, in one commit, if every limit allows it.
func (f *Payments) reserve(ctx context.Context, c *call, id uuid.UUID, o pay.Offer, auth evm.Authorization) (*ent.Transaction, error) {
	now := f.now()
	counters := c.budget.Counters(now)
	nonce := auth.Nonce.Hex()
	t := &ent.Transaction{
		ID: id, CreatedAt: now, OrgID: c.agent.OrgID, AgentID: c.agent.ID, Kind: transaction.KindPayment, Status: transaction.StatusPending,
		Quoted: o.Amount, FromAddress: c.payer.Hex(), ToAddress: o.PayTo.Hex(), Service: c.target.service, Endpoint: c.target.endpoint(),
		Method: c.request.Method, Protocol: o.Protocol, Scheme: o.Scheme, Network: o.Network.Name, AuthNonce: &nonce, ValidBeforeUnix: auth.ValidBefore,
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
	if c.prepaid != nil {
		t.SessionID, hold.Credit = &c.prepaid.session.ID, f.platform.Clearing
		hold.Counters = append(hold.Counters, sessionCounter(c.prepaid.session.ID))
	}
	digest := auth.Digest(o.Network.Domain()).Hex()
	rows := c.run.begunRows(id)
	switch {
	case c.entry != nil:
		digest = c.entry.bill(t, &hold)
	case o.Kind == pay.Transfer:
		digest, rows = "", append(rows, f.byTransfer(t, &hold))
	}
	r, err := f.commit(ctx, unit{
		guard: ledger.Guard{Agent: c.agent.ID, Rules: c.from.rules, Credential: c.p.CredentialID},
		moves: []ledger.Move{hold},
		rows: func(_ time.Time, r ledger.Result) []ledger.Row {
			return append(rows, addPayment(t), c.allowedRow(t, digest, r.Accounts[c.account].Available()))
		},
		done: []Outcome{PaymentReserved},
	})
	if errors.Is(err, ledger.ErrMissed) {
		return nil, errRuns // the key's row is another run's now
	}
	if sqlgraph.IsUniqueConstraintError(err) { // of auth_nonce, which MPP takes from the challenge
		return nil, E(ServiceFailed, "The service asks by a challenge that was answered before")
	}
	if err != nil {
		return nil, err
	}
	c.run.noted()
	c.saw(r)
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
