package core

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/operation"
	"bursar/evm"
	"bursar/money"
)

// A source consents to top-ups by a signature under a text that names the agent, the server and the terms. It is checked
// again, against the agent as it is, before each pull: whoever changes a term, in whichever way, has no consent.
//
// A permit is no consent: it names the spender and no agent, so whoever sees it on its way could show it for an agent of
// their own. It only sets the allowance.

// Bounds of consents.
const (
	minTopUp    = money.One / 10   // a smaller one is not worth its gas
	consentLife = 15 * time.Minute // from drawing up the text to handing in its signature; it cannot be handed in again later
	consentSkew = time.Minute      // by which the clock that drew it up may be ahead
	permitLife  = time.Hour
	permitsADay = 10 // by which one agent may have us pay gas
)

// TopUpTerms are what the owner of a wallet consents to.
type TopUpTerms struct {
	AgentID           uuid.UUID
	Source            string // the wallet
	Threshold, Amount money.USDC
	DailyLimit        *money.USDC // of a UTC day; nil: ten times Amount
}

// TopUpDraft is what the owner signs.
type TopUpDraft struct {
	Spender    string
	IssuedAt   time.Time
	Text       string // by personal_sign
	DailyLimit money.USDC
	Allowance  money.USDC // that the spender has of the source now
	Permit     *PermitDraft
}

// PermitDraft is an EIP-2612 permit to be signed by eth_signTypedData_v4.
type PermitDraft struct {
	Value     money.USDC
	Deadline  time.Time
	TypedData string // JSON
}

// ConsentInput hands in the signature of a draft, and of its permit if there is one.
type ConsentInput struct {
	TopUpTerms
	IssuedAt  time.Time // as the draft has it
	Signature string    // 0x-prefixed
	Permit    *PermitInput
}

// PermitInput is a signed permit.
type PermitInput struct {
	Value     money.USDC
	Deadline  time.Time
	Signature string
}

// Draft draws up what the owner of a wallet signs so that it tops an agent up. permitValue asks for a permit as well,
// which sets the allowance by a signature; without it the owner sends an approve by themselves.
func (t *TopUps) Draft(ctx context.Context, p Principal, in TopUpTerms, permitValue *money.USDC) (*TopUpDraft, error) {
	a, source, err := t.terms(ctx, p, &in)
	if err != nil {
		return nil, err
	}
	d := &TopUpDraft{Spender: t.spender().Hex(), IssuedAt: t.now().Truncate(time.Second), DailyLimit: *in.DailyLimit}
	d.Text = t.consentText(a, in, d.IssuedAt)
	if d.Allowance, err = t.chain.Allowance(ctx, source, t.spender()); err != nil {
		return nil, unanswered(err)
	}
	if permitValue == nil {
		return d, nil
	}
	head, err := t.chain.Head(ctx) // the token goes by the chain's time
	if err != nil {
		return nil, unanswered(err)
	}
	d.Permit = &PermitDraft{Value: *permitValue, Deadline: head.Time.Add(permitLife)}
	permit, err := t.permit(ctx, source, in.Amount, PermitInput{Value: *permitValue, Deadline: d.Permit.Deadline})
	if err != nil {
		return nil, err
	}
	d.Permit.TypedData, err = permit.TypedData(t.chain.Network().Domain())
	return d, err
}

