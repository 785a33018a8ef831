package core

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/approval"
	"bursar/ent/payee"
	"bursar/ent/trace"
	"bursar/ent/transaction"
	"bursar/ent/usage"
	"bursar/money"
)

// Bounds of a replay.
const (
	maxReplayDays  = 90
	maxReplayCalls = 20_000 // the newest; older ones are left out
	maxDifferences = 100    // that are listed

	hostsAtOnce     = 500    // of which payees are read
	maxReplayPayees = 20_000 // of so many hosts
)

// ReplayInput is a draft of a policy, and over how many days it is tried. What is absent of the draft is as it is now.
type ReplayInput struct {
	AgentID uuid.UUID
	Draft   PolicyInput
	Days    int // whole UTC days before today, and today
}

// Replay is what a draft would have done.
type Replay struct {
	Calls     int        // that were judged
	Truncated bool       // there were more
	Spent     money.USDC // in fact
	Refused   int        // paid in fact, and refused by the draft
	Saved     money.USDC // what those were charged
	Freed     int        // refused by the policy in fact, and allowed by the draft
	Added     money.USDC // what those asked for
	Held      int        // held for a person's yes by the draft, and not in fact; what they spend is counted as if it was given

	Differences []ReplayDifference // oldest first
}

// ReplayDifference is a call that the draft judges otherwise than it was judged.
type ReplayDifference struct {
	Trace  *TraceView
	Rule   string // of the draft that refuses or holds; empty: the draft allows
	Reason string
}

// Replay tries a draft of an agent's policy on its calls of the last days. Nothing is changed.
func (s *Policies) Replay(ctx context.Context, p Principal, in ReplayInput) (*Replay, error) {
	if err := errors.Join(p.need(ScopeBalance), p.need(ScopeTransactions)); err != nil {
		return nil, err
	}
	if in.Days < 1 || in.Days > maxReplayDays {
		return nil, E(InvalidRequest, "days must lie between 1 and %d", maxReplayDays)
	}
	if err := in.Draft.validate(); err != nil {
		return nil, err
	}
	a, err := of(p, s.db.readEnt).agent(in.AgentID).WithPolicy().Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	from := s.now().Truncate(24*time.Hour).AddDate(0, 0, -in.Days)
	var out *Replay
	err = s.db.atOnce(ctx, func(c *ent.Client) error {
		past, err := s.readPast(ctx, c, a, from)
		if err != nil {
			return err
		}
		out, err = past.judge(in.Draft.over(rules(a.Edges.Policy)))
		return err
	})
	return out, err
}

// over is the draft laid over the policy that is in force.
func (in PolicyInput) over(p policy.Policy) policy.Policy {
	for _, l := range []struct {
		draft Optional[money.USDC]
		limit **money.USDC
	}{
		{in.SpendingCap, &p.SpendingCap},
		{in.DailyLimit, &p.DailyLimit},
		{in.MonthlyLimit, &p.MonthlyLimit},
		{in.PerCallMax, &p.PerCallMax},
		{in.ApproveAbove, &p.ApproveAbove},
	} {
		if l.draft.Set {
			*l.limit = l.draft.Value
		}
	}
	if in.AllowedServices != nil {
		p.Allowed = *in.AllowedServices
	}
	if in.BlockedServices != nil {
		p.Blocked = *in.BlockedServices
	}
	if in.RequireSession != nil {
		p.RequireSession = *in.RequireSession
	}
	for _, r := range []struct {
		draft *Reaction
		does  *Reaction
	}{{in.NewPayee, &p.NewPayee}, {in.ChangedPayee, &p.ChangedPayee}, {in.PriceJump, &p.PriceJump}} {
		if r.draft != nil {
			*r.does = *r.draft
		}
	}
	if in.PriceJumpPercent != nil {
		p.PriceJumpPercent = *in.PriceJumpPercent
	}
	return p
}

