package core

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/policy"
	"bursar/ent"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Payments call paid services on an agent's behalf.
type Payments struct {
	*store
	sessions   *Sessions
	operations *Operations
	calls      Quota
	routes     routes
	free       recent[uuid.UUID, bool] // routes that cost nothing the last time: what is remembered of their price is not read
	approvals  *Approvals
}

// afterPayment is how long the books may take once a proof has left, whatever the caller does.
const afterPayment = 15 * time.Second

// FetchInput is one call that an agent wants made. Exactly one of Agent and DefaultWallet counts.
type FetchInput struct {
	Agent         string // id, name or slug; empty: the only active agent
	DefaultWallet bool   // the Agnic surface: the principal's default wallet pays
	SessionID     string // pay from this session; empty: the wallet pays
	Method, URL   string
	Service       string // of the catalogue, by its short name; URL is then the escaped path and query below its base
	Header        http.Header
	Body          []byte
	MaxCost       *money.USDC   // nil: the policy and the server's ceiling alone
	Timeout       time.Duration // zero: 30 s; clamped to 1 s … 60 s; a stream's head must be there by then

	ApprovalID   *uuid.UUID    // a person's yes to this call, as its first answer named it; nil: one is looked for
	ApprovalWait time.Duration // how long to wait for a person who must say yes; clamped to 0 … 60 s

	IdempotencyKey *string // the caller's own name for this call; nil: none
	DryRun         bool    // ask for the price and judge it, and pay nothing
	Stream         bool    // hand the answer's body on as it comes, byte for byte, not whole
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
	Body    []byte // nil with FetchInput.Stream
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
	TxHash           *string          // of the wallet's own transfer for a metered call, once it is sent
	Unpayable        string           // the service asks for money in no way we can pay, and why
	Login            *uuid.UUID       // the trace of the login by which the service served for nothing; nil: none
	Verdict          *Verdict         // of a dry run; nil otherwise

	// Stream is the body of an answer that was asked for as a stream. Who has it closes it. An error of Read but io.EOF means
	// that it is cut off, by the service or by a limit, and must look so to its reader. Length is its bytes; -1: not known.
	Stream io.ReadCloser `json:"-"`
	Length int64         `json:"-"`
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
	run     *run   // nil without an idempotency key
	entry   *entry // of the catalogue, by which the call is billed; nil: it is not
	ahead   string // why it is paid with the first request, for the trace; empty: it is not
	shown   bool   // the offer comes from the caller, not from the service
	place   place
	usual   money.USDC                   // that the hold was judged by: of the route, or its first price
	recall  asked[uuid.UUID, *ent.Price] // what is remembered of the route, read while the call begins unless that costs nothing

	why     TraceDetail       // what has been seen and compared so far
	weighed []policy.Weighing // under the counters' locks
}

// Fetch makes the call, pays if the service asks for it and the policy allows it, and returns the answer. The
// money is reserved before a proof is signed; once a proof has left, anything but the head of a good answer leaves
// the payment unknown until the chain has spoken. Never a second signature for one call.
func (f *Payments) Fetch(ctx context.Context, p Principal, in FetchInput) (*FetchResult, error) {
	if err := p.needPayer(in.DefaultWallet); err != nil {
		return nil, err
	}
	done, err := f.begin(p)
	if err != nil {
		return nil, err
	}
	defer func() { done() }() // unless it goes on with the stream, and after a panic too
	res, err := f.fetchOnce(ctx, p, in)
	if err == nil && in.Stream && res.Stream == nil && res.Verdict == nil { // it was kept, or had to be read to be priced
		res.again()
	}
	if err == nil && res.Stream != nil {
		res.Stream, done = countedStream{res.Stream, done}, func() {}
	}
	return res, err
}

// fetchOnce makes a call under its caller's key, if it has one.
func (f *Payments) fetchOnce(ctx context.Context, p Principal, in FetchInput) (*FetchResult, error) {
	if in.IdempotencyKey == nil || in.DryRun { // which may be asked again at will
		return f.fetch(ctx, p, in, nil)
	}
	k, err := once(ctx, f.store, p, ask{in.IdempotencyKey, "fetch", in.same()}, f.lostAnswer, func(r *run) (keptFetch, error) {
		res, err := f.fetch(ctx, p, in, r)
		if err == nil && res.Stream != nil {
			f.keepStream(ctx, r, res)
		}
		return keepFetch(res), err
	})
	return k.result(), err
}

func (f *Payments) fetch(ctx context.Context, p Principal, in FetchInput, r *run) (*FetchResult, error) {
	named, err := f.named(ctx, &in)
	if err != nil {
		return nil, err
	}
	c, err := f.prepare(ctx, p, in)
	if err != nil {
		return nil, err
	}
	c.run = r
	if err := f.listed(ctx, c, named); err != nil {
		return nil, err
	}
	if err := c.checkService(); err != nil {
		return f.decline(ctx, c, err)
	}
	if c.entry != nil {
		return f.metered(ctx, c)
	}
	if d := f.ahead(ctx, c); d != nil {
		return f.complete(ctx, c, d)
	}
	x, err := f.send(ctx, c.request, clampTimeout(in.Timeout))
	if err != nil {
		return nil, err
	}
	if x.status != http.StatusPaymentRequired {
		return f.unasked(ctx, c, x)
	}
	return f.asked(ctx, c, x)
}

