package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/pay"
)

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
		switch {
		case d.again:
			return d, nil
		case d.undecided() && c.ahead != "":
			return nil, errAskFirst
		case d.undecided():
			if err := f.ask(ctx, patience, c, d); err != nil {
				return nil, err
			}
			tries-- // bounded by the patience
			err = f.reload(ctx, c)
		default:
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
		f.recallPrice(ctx, c)
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
	if d.instruction.Kind == pay.Transfer && !c.in.DryRun {
		if err := f.owed(ctx, c, d); err != nil || d.again {
			return d, err
		}
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
		protocol, instruction, err := f.instruct(c, protocols, o, id)
		if err != nil {
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

// instruct says what has to be done to take an offer. The catalogue's own are taken by the hold alone.
func (f *Payments) instruct(c *call, protocols []pay.Protocol, o pay.Offer, id uuid.UUID) (pay.Protocol, pay.Instruction, error) {
	if c.entry != nil {
		return nil, pay.Instruction{Kind: pay.None}, nil
	}
	protocol, known := pay.ByName(protocols, o.Protocol)
	if !known {
		return nil, pay.Instruction{}, fmt.Errorf("core: protocol %q is not paid here", o.Protocol)
	}
	in, err := protocol.Instruct(o, c.payer, f.clock(), f.nonce("payment", id))
	if err == nil && in.Kind != pay.SignAuthorization && in.Kind != pay.SignPermit2 && in.Kind != pay.Transfer {
		err = fmt.Errorf("core: nothing pays %s", in.Kind)
	}
	return protocol, in, err
}

// affordable asks the rules about a price that need neither counters nor locks.
func (f *Payments) affordable(c *call, o pay.Offer) error {
	if c.target.url.Scheme != "https" && !f.chain.Network().Testnet {
		return E(InvalidRequest, "A service is paid over https only: anybody on the way could change who is paid")
	}
	if c.in.MaxCost != nil {
		c.why.Rules = append(c.why.Rules, figure(ruleMaxCost, 0, o.Amount, *c.in.MaxCost))
		if o.Amount > *c.in.MaxCost {
			return E(CostExceedsMax, "Price %s exceeds the maximum of %s", o.Amount.ExactUSD(), c.in.MaxCost.ExactUSD())
		}
	}
	c.why.Rules = append(c.why.Rules, figure(ruleCeiling, 0, o.Amount, f.maxPay))
	if o.Amount > f.maxPay {
		return E(SpendingLimit, "Price %s exceeds this server's ceiling of %s", o.Amount.ExactUSD(), f.maxPay.ExactUSD())
	}
	return nil
}