// past is an agent's calls, oldest first, and what it had spent before them.
type past struct {
	before    policy.Before
	traces    []*ent.Trace
	paid      map[uuid.UUID]spent // by payment
	used      map[uuid.UUID]bool  // requests for approval by which a later call has paid
	truncated bool
}

// spent is what a payment counts for in the limits, and what was taken of it.
type spent struct{ counts, taken money.USDC }

func (s *Policies) readPast(ctx context.Context, c *ent.Client, a *ent.Agent, from time.Time) (*past, error) {
	p := &past{paid: map[uuid.UUID]spent{}, used: map[uuid.UUID]bool{}}
	var err error
	p.traces, err = c.Trace.Query().Where(trace.AgentID(a.ID), trace.CreatedAtGTE(from), trace.OutcomeNEQ(trace.OutcomeLogin)).
		Order(trace.ByCreatedAt(desc()), trace.ByID(desc())).Limit(maxReplayCalls + 1).All(ctx)
	if err != nil || len(p.traces) == 0 {
		return p, err
	}
	if p.truncated = len(p.traces) > maxReplayCalls; p.truncated {
		p.traces = p.traces[:maxReplayCalls]
	}
	slices.Reverse(p.traces)
	since := p.traces[0].CreatedAt
	if err := p.readSpent(ctx, c, a.ID, since); err != nil {
		return nil, err
	}
	if err := s.readPayees(ctx, c, p, a, since); err != nil {
		return nil, err
	}
	used, err := c.Approval.Query().Where(approval.AgentID(a.ID), approval.StatusEQ(approval.StatusUsed), approval.CreatedAtGTE(since)).IDs(ctx)
	for _, id := range used {
		p.used[id] = true
	}
	return p, err
}

// readPayees reads whom the hosts of the past had been paid to before it, and by other agents since.
func (s *Policies) readPayees(ctx context.Context, c *ent.Client, p *past, a *ent.Agent, since time.Time) error {
	p.before.Payees = map[policy.HostPayee]time.Time{}
	hosts := map[uuid.UUID]bool{}
	for _, t := range p.traces {
		hosts[s.hostID(a.OrgID, paidAt(t))] = true
	}
	for ids := range slices.Chunk(slices.Collect(maps.Keys(hosts)), hostsAtOnce) {
		known, err := c.Payee.Query().Where(payee.HostIDIn(ids...), payee.Or(payee.AgentIDNEQ(a.ID), payee.CreatedAtLT(since))).Limit(maxReplayPayees).All(ctx)
		if err != nil {
			return err
		}
		for _, k := range known {
			p.before.Payees[policy.HostPayee{Host: k.Host, Payee: k.Address}] = k.CreatedAt.UTC()
		}
	}
	return nil
}

// readSpent reads what the calls since a moment count for, and from the counters what came before them.
func (p *past) readSpent(ctx context.Context, c *ent.Client, agent uuid.UUID, since time.Time) error {
	payments, err := c.Transaction.Query().Where(
		transaction.AgentID(agent), transaction.KindEQ(transaction.KindPayment), transaction.CreatedAtGTE(since),
	).Select(transaction.FieldID, transaction.FieldCreatedAt, transaction.FieldStatus, transaction.FieldAmount, transaction.FieldQuoted).All(ctx)
	if err != nil {
		return err
	}
	month, ever := policy.AgentCounters(agent.String(), since)
	counters, err := c.Usage.Query().Where(usage.IDIn(month, ever)).All(ctx)
	if err != nil {
		return err
	}
	for _, u := range counters {
		if u.ID == month {
			p.before.Month = u.Spent
		} else {
			p.before.Total = u.Spent
		}
	}
	for _, t := range payments {
		was := spentBy(t)
		p.paid[t.ID] = was
		p.before.Total = p.before.Total.Sub(was.counts)
		if this, _ := policy.AgentCounters(agent.String(), t.CreatedAt); this == month {
			p.before.Month = p.before.Month.Sub(was.counts)
		}
	}
	return nil
}

