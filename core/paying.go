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

// pay takes the cheapest offer: reserve, sign, send once, and book what the answer tells.
func (f *Payments) pay(ctx context.Context, c *call, q pay.Quote) (*FetchResult, error) {
	d, err := f.decide(ctx, c, f.protocols, q)
	if err != nil {
		return nil, f.refused(ctx, c, err)
	}
	instruction, t, offer := d.instruction, d.payment, d.offer
	f.step(StepHeld)
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
	paidCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), clampTimeout(c.in.Timeout))
	defer stop()
	resp, sendErr := f.sendOnce(paidCtx, paid)
	f.step(StepPaid)
	bookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterPayment)
	defer cancel()
	defer f.step(StepBooked)
	return f.book(bookCtx, c, t, d.protocol, offer, resp, sendErr)
}

// decision is what a call pays, and how.
type decision struct {
	protocol    pay.Protocol
	offer       pay.Offer
	instruction pay.Instruction
	payment     *ent.Transaction

	memory   *memory
	found    []policy.Finding // rules of caution that the offer falls under
	approval *ent.Approval    // a person's yes, where one is needed; nil: there is none yet
}

// errContended is for a call whose ground has changed under each of its judgements.
var errContended = &Error{Code: Conflict, Message: "What this call is judged by keeps changing", RetryAfter: time.Second}

// decide says whether an offer is taken, and how: what it costs is reserved when it returns without an error. What a
// judgement rests on is held to in the commit of the hold; when it has changed, the call is judged anew.
func (f *Payments) decide(ctx context.Context, c *call, protocols []pay.Protocol, q pay.Quote) (*decision, error) {
	id := uuid.Must(uuid.NewV7())
	patience, stop := context.WithTimeout(ctx, min(max(c.in.ApprovalWait, 0), maxApprovalWait))
	defer stop()
	seen := c.why
	seen.Rules, seen.Notes = slices.Clip(seen.Rules), slices.Clip(seen.Notes)
	for tries := 0; tries < maxTxTries; tries++ {
		c.why, c.weighed = seen, nil
		d, err := f.judge(ctx, c, protocols, q, id)
		if err != nil {
			return nil, err
		}
		if d.undecided() {
			if err := f.ask(ctx, patience, c, d); err != nil {
				return nil, err
			}
			tries-- // bounded by the patience
			err = f.reload(ctx, c)
		} else {
			d.payment, err = f.reserve(ctx, c, id, d)
			switch {
			case errors.Is(err, ledger.ErrChanged): // the policy, or the credential
				err = f.reload(ctx, c)
			case errors.Is(err, ledger.ErrMissed): // the key's row, whom the host was paid to, its price, or the approval
				err = c.run.owned(ctx)
			default:
				return d, err
			}
		}
		if err != nil {
			return nil, err
		}
		c.recall = f.readers.prices.ask(ctx, c.place.price)
	}
	return nil, errContended
}

// judge asks the rules that need neither counters nor locks.
func (f *Payments) judge(ctx context.Context, c *call, protocols []pay.Protocol, q pay.Quote, id uuid.UUID) (*decision, error) {
	m, err := f.recollect(ctx, c, q.Offers)
	if err != nil {
		return nil, err
	}
	d, err := f.choose(c, protocols, q, id, m)
	if err != nil {
		return nil, err
	}
	does, by := policy.Strongest(d.found)
	if does == policy.Refuse {
		c.compared(d)
		return nil, by[0].Denial()
	}
	if err := f.affordable(c, d.offer); err != nil {
		return nil, err
	}
	if does == policy.Approve {
		d.approval, err = f.approvals.standing(ctx, c, d.offer)
	}
	c.compared(d)
	return d, err
}

// choose takes the cheapest offer that the policy lets pass; if there is none, the cheapest that a person may let pass; else
// the cheapest. One for which nothing can be signed is left out: it may have ended since it was read.
func (f *Payments) choose(c *call, protocols []pay.Protocol, q pay.Quote, id uuid.UUID, m *memory) (*decision, error) {
	var best *decision
	var rank int
	var why error
	for i, o := range q.Offers {
		protocol, known := pay.ByName(protocols, o.Protocol)
		if !known {
			continue
		}
		instruction, err := protocol.Instruct(o, c.payer, f.clock(), f.nonce("payment", id))
		if err != nil || instruction.Kind != pay.SignAuthorization {
			why = errors.Join(why, err)
			continue
		}
		d := &decision{protocol: protocol, offer: o, instruction: instruction, memory: m, found: c.cautions(o, m)}
		does, _ := policy.Strongest(d.found)
		if r := slices.Index([]policy.Reaction{policy.Note, policy.Approve, policy.Refuse}, does); best == nil || r < rank {
			best, rank, c.why.Chosen = d, r, &i
		}
	}
	if best == nil {
		return nil, E(ServiceFailed, "The service's offer cannot be taken: %v", why)
	}
	return best, nil
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
func (f *Payments) reserve(ctx context.Context, c *call, id uuid.UUID, d *decision) (*ent.Transaction, error) {
	now, o, auth := f.now(), d.offer, d.instruction.Authorization
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
	r, err := f.commit(ctx, unit{
		guard: ledger.Guard{Agent: c.agent.ID, Rules: c.from.rules, Credential: c.p.CredentialID},
		moves: []ledger.Move{hold},
		rows: func(_ time.Time, r ledger.Result) []ledger.Row {
			rows := append(c.run.begunRows(id), c.paymentRow(t, d), c.allowedRow(t, digest, r.Accounts[c.account].Available()))
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
	return c.budget.Agent.CheckService(c.target.host, c.target.service, c.prepaid != nil)
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
