package core

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Payments call paid services on an agent's behalf.
type Payments struct {
	*store
	sessions *Sessions
}

// afterPayment is how long the books may take once a proof has left, whatever the caller does.
const afterPayment = 15 * time.Second

// FetchInput is one call that an agent wants made. Exactly one of Agent and DefaultWallet counts.
type FetchInput struct {
	Agent         string // id, name or slug; empty: the only active agent
	DefaultWallet bool   // the Agnic surface: the principal's default wallet pays
	SessionID     string // pay from this session; empty: the wallet pays
	Method, URL   string
	Header        http.Header
	Body          []byte
	MaxCost       *money.USDC   // nil: the policy and the server's ceiling alone
	Timeout       time.Duration // zero: 30 s; clamped to 1 s … 60 s

	IdempotencyKey *string // the caller's own name for this call; nil: none
}

// Ways of paying, as FetchResult.Method names them.
const (
	PaidBySession = "session"
	NotPaid       = "none"
)

// FetchResult is the service's answer and what it cost.
type FetchResult struct {
	Status  int
	Header  http.Header
	Body    []byte
	Agent   *ent.Agent
	Service string

	Paid    bool       // a proof of payment was sent
	Cost    money.USDC // what was reserved for it; charged at most
	Method  string     // "none", "session", or the protocol that the wallet paid by
	Network string     // the chain's short name
	Scheme  string

	SessionID        *uuid.UUID
	SessionRemaining *money.USDC
	Payment          *ent.Transaction // nil when nothing was paid
	Unpayable        string           // the service asks for money in no way we can pay, and why
}

// call is one fetch under way.
type call struct {
	p       Principal
	in      FetchInput
	agent   *ent.Agent
	session *ent.Session
	account uuid.UUID // what pays: the wallet's account or the session's
	budget  policy.Budget
	target  target
	request *pay.Request
	payer   common.Address
	run     *run // nil without an idempotency key
}

// Fetch makes the call, pays if the service asks for it and the policy allows it, and returns the answer. The
// money is reserved before a proof is signed; once a proof has left, anything but a good answer leaves the
// payment unknown until the chain has spoken. Never a second signature for one call.
func (f *Payments) Fetch(ctx context.Context, p Principal, in FetchInput) (*FetchResult, error) {
	if err := p.needPayer(in.DefaultWallet); err != nil {
		return nil, err
	}
	if in.IdempotencyKey == nil {
		return f.fetch(ctx, p, in, nil)
	}
	k, err := once(ctx, f.store, p, ask{in.IdempotencyKey, "fetch", in.same()}, f.lostAnswer, func(r *run) (keptFetch, error) {
		res, err := f.fetch(ctx, p, in, r)
		return keepFetch(res), err
	})
	return k.result(), err
}

func (f *Payments) fetch(ctx context.Context, p Principal, in FetchInput, r *run) (*FetchResult, error) {
	c, err := f.prepare(ctx, p, in)
	if err != nil {
		return nil, err
	}
	c.run = r
	if err := c.budget.Agent.CheckService(c.target.host, c.target.service, c.session != nil); err != nil {
		return nil, AsError(err)
	}
	sendCtx, cancel := context.WithTimeout(ctx, clampTimeout(in.Timeout))
	defer cancel()
	resp, err := f.send(sendCtx, c.request)
	if err != nil {
		return nil, err
	}
	if resp.Status != http.StatusPaymentRequired {
		return f.result(ctx, c, resp, nil)
	}
	quote, err := pay.Offers(f.protocols, pay.Wallet{Network: f.chain.Network(), Address: c.payer}, c.request, resp)
	var unpayable *pay.UnpayableError
	switch {
	case errors.Is(err, pay.ErrNotAsked):
		return f.result(ctx, c, resp, nil)
	case errors.As(err, &unpayable):
		r, err := f.result(ctx, c, resp, nil)
		if r != nil {
			r.Unpayable = unpayable.Error()
		}
		return r, err
	case err != nil:
		return nil, err
	}
	return f.pay(ctx, c, quote)
}

func clampTimeout(d time.Duration) time.Duration {
	if d == 0 {
		return defaultTimeout
	}
	return min(max(d, minTimeout), maxTimeout)
}

// methods that may be forwarded.
var methods = map[string]bool{
	http.MethodGet: true, http.MethodPost: true, http.MethodPut: true, http.MethodDelete: true, http.MethodPatch: true,
	http.MethodHead: true, http.MethodOptions: true,
}