// spentBy tells of a payment what it was charged, or holds.
func spentBy(t *ent.Transaction) spent {
	switch t.Status {
	case transaction.StatusSuccess:
		return spent{t.Amount, t.Amount}
	case transaction.StatusFailed:
		return spent{}
	case transaction.StatusPending, transaction.StatusUnknown:
	}
	return spent{counts: t.Quoted}
}

// judge compares what was decided with what the draft would have.
func (p *past) judge(draft policy.Policy) (*Replay, error) {
	out := &Replay{Truncated: p.truncated}
	var views []*TraceView
	var calls []policy.Past
	for _, t := range p.traces {
		v, err := viewTrace(t)
		if err != nil {
			return nil, err
		}
		was, paid := p.paid[t.ID]
		if t.Outcome != trace.OutcomeAllowed {
			if !byPolicy(v) || p.used[t.ID] {
				continue // the draft changes nothing of why; or the call was paid in the end, and is met again there
			}
			was = spent{t.Amount, t.Amount}
		} else if !paid {
			continue
		}
		views = append(views, v)
		calls = append(calls, policy.Past{
			At: t.CreatedAt.UTC(), Host: t.Host, Domain: domainOf(t.Host), Service: t.Service, InSession: t.SessionID != nil, Price: t.Amount,
			Charged: was.counts, Settled: was.taken, Place: whose(paidAt(t)), Payee: v.payee(), Route: t.Method + " " + pathOf(t.Endpoint),
		})
	}
	out.Calls = len(calls)
	for i, err := range policy.Replay(draft, p.before, calls) {
		out.add(views[i], calls[i], err)
	}
	return out, nil
}

func (r *Replay) add(v *TraceView, c policy.Past, verdict error) {
	was := v.Outcome == trace.OutcomeAllowed
	if was {
		r.Spent = r.Spent.Add(c.Charged)
	}
	d := ReplayDifference{Trace: v}
	var held *policy.Unanswered
	holds := errors.As(verdict, &held)
	switch {
	case holds && v.ApprovalID != nil: // it was held in fact
		return
	case holds:
		r.Held, d.Rule, d.Reason = r.Held+1, policy.Names(held.Found), held.Error()
	case was && verdict != nil:
		denial := AsError(verdict)
		r.Refused, r.Saved, d.Reason = r.Refused+1, r.Saved.Add(c.Charged), denial.Message
		var why *policy.Denial
		if errors.As(verdict, &why) {
			d.Rule = string(why.Rule)
		}
	case !was && verdict == nil:
		r.Freed, r.Added = r.Freed+1, r.Added.Add(c.Charged)
	default:
		return
	}
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, d)
	}
}

// paidAt is who was paid there, as the memory names it.
func paidAt(t *ent.Trace) string {
	if policy.Strange(t.Service) {
		return t.Service
	}
	return t.Host
}

// pathOf is an endpoint without its scheme and host; that of a business has neither.
func pathOf(endpoint string) string {
	_, rest, whole := strings.Cut(endpoint, "://")
	if !whole {
		return endpoint
	}
	_, path, _ := strings.Cut(rest, "/")
	return path
}

// agentRules are those that an agent's policy sets.
var agentRules = []policy.Rule{
	policy.RuleBlocked, policy.RuleAllowed, policy.RuleRequireSession, policy.RuleNewPayee, policy.RuleChangedPayee, policy.RulePriceJump,
	policy.RuleApproveAbove, policy.RulePerCall, policy.RuleDaily, policy.RuleMonthly, policy.RuleCap,
}

// byPolicy reports whether it was the agent's policy alone that refused.
func byPolicy(v *TraceView) bool {
	refusing := 0
	for _, r := range v.Rules {
		if r.OK {
			continue
		}
		if !slices.Contains(agentRules, policy.Rule(r.Rule)) {
			return false
		}
		refusing++
	}
	return refusing > 0
}
