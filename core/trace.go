package core

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/trace"
	"bursar/money"
	"bursar/pay"
)

// TraceDetail is why a call was allowed to pay or was refused: what was offered, and what was compared.
type TraceDetail struct {
	Offers []TracedOffer `json:"offers,omitempty"`
	Chosen *int          `json:"chosen,omitempty"` // of Offers; nil: none
	Rules  []TracedRule  `json:"rules,omitempty"`  // in the order in which they were asked; those that are not set are left out
	Notes  []string      `json:"notes,omitempty"`  // oddities that did not stop the payment
	Login  *TracedLogin  `json:"login,omitempty"`  // that was offered to a wallet that may sign in

	PolicyVersion     int64 `json:"policy_version"`
	DepartmentVersion int64 `json:"department_version,omitempty"`
	OrgVersion        int64 `json:"org_version,omitempty"`

	HoldID     *uuid.UUID `json:"hold_id,omitempty"`
	ApprovalID *uuid.UUID `json:"approval_id,omitempty"` // that was asked for, or used
	Digest     string     `json:"digest,omitempty"`      // the EIP-712 hash that was signed
}

// TracedOffer is an offer as it was read. Its texts are the seller's, shortened.
type TracedOffer struct {
	Protocol string     `json:"protocol"`
	Scheme   string     `json:"scheme"`
	Network  string     `json:"network"`
	Asset    string     `json:"asset"`
	PayTo    string     `json:"pay_to"`
	Amount   money.USDC `json:"amount"`
	Refused  string     `json:"refused,omitempty"`
}

// TracedRule is one rule with the values compared. Current is what counted before the call; with Requested it may come
// to Max. A rule about where or how to pay has no figures.
type TracedRule struct {
	Rule      string     `json:"rule"`
	Current   money.USDC `json:"current"`
	Requested money.USDC `json:"requested"`
	Max       money.USDC `json:"max"`
	OK        bool       `json:"ok"`
}

// Rules of a trace that are no policy's.
const (
	ruleMaxCost = "max_cost"
	ruleCeiling = "server_ceiling"
	ruleBalance = "balance"
)

func figure(rule string, current, requested, most money.USDC) TracedRule {
	return TracedRule{Rule: rule, Current: current, Requested: requested, Max: most, OK: current.Add(requested) <= most}
}

func traced(weighed []policy.Weighing) []TracedRule {
	out := make([]TracedRule, len(weighed))
	for i, w := range weighed {
		out[i] = figure(string(w.Rule), w.Current, w.Requested, w.Max)
	}
	return out
}

// sawOffers notes what the service asks for, and that the first of the payable is the one to take.
func (c *call) sawOffers(payable, refused []pay.Offer) {
	for _, o := range slices.Concat(payable, refused) {
		c.why.Offers = append(c.why.Offers, tracedOffer(o))
	}
	if len(payable) > 0 {
		first := 0
		c.why.Chosen, c.why.Notes = &first, payable[0].Notes
	}
}

func tracedOffer(o pay.Offer) TracedOffer {
	return TracedOffer{
		Protocol: o.Protocol, Scheme: o.Scheme, Network: o.Network.Name, Asset: o.Asset.Hex(), PayTo: o.PayTo.Hex(), Amount: o.Amount, Refused: pay.Text(o.Refused),
	}
}

// price is what the chosen offer asks.
func (c *call) price() money.USDC {
	if c.why.Chosen == nil {
		return 0
	}
	return c.why.Offers[*c.why.Chosen].Amount
}

// allowedRow is the trace of a payment, which is written with its hold; left is what that leaves free.
func (c *call) allowedRow(t *ent.Transaction, digest string, left money.USDC) ledger.Row {
	why := c.why
	why.Rules = append(slices.Concat(why.Rules, traced(c.weighed)), figure(ruleBalance, 0, t.Quoted, left.Add(t.Quoted)))
	why.HoldID, why.Digest = t.HoldID, digest
	return c.traceRow(t.ID, t.CreatedAt, trace.OutcomeAllowed, nil, why)
}