// prepare loads everything that the call needs and checks what needs no price.
func (f *Payments) prepare(ctx context.Context, p Principal, in FetchInput) (*call, error) {
	c := &call{p: p, in: in}
	var err error
	if c.target, err = parseTarget(in.URL); err != nil {
		return nil, err
	}
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if !methods[in.Method] {
		return nil, E(InvalidRequest, "method %q is not supported", in.Method)
	}
	if in.MaxCost != nil && *in.MaxCost < 0 {
		return nil, E(InvalidRequest, "max_cost must not be negative")
	}
	c.request = &pay.Request{Method: in.Method, URL: c.target.url.String(), Header: cleanRequestHeader(in.Header), Body: in.Body}
	if err := f.payer(ctx, c); err != nil {
		return nil, err
	}
	c.budget, err = f.store.budget(ctx, p, c.agent)
	return c, err
}

// payer finds the agent, the session if one is named, and the account that pays.
func (f *Payments) payer(ctx context.Context, c *call) error {
	var err error
	if c.in.DefaultWallet {
		if c.agent, err = of(c.p, f.db.readEnt).defaultAgent().WithPolicy().Only(ctx); err != nil {
			return missing(err, "Wallet")
		}
	} else if c.agent, err = (&Agents{store: f.store}).find(ctx, c.p, c.in.Agent); err != nil {
		return err
	}
	if !c.agent.Active {
		return E(InvalidRequest, "Agent is deactivated")
	}
	if err := f.allowedNetwork(c.p); err != nil {
		return err
	}
	if c.in.SessionID == "" {
		c.payer = common.HexToAddress(c.agent.Address)
		c.account, err = ledger.Find(ctx, f.db.readEnt, ledger.Wallet, f.chainID(), c.agent.ID)
		return err
	}
	if c.session, err = f.sessions.usable(ctx, c.p, c.in.SessionID, c.agent); err != nil {
		return err
	}
	c.payer = f.keys.platformAddress()
	c.account, err = ledger.Find(ctx, f.db.readEnt, ledger.Session, f.chainID(), c.session.ID)
	return err
}

// allowedNetwork refuses a credential that may not pay on this server's chain.
func (f *Payments) allowedNetwork(p Principal) error {
	if len(p.Networks) == 0 {
		return nil
	}
	for _, name := range p.Networks {
		if n, ok := evm.ParseNetwork(name); ok && n.ChainID == f.chainID() {
			return nil
		}
	}
	return E(Forbidden, "The credential may not pay on %s", f.chain.Network().Name)
}

