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
	from    *payer
	agent   *ent.Agent
	prepaid *prepaid  // nil: the wallet pays
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
	if err := c.budget.Agent.CheckService(c.target.host, c.target.service, c.prepaid != nil); err != nil {
		return nil, AsError(err)
	}
	sendCtx, cancel := context.WithTimeout(ctx, clampTimeout(in.Timeout))
	defer cancel()
	resp, err := f.send(sendCtx, c.request)
	if err != nil {
		return nil, err
	}
	if resp.Status != http.StatusPaymentRequired {
		return f.result(c, resp, nil), nil
	}
	quote, err := pay.Offers(f.protocols, pay.Wallet{Network: f.chain.Network(), Address: c.payer}, c.request, resp)
	var unpayable *pay.UnpayableError
	switch {
	case errors.Is(err, pay.ErrNotAsked):
		return f.result(c, resp, nil), nil
	case errors.As(err, &unpayable):
		r := f.result(c, resp, nil)
		r.Unpayable = unpayable.Error()
		return r, nil
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
	return c, f.payer(ctx, c)
}

// payer finds the agent, the session if one is named, and the account that pays.
func (f *Payments) payer(ctx context.Context, c *call) error {
	id, err := f.who(ctx, c)
	if err != nil {
		return err
	}
	if err := f.load(ctx, c, id); err != nil {
		return err
	}
	if err := f.allowedNetwork(c.p); err != nil {
		return err
	}
	c.payer, c.account = common.HexToAddress(c.agent.Address), c.from.wallet
	if c.in.SessionID == "" {
		return nil
	}
	if c.prepaid, err = f.sessions.usable(ctx, c.p, c.in.SessionID, c.agent); err != nil {
		return err
	}
	c.payer, c.account = f.keys.platformAddress(), c.prepaid.account.ID
	return nil
}

// who resolves the agent that the call names.
func (f *Payments) who(ctx context.Context, c *call) (uuid.UUID, error) {
	if c.in.DefaultWallet {
		id, err := of(c.p, f.db.readEnt).defaultAgent().OnlyID(ctx)
		return id, missing(err, "Wallet")
	}
	if id, err := uuid.Parse(c.in.Agent); err == nil {
		return id, nil
	}
	found, err := (&Agents{store: f.store}).find(ctx, c.p, c.in.Agent)
	if err != nil {
		return uuid.Nil, err
	}
	return found.ID, nil
}

// load reads the agent with everything that limits it.
func (f *Payments) load(ctx context.Context, c *call, id uuid.UUID) error {
	v, found, err := f.readers.payers.get(ctx, id)
	if err != nil {
		return err
	}
	if !found || !c.p.owns(v.agent.OrgID) || (v.agent.IsDefault && !c.in.DefaultWallet) {
		return E(NotFound, "Agent wallet not found")
	}
	if !v.agent.Active {
		return E(InvalidRequest, "Agent is deactivated")
	}
	c.from, c.agent, c.budget = v, v.agent, v.allLimits(c.p)
	return nil
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
	for tries := 1; errors.Is(err, ledger.ErrChanged) && tries < maxTxTries; tries++ { // the policy changed meanwhile
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
	if c.prepaid == nil {
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
	nonce := auth.Nonce.Hex()
	t := &ent.Transaction{
		ID: id, CreatedAt: now, OrgID: c.agent.OrgID, AgentID: c.agent.ID, Kind: transaction.KindPayment, Status: transaction.StatusPending,
		Quoted: o.Amount, FromAddress: c.payer.Hex(), ToAddress: o.PayTo.Hex(), Service: c.target.service, Endpoint: c.target.endpoint(),
		Method: c.request.Method, Protocol: o.Protocol, Scheme: o.Scheme, Network: o.Network.Name, AuthNonce: &nonce, ValidBeforeUnix: auth.ValidBefore,
	}
	hold := ledger.Move{
		Verb: ledger.Hold, ID: uuid.Must(uuid.NewV7()), Key: "fetch:" + id.String(), Debit: c.account, Credit: f.platform.External, Amount: o.Amount,
		Code: "fetch", TransactionID: id, Counters: counters.Raise, Read: counters.Read,
		Check: func(spent map[string]money.USDC) error { return c.budget.CheckAmount(now, o.Amount, spent) },
	}
	t.HoldID = &hold.ID
	if c.p.CredentialID != uuid.Nil {
		t.CredentialID = &c.p.CredentialID
	}
	if c.prepaid != nil {
		t.SessionID, hold.Credit = &c.prepaid.session.ID, f.platform.Clearing
		hold.Counters = append(hold.Counters, sessionCounter(c.prepaid.session.ID))
	}
	r, err := f.commit(ctx, unit{
		guard: ledger.Guard{Agent: c.agent.ID, Rules: c.from.rules, Credential: c.p.CredentialID},
		moves: []ledger.Move{hold},
		rows:  func(time.Time) []ledger.Row { return append(c.run.begunRows(id), addPayment(t)) },
		done:  []Outcome{PaymentReserved},
	})
	if errors.Is(err, ledger.ErrMissed) {
		return nil, errRuns // the key's row is another run's now
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

// family is a protocol's name without its version: "x402" for "x402-v2".
func family(protocol string) string {
	name, _, _ := strings.Cut(protocol, "-v")
	return name
}

// result describes the answer to a call for which nothing was paid, or what the payment cost.
func (f *Payments) result(c *call, resp *pay.Response, t *ent.Transaction) *FetchResult {
	r := &FetchResult{
		Status: resp.Status, Header: resp.Header, Body: resp.Body, Agent: c.agent, Service: c.target.service, Method: NotPaid, Payment: t,
	}
	if t != nil {
		r.Paid, r.Cost, r.Network, r.Scheme, r.Method = true, t.Quoted, t.Network, t.Scheme, family(t.Protocol)
	}
	if c.prepaid != nil {
		if t != nil {
			r.Method = PaidBySession
		}
		left := c.prepaid.account.Available()
		r.SessionID, r.SessionRemaining = &c.prepaid.session.ID, &left
	}
	return r
}