func (c *call) traceRow(id uuid.UUID, at time.Time, outcome trace.Outcome, e *Error, why TraceDetail) ledger.Row {
	why.PolicyVersion, why.DepartmentVersion, why.OrgVersion = c.from.rules.PolicyVersion, c.from.rules.DepartmentVersion, c.from.rules.OrgVersion
	detail, err := json.Marshal(why)
	if err != nil {
		detail = []byte("{}") // plain data always marshals
	}
	var code, reason string
	if e != nil {
		code, reason = string(e.Code), pay.Text(e.Message)
	}
	var session *uuid.UUID
	if c.prepaid != nil {
		session = &c.prepaid.session.ID
	}
	var credential *uuid.UUID
	if c.p.CredentialID != uuid.Nil {
		credential = &c.p.CredentialID
	}
	return ledger.Row{Into: addTraceRow, Values: []any{
		id.String(), at, c.agent.OrgID.String(), c.agent.ID.String(), optional(credential), optional(session), outcome.String(), code, reason,
		c.request.Method, c.target.service, c.target.host, c.target.endpoint(), int64(c.price()), string(detail),
	}}
}

// decline ends a call that may not pay; a dry run is told the verdict.
func (f *Payments) decline(ctx context.Context, c *call, cause error) (*FetchResult, error) {
	if c.in.DryRun {
		r := f.result(c, &pay.Response{}, nil)
		r.Verdict = c.verdict(AsError(cause))
		return r, nil
	}
	return nil, f.refused(ctx, c, cause)
}

// refused keeps why a call may not pay, and gives the error the name of that trace. What is no verdict passes through.
func (f *Payments) refused(ctx context.Context, c *call, cause error) error {
	e := *AsError(cause)
	if !verdict(&e) {
		return &e
	}
	c.blame(&e)
	id := uuid.Must(uuid.NewV7())
	if err := f.note(ctx, c.traceRow(id, f.now(), trace.OutcomeRefused, &e, c.why)); err != nil {
		f.log.WarnContext(ctx, "could not keep why a call was refused", "agent_id", c.agent.ID, "error", err)
		return &e
	}
	e.Trace = id.String()
	return &e
}

// verdict reports whether an error is a judgement on what the call asks for.
func verdict(e *Error) bool {
	switch e.Code {
	case Forbidden, InsufficientBalance, SpendingLimit, CostExceedsMax, ServiceFailed, InvalidRequest:
		return true
	case Conflict:
		return e.Closed
	case ApprovalRequired, Unauthorized, NotFound, RateLimited, Timeout, ServerError:
	}
	return false
}

// blame adds what was compared under the locks, and the rule that an error names where the call has not noted it yet.
func (c *call) blame(e *Error) {
	c.why.Rules, c.weighed = append(c.why.Rules, traced(c.weighed)...), nil
	var d *policy.Denial
	rule := TracedRule{}
	switch {
	case errors.As(e.Err, &d):
		rule = TracedRule{Rule: string(d.Rule), Current: d.Current, Requested: d.Requested, Max: d.Max}
	case errors.Is(e.Err, ledger.ErrInsufficient):
		rule = TracedRule{Rule: ruleBalance, Requested: c.price()}
	default:
		return
	}
	if !slices.ContainsFunc(c.why.Rules, func(r TracedRule) bool { return r.Rule == rule.Rule }) {
		c.why.Rules = append(c.why.Rules, rule)
	}
}

// claimed is a seller's receipt as history keeps it; empty when there was none.
func claimed(r pay.Receipt) string {
	if !r.Known {
		return ""
	}
	claim := struct {
		Success bool       `json:"success"`
		TxHash  string     `json:"tx_hash,omitempty"`
		Amount  money.USDC `json:"amount,omitempty"`
		Reason  string     `json:"reason,omitempty"`
	}{Success: r.Success, Amount: r.Amount, Reason: pay.Text(r.Reason)}
	if r.TxHash != (common.Hash{}) {
		claim.TxHash = r.TxHash.Hex()
	}
	text, err := json.Marshal(claim)
	if err != nil {
		return "" // plain data always marshals
	}
	return string(text)
}