// pay takes the cheapest offer: reserve, sign, send once, and book what the answer tells.
func (f *Payments) pay(ctx context.Context, c *call, q pay.Quote) (*FetchResult, error) {
	offer := q.Offers[0]
	if c.target.url.Scheme != "https" && !f.chain.Network().Testnet {
		return nil, E(InvalidRequest, "A service is paid over https only: anybody on the way could change who is paid")
	}
	if c.in.MaxCost != nil && offer.Amount > *c.in.MaxCost {
		return nil, E(CostExceedsMax, "Price %s exceeds the maximum of %s", offer.Amount.CostUSD(), c.in.MaxCost.RemainingUSD())
	}
	if offer.Amount > f.maxPay {
		return nil, E(SpendingLimit, "Price %s exceeds this server's ceiling of %s", offer.Amount.CostUSD(), f.maxPay.RemainingUSD())
	}
	id := uuid.Must(uuid.NewV7())
	instruction, err := q.Protocol.Instruct(offer, c.payer, f.clock(), f.nonce("payment", id))
	if err != nil {
		return nil, E(ServiceFailed, "The service's offer cannot be taken: %v", err)
	}
	if instruction.Kind != pay.SignAuthorization {
		return nil, E(ServiceFailed, "The service asks for a kind of payment that is not supported")
	}
	t, err := f.reserve(ctx, c, id, offer, instruction.Authorization)
	for tries := 1; errors.Is(err, errMoved) && tries < maxTxTries; tries++ { // the policy changed meanwhile
		if err = f.reload(ctx, c); err == nil {
			t, err = f.reserve(ctx, c, id, offer, instruction.Authorization)
		}
	}
	if err != nil {
		return nil, AsError(err)
	}
	f.step(StepHeld)
	proof := pay.Proof{Authorization: instruction.Authorization}
	var signer *ent.Agent
	if c.session == nil {
		signer = c.agent
	}
	if proof.Signature, err = f.keys.sign(signer, f.chain.Network(), proof.Authorization); err != nil {
		return nil, f.giveUp(ctx, t, err)
	}
	paid := &pay.Request{Method: c.request.Method, URL: c.request.URL, Header: c.request.Header.Clone(), Body: c.request.Body}
	if err := q.Protocol.Attach(paid, offer, proof); err != nil {
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
	return f.book(bookCtx, c, t, q.Protocol, offer, resp, sendErr)
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
	credit := f.platform.External
	if c.session != nil {
		credit = f.platform.Clearing
	}
	hold := ledger.Move{
		Verb: ledger.Hold, Key: "fetch:" + id.String(), Debit: c.account, Credit: credit, Amount: o.Amount, Code: "fetch", TransactionID: id,
		Counters: counters.Raise, Read: counters.Read,
		Check: func(spent map[string]money.USDC) error { return c.budget.CheckAmount(now, o.Amount, spent) },
	}
	if c.session != nil {
		hold.Counters = append(hold.Counters, sessionCounter(c.session.ID))
	}
	var t *ent.Transaction
	err := f.commit(ctx, []ledger.Move{hold}, func(ctx context.Context, tx *Tx, r ledger.Result) (err error) {
		if err := unchanged(ctx, tx, c); err != nil {
			return err
		}
		if err := c.run.began(ctx, tx, id); err != nil {
			return err
		}
		create := tx.Transaction.Create().SetID(id).SetOrgID(c.agent.OrgID).SetAgentID(c.agent.ID).SetKind(transaction.KindPayment).
			SetQuoted(o.Amount).SetFromAddress(c.payer.Hex()).SetToAddress(o.PayTo.Hex()).SetService(c.target.service).
			SetEndpoint(c.target.endpoint()).SetMethod(c.request.Method).SetProtocol(o.Protocol).SetScheme(o.Scheme).
			SetNetwork(o.Network.Name).SetAuthNonce(auth.Nonce.Hex()).SetValidBeforeUnix(auth.ValidBefore).
			SetHoldID(r.Transfers[0].ID).SetCreatedAt(tx.Now)
		if c.session != nil {
			create.SetSessionID(c.session.ID)
		}
		if c.p.CredentialID != uuid.Nil {
			create.SetCredentialID(c.p.CredentialID)
		}
		t, err = create.Save(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// unchanged refuses the hold when the agent or its policy is no longer what the call was judged by.
func unchanged(ctx context.Context, tx *Tx, c *call) error {
	now, err := tx.Agent.Query().Where(agent.ID(c.agent.ID)).WithPolicy().Only(ctx)
	if err != nil {
		return err
	}
	if !now.Active || now.Edges.Policy.Version != c.agent.Edges.Policy.Version || !sameID(now.DepartmentID, c.agent.DepartmentID) {
		return errMoved
	}
	return nil
}

func sameID(a, b *uuid.UUID) bool { return a == b || (a != nil && b != nil && *a == *b) }

// reload reads the agent and its limits again, and judges what needs no price.
func (f *Payments) reload(ctx context.Context, c *call) error {
	var err error
	if c.agent, err = of(c.p, f.db.writeEnt).agent(c.agent.ID).WithPolicy().Only(ctx); err != nil {
		return missing(err, "Agent wallet")
	}
	if !c.agent.Active {
		return E(InvalidRequest, "Agent is deactivated")
	}
	if c.budget, err = f.store.budget(ctx, c.p, c.agent); err != nil {
		return err
	}
	return c.budget.Agent.CheckService(c.target.host, c.target.service, c.session != nil)
}

// giveUp frees a hold whose proof never left the process.
func (f *Payments) giveUp(ctx context.Context, t *ent.Transaction, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterPayment)
	defer cancel()
	return errors.Join(AsError(cause), f.release(ctx, t, "The proof could not be made"))
}

// family is a protocol's name without its version: "x402" for "x402-v2".
func family(protocol string) string {
	name, _, _ := strings.Cut(protocol, "-v")
	return name
}

// result describes the answer to a call for which nothing was paid, or what the payment cost.
func (f *Payments) result(ctx context.Context, c *call, resp *pay.Response, t *ent.Transaction) (*FetchResult, error) {
	r := &FetchResult{
		Status: resp.Status, Header: resp.Header, Body: resp.Body, Agent: c.agent, Service: c.target.service, Method: NotPaid, Payment: t,
	}
	if t != nil {
		r.Paid, r.Cost, r.Network, r.Scheme, r.Method = true, t.Quoted, t.Network, t.Scheme, family(t.Protocol)
	}
	if c.session != nil {
		if t != nil {
			r.Method = PaidBySession
		}
		r.SessionID = &c.session.ID
		state, err := f.sessions.figures(ctx, c.session.ID)
		if err != nil {
			return nil, err
		}
		left := state.Available()
		r.SessionRemaining = &left
	}
	return r, nil
}