// asked takes a challenge: it is paid, or handed on when nothing in it can be.
func (f *Payments) asked(ctx context.Context, c *call, x *exchange) (*FetchResult, error) {
	f.free.forget(c.place.price)
	x.timer.Reset(min(clampTimeout(c.in.Timeout), challengeTime))
	if err := x.peek(pay.MaxBody + 1); err != nil {
		x.end()
		return nil, err
	}
	if in, err := f.signIn(ctx, c, x); err != nil || in != nil {
		x.end()
		return f.signedIn(ctx, c, in, err)
	}
	quote, err := pay.Offers(f.protocols, f.wallet(c), c.request, x.response())
	var unpayable *pay.UnpayableError
	switch {
	case errors.Is(err, pay.ErrNotAsked):
		return f.unasked(ctx, c, x)
	case errors.As(err, &unpayable):
		return f.unpayable(ctx, c, x, unpayable)
	case err != nil:
		x.end()
		return nil, err
	}
	c.sawOffers(quote.Offers, quote.Refused)
	if c.in.DryRun {
		return f.dryRun(ctx, c, x, quote)
	}
	x.end()
	return f.pay(ctx, c, quote)
}

// unasked is the answer of a service that wants no money in a way we know.
func (f *Payments) unasked(ctx context.Context, c *call, x *exchange) (*FetchResult, error) {
	if x.status < http.StatusBadRequest {
		f.free.set(c.place.price, true)
	} else {
		f.free.forget(c.place.price)
	}
	r, err := f.deliver(ctx, c, x, nil)
	if err == nil && c.in.DryRun {
		r.Verdict = c.verdict(nil)
	}
	return r, err
}

// unpayable hands on a challenge in which nothing can be paid, and keeps why.
func (f *Payments) unpayable(ctx context.Context, c *call, x *exchange, why *pay.UnpayableError) (*FetchResult, error) {
	c.sawOffers(nil, why.Refused)
	cause := E(ServiceFailed, "%s", why)
	if !c.in.DryRun {
		_ = f.refused(ctx, c, cause) // the answer is the service's; its trace is found by the agent's history
	}
	r, err := f.deliver(ctx, c, x, nil)
	if err != nil {
		return nil, err
	}
	r.Unpayable = why.Error()
	if c.in.DryRun {
		r.Verdict = c.verdict(cause)
	}
	return r, nil
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
	if err := checkHeader(in.Header); err != nil {
		return nil, err
	}
	c.request = &pay.Request{Method: in.Method, URL: c.target.url.String(), Header: cleanRequestHeader(in.Header), Body: in.Body}
	c.place = f.placeOf(p.OrgID, in.Method, c.target)
	if free, _ := f.free.get(c.place.price); !free {
		f.recallPrice(ctx, c)
	}
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
		return f.defaultWallet(ctx, c.p)
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

// defaultWallet is the caller's. It is made with the user and never becomes another, so it is looked for once; whether it
// may pay is read each time (load).
func (f *Payments) defaultWallet(ctx context.Context, p Principal) (uuid.UUID, error) {
	key := [2]uuid.UUID{p.OrgID, p.UserID}
	if id, ok := f.defaults.get(key); ok {
		return id, nil
	}
	id, err := of(p, f.db.readEnt).defaultAgent().OnlyID(ctx)
	if err != nil {
		return uuid.Nil, missing(err, "Wallet")
	}
	f.defaults.set(key, id)
	return id, nil
}

// freshly is how long what was read with the credential counts as read by the call, whose body may have taken its time.
const freshly = time.Second

// load reads the agent with everything that limits it, unless that came with the credential just now.
func (f *Payments) load(ctx context.Context, c *call, id uuid.UUID) error {
	v, found := c.p.payer, true
	if v == nil || v.agent.ID != id || f.clock().Sub(c.p.payerAt) > freshly {
		var err error
		if v, found, err = f.readers.payers.get(ctx, id); err != nil {
			return err
		}
	}
	if !found || !c.p.owns(v.agent.OrgID) || (v.agent.IsDefault && !c.in.DefaultWallet) {
		return E(NotFound, "Agent wallet not found")
	}
	if !v.agent.Active {
		return E(InvalidRequest, "Agent is deactivated")
	}
	c.from, c.agent, c.budget = v, v.agent, v.allLimits(c.p)
	if c.p.CredentialID != uuid.Nil {
		f.paidFor.set(c.p.caller, id)
	}
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

// family is a protocol's name without its version or dialect: "x402" for "x402-v2", "mpp" for "mpp-indiegent".
func family(protocol string) string {
	name, _, _ := strings.Cut(protocol, "-")
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