// Consent puts terms into force that the source has signed, in place of what was there, and queues the permit.
func (t *TopUps) Consent(ctx context.Context, p Principal, in ConsentInput) (*AgentView, error) {
	a, source, err := t.terms(ctx, p, &in.TopUpTerms)
	if err != nil {
		return nil, err
	}
	now := t.now()
	if in.IssuedAt.Before(now.Add(-consentLife)) || in.IssuedAt.After(now.Add(consentSkew)) {
		return nil, E(InvalidRequest, "The text was issued more than %d minutes ago: draw it up again", int(consentLife/time.Minute))
	}
	sig, err := signedBy(source, evm.PersonalDigest(t.consentText(a, in.TopUpTerms, in.IssuedAt)), in.Signature)
	if err != nil {
		return nil, err
	}
	var permit evm.Permit
	var permitSig []byte
	if in.Permit != nil {
		if permit, err = t.permit(ctx, source, in.Amount, *in.Permit); err != nil {
			return nil, err
		}
		if permitSig, err = signedBy(source, permit.Digest(t.chain.Network().Domain()), in.Permit.Signature); err != nil {
			return nil, err
		}
	}
	err = t.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if err := tx.Agent.UpdateOneID(a.ID).SetAutoTopupSource(source.Hex()).SetAutoTopupThreshold(in.Threshold).SetAutoTopupAmount(in.Amount).
			SetAutoTopupDailyLimit(*in.DailyLimit).SetAutoTopupConsent(sig).SetAutoTopupConsentUnix(in.IssuedAt.Unix()).SetAutoTopupConsentBy(p.UserID).
			SetAutoTopupError("").ClearAutoTopupFailedAt().SetAutoTopupRetryUnix(0).Exec(ctx); err != nil {
			return err
		}
		if err := tx.audit(ctx, p, "agent.topup.consent", a.ID); err != nil || permitSig == nil {
			return err
		}
		return t.queuePermit(ctx, tx, a, permit, permitSig)
	})
	if ent.IsConstraintError(err) {
		return nil, E(Conflict, "The same permit is being handed in already")
	}
	if err != nil {
		return nil, err
	}
	t.step(StepConsented)
	return t.agents.Get(ctx, p, a.ID)
}

// queuePermit queues the sending of a permit; the same one is queued once.
func (t *TopUps) queuePermit(ctx context.Context, tx *Tx, a *ent.Agent, permit evm.Permit, sig []byte) error {
	key := "permit:" + permit.Digest(t.chain.Network().Domain()).Hex()
	if known, err := tx.Operation.Query().Where(operation.Key(key)).Exist(ctx); err != nil || known {
		return err
	}
	own := tx.Operation.Query().Where(operation.AgentID(a.ID), operation.KindEQ(operation.KindPermit))
	open, err := own.Clone().Where(operation.StatusNotIn(operation.StatusFinal, operation.StatusExpired, operation.StatusFailed)).Exist(ctx)
	if err != nil {
		return err
	}
	if open {
		return E(Conflict, "Another permit is under way")
	}
	today, err := own.Where(operation.CreatedAtGTE(startOfDay(tx.Now))).Count(ctx)
	if err != nil {
		return err
	}
	if today >= permitsADay {
		return E(RateLimited, "An agent may hand in %d permits a day", permitsADay)
	}
	return tx.Operation.Create().SetKey(key).SetChainID(int64(t.chainID())).SetOrgID(a.OrgID).SetAgentID(a.ID).SetTransactionID(uuid.Nil).
		SetKind(operation.KindPermit).SetFromAddress(permit.Owner.Hex()).SetToAddress(permit.Spender.Hex()).SetAmount(permit.Value).
		SetValidBeforeUnix(permit.Deadline).SetSignature(sig).SetCreatedAt(tx.Now).Exec(ctx)
}

// terms checks terms and completes them.
func (t *TopUps) terms(ctx context.Context, p Principal, in *TopUpTerms) (*ent.Agent, common.Address, error) {
	none := common.Address{}
	if err := p.needWrite(); err != nil {
		return nil, none, err
	}
	a, err := of(p, t.db.readEnt).agent(in.AgentID).Only(ctx)
	if err != nil {
		return nil, none, missing(err, "Agent wallet")
	}
	source, err := parseAddress(in.Source)
	if err != nil {
		return nil, none, err
	}
	in.Source = source.Hex()
	limit := dailyLimit(in.Amount, in.DailyLimit)
	switch {
	case !a.Active:
		return nil, none, E(InvalidRequest, "Agent is deactivated")
	case in.Threshold <= 0 || in.Threshold > money.Max:
		return nil, none, E(InvalidRequest, "threshold must be positive")
	case in.Amount < minTopUp || in.Amount > money.Max:
		return nil, none, E(InvalidRequest, "amount must be at least %s USDC", minTopUp.Decimal())
	case limit < in.Amount || limit > money.Max:
		return nil, none, E(InvalidRequest, "dailyLimit must not be below amount")
	}
	in.DailyLimit = &limit
	own, err := t.db.readEnt.Agent.Query().Where(agent.Address(in.Source)).Exist(ctx)
	if err != nil {
		return nil, none, err
	}
	if own || source == t.keys.platformAddress() || source == t.spender() {
		return nil, none, E(InvalidRequest, "That address belongs to this server")
	}
	return a, source, nil
}

