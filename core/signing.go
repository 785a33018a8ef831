package core

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// SignInput asks for a proof of payment that the caller sends itself.
type SignInput struct {
	Agent         string // id, name or slug; empty: the only active agent
	DefaultWallet bool   // the principal's default wallet pays, and Agent does not count
	Method, URL   string // what the caller is about to call
	Challenge     []byte // the x402 challenge that it was answered with: JSON of either version, without one it is the first
	MaxCost       *money.USDC

	ApprovalID   *uuid.UUID    // as in FetchInput
	ApprovalWait time.Duration // as in FetchInput

	IdempotencyKey *string // the caller's own name for this request; nil: none
}

// Signed is a proof of payment, and what it is for. Whoever has the header has the money, until it is used or ends.
type Signed struct {
	Payment  *ent.Transaction
	Header   string // its name
	Value    string
	Proof    json.RawMessage // Value decoded
	Warnings []string        // oddities of the offer that do not stop a payment
}

// signed is how a proof is kept under an idempotency key: by what it was made of. The same authorization has the same
// signature, so that the header itself need not be stored.
type signed struct {
	Payment uuid.UUID
	Offer   pay.Offer
	Auth    evm.Authorization
}

// Sign reserves what an offer costs, as a fetch does, and hands the proof to the caller instead of sending it. A signature is
// the payment: it counts for every limit from now on, and is released when the chain's time has passed its end unused.
func (f *Payments) Sign(ctx context.Context, p Principal, in SignInput) (*Signed, error) {
	if err := p.needPayer(in.DefaultWallet); err != nil {
		return nil, err
	}
	done, err := f.begin(p)
	if err != nil {
		return nil, err
	}
	defer done()
	limit := ""
	if in.MaxCost != nil {
		limit = in.MaxCost.String()
	}
	a := ask{in.IdempotencyKey, "sign", []string{in.Agent, strconv.FormatBool(in.DefaultWallet), in.Method, in.URL, string(in.Challenge), limit}}
	k, err := once(ctx, f.store, p, a, f.lostSignature, func(r *run) (*signed, error) { return f.sign(ctx, p, in, r) })
	if err != nil {
		return nil, err
	}
	return f.handOut(ctx, k)
}

func (f *Payments) sign(ctx context.Context, p Principal, in SignInput, r *run) (*signed, error) {
	call := FetchInput{
		Agent: in.Agent, DefaultWallet: in.DefaultWallet, Method: in.Method, URL: in.URL, MaxCost: in.MaxCost,
		ApprovalID: in.ApprovalID, ApprovalWait: in.ApprovalWait,
	}
	c, err := f.prepare(ctx, p, call)
	if err != nil {
		return nil, err
	}
	c.run, c.shown = r, true
	if err := c.budget.Agent.CheckService(c.target.host, c.target.service, false); err != nil {
		return nil, f.refused(ctx, c, err)
	}
	challenge, err := versioned(in.Challenge)
	if err != nil {
		return nil, err
	}
	resp := &pay.Response{Status: http.StatusPaymentRequired, Header: http.Header{"Content-Type": {"application/json"}}, Body: challenge}
	quote, err := pay.Offers(f.handedOut(), pay.Wallet{Network: f.chain.Network(), Address: c.payer}, c.request, resp)
	var unpayable *pay.UnpayableError
	switch {
	case errors.Is(err, pay.ErrNotAsked):
		return nil, E(InvalidRequest, "paymentRequirements has no offer of x402")
	case errors.As(err, &unpayable):
		c.sawOffers(nil, unpayable.Refused)
		return nil, f.refused(ctx, c, E(InvalidRequest, "%s", unpayable.Error()))
	case err != nil:
		return nil, err
	}
	c.sawOffers(quote.Offers, quote.Refused)
	d, err := f.decide(ctx, c, f.handedOut(), quote)
	if err != nil {
		return nil, f.refused(ctx, c, err)
	}
	f.step(StepHeld)
	return &signed{Payment: d.payment.ID, Offer: d.offer, Auth: d.instruction.Authorization}, nil
}

// handedOut are the protocols whose proof is one header of its own, which another program can send.
func (s *store) handedOut() []pay.Protocol {
	return slices.DeleteFunc(slices.Clone(s.protocols), func(p pay.Protocol) bool { return family(p.Name()) != "x402" })
}

// versioned gives a challenge that names no version the first, whose published example has none.
func versioned(text []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := pay.ReadJSON(text, &fields); err != nil { // before a key that comes twice is lost
		return nil, E(InvalidRequest, "paymentRequirements must be a JSON object: %s", err.Error())
	}
	if len(fields["accepts"]) == 0 {
		return nil, E(InvalidRequest, "paymentRequirements.accepts is required")
	}
	if _, ok := fields["x402Version"]; ok {
		return text, nil
	}
	fields["x402Version"] = json.RawMessage("1")
	return json.Marshal(fields)
}

// handOut makes the header. It reads the payment anew, since a repeat comes later; and whatever fails here, the hold stays:
// the header may be out already.
func (f *Payments) handOut(ctx context.Context, s *signed) (*Signed, error) {
	t, err := f.db.writeEnt.Transaction.Get(ctx, s.Payment)
	if err != nil {
		return nil, err
	}
	protocol, ok := pay.ByName(f.handedOut(), s.Offer.Protocol)
	if !ok {
		return nil, errors.New("core: a proof of a protocol that is not handed out")
	}
	signer, err := f.db.readEnt.Agent.Get(ctx, t.AgentID)
	if err != nil {
		return nil, err
	}
	proof := pay.Proof{Authorization: s.Auth, Identifier: pay.PaymentIdentifier(t.ID)}
	if proof.Signature, err = f.keys.sign(signer, f.chain.Network(), s.Auth); err != nil {
		return nil, err
	}
	request := &pay.Request{Header: http.Header{}}
	if err := protocol.Attach(request, s.Offer, proof); err != nil {
		return nil, err
	}
	out := &Signed{Payment: t, Warnings: s.Offer.Notes}
	for name, values := range request.Header {
		out.Header, out.Value = name, values[0]
	}
	if out.Proof, err = base64.StdEncoding.DecodeString(out.Value); err != nil {
		return nil, err
	}
	return out, nil
}

// lostSignature tells a caller whose proof was reserved and never handed out: it ends unused by itself.
func (f *Payments) lostSignature(ctx context.Context, id uuid.UUID) (*signed, error) {
	t, err := f.db.readEnt.Transaction.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return nil, &Error{
		Code: Conflict, Payment: id.String(),
		Message: "The proof for this request was not handed out; what it reserves is free again after " + time.Unix(t.ValidBeforeUnix, 0).UTC().Format(time.RFC3339),
	}
}