// permit is the permit that a source signs next.
func (t *TopUps) permit(ctx context.Context, source common.Address, amount money.USDC, in PermitInput) (evm.Permit, error) {
	if in.Value < amount || in.Value > money.Max {
		return evm.Permit{}, E(InvalidRequest, "A permit must be for the amount at least, and not without bound")
	}
	nonce, err := t.chain.PermitNonce(ctx, source)
	if err != nil {
		return evm.Permit{}, unanswered(err)
	}
	return evm.Permit{Owner: source, Spender: t.spender(), Value: in.Value, Nonce: nonce, Deadline: in.Deadline.Unix()}, nil
}

// consentText is what a source signs. Its form is part of every consent: a change of it ends them all.
func (s *store) consentText(a *ent.Agent, in TopUpTerms, at time.Time) string {
	n := s.chain.Network()
	return fmt.Sprintf(`Bursar: automatic top-up

Whenever the agent has less than the threshold, the server may move USDC from my wallet to the agent's.

Network: %s (chain %d)
USDC: %s
My wallet: %s
Agent: %s
Agent's wallet: %s
Server: %s
Threshold: %s USDC
Each time: %s USDC
At most in a UTC day: %s USDC
Issued: %s`, n.Name, n.ChainID, n.USDC.Hex(), in.Source, a.ID, a.Address, s.spender().Hex(), in.Threshold.Decimal(), in.Amount.Decimal(),
		dailyLimit(in.Amount, in.DailyLimit).Decimal(), at.UTC().Format(time.RFC3339))
}

// consented reports whether the agent's source has signed the agent's terms as they are.
func (s *store) consented(a *ent.Agent) bool {
	if len(a.AutoTopupConsent) == 0 || a.AutoTopupSource == nil || a.AutoTopupThreshold == nil || a.AutoTopupAmount == nil {
		return false
	}
	text := s.consentText(a, TopUpTerms{
		Source: *a.AutoTopupSource, Threshold: *a.AutoTopupThreshold, Amount: *a.AutoTopupAmount, DailyLimit: a.AutoTopupDailyLimit,
	}, time.Unix(a.AutoTopupConsentUnix, 0))
	who, err := evm.Recover(evm.PersonalDigest(text), a.AutoTopupConsent)
	return err == nil && who.Hex() == *a.AutoTopupSource
}

// signedBy reads a signature and holds it to its signer. Some wallets count v from 0.
func signedBy(who common.Address, digest common.Hash, text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	sig, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sig) != evm.SignatureLength {
		return nil, E(InvalidRequest, "A signature has %d bytes in hexadecimal digits", evm.SignatureLength)
	}
	if v := &sig[evm.SignatureLength-1]; *v < 27 {
		*v += 27
	}
	if signer, err := evm.Recover(digest, sig); err != nil || signer != who {
		return nil, E(Forbidden, "The signature is not that of %s under these terms", who)
	}
	return sig, nil
}

func unanswered(err error) error {
	return &Error{Code: ServiceFailed, Message: "The network did not answer", Err: err}
}

// withdraw takes the consent away when an update changes what was consented to.
func withdraw(u *ent.AgentUpdateOne, was *ent.Agent, in UpdateAgentInput) {
	if changed(in.AutoTopupSource, was.AutoTopupSource) || changed(in.AutoTopupThreshold, was.AutoTopupThreshold) ||
		changed(in.AutoTopupAmount, was.AutoTopupAmount) {
		u.ClearAutoTopupConsent().SetAutoTopupConsentUnix(0).ClearAutoTopupConsentBy().
			SetAutoTopupError("").ClearAutoTopupFailedAt().SetAutoTopupRetryUnix(0)
	}
}

func changed[T comparable](o Optional[T], was *T) bool {
	if !o.Set {
		return false
	}
	if o.Value == nil || was == nil {
		return o.Value != was // unless both are nil
	}
	return *o.Value != *was
}
