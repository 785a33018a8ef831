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

	maxReplays      = 2      // at a time, of one process: each holds a connection and a snapshot
	replayPage      = 500    // calls that are read and judged together
	maxReplayPayees = 20_000 // of the hosts of one page
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
	select {
	case s.replays <- struct{}{}:
		defer func() { <-s.replays }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	from := s.now().Truncate(24*time.Hour).AddDate(0, 0, -in.Days)
	out := &Replay{}
	err = s.db.atOnce(ctx, func(c *ent.Client) error {
		r := &rerun{store: s.store, c: c, agent: a, out: out}
		return r.run(ctx, in.Draft.over(rules(a.Edges.Policy)), from)
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

// rerun is a replay under way. It reads an agent's calls by pages, oldest first, and keeps of them what the next ones are
// judged by, and the differences that are listed.
type rerun struct {
	*store
	c     *ent.Client // which sees one moment
	agent *ent.Agent
	since time.Time // of the first call
	draft *policy.Replay
	out   *Replay
}

// run judges the newest calls since a moment.
func (r *rerun) run(ctx context.Context, draft policy.Policy, from time.Time) error {
	calls := r.c.Trace.Query().Where(trace.AgentID(r.agent.ID), trace.CreatedAtGTE(from), trace.OutcomeNEQ(trace.OutcomeLogin))
	edge, err := calls.Clone().Select(trace.FieldID, trace.FieldCreatedAt).Order(trace.ByCreatedAt(desc()), trace.ByID(desc())).
		Offset(maxReplayCalls).Limit(1).All(ctx)
	if err != nil {
		return err
	}
	var last *ent.Trace // that is not judged, or has been
	if r.out.Truncated = len(edge) > 0; r.out.Truncated {
		last = edge[0]
	}
	for {
		page := calls.Clone()
		if last != nil {
			page.Where(trace.Or(trace.CreatedAtGT(last.CreatedAt), trace.And(trace.CreatedAtEQ(last.CreatedAt), trace.IDGT(last.ID))))
		}
		traces, err := page.Order(trace.ByCreatedAt(), trace.ByID()).Limit(replayPage).All(ctx)
		if err != nil || len(traces) == 0 {
			return err
		}
		if r.draft == nil {
			r.since = traces[0].CreatedAt
			before, err := r.spentBefore(ctx)
			if err != nil {
				return err
			}
			r.draft = policy.NewReplay(draft, r.since, before)
		}
		if err := r.judge(ctx, traces); err != nil || len(traces) < replayPage {
			return err
		}
		last = traces[len(traces)-1]
	}
}

// judge compares what was decided with what the draft would have.
func (r *rerun) judge(ctx context.Context, traces []*ent.Trace) error {
	paid, err := r.readPaid(ctx, traces)
	if err != nil {
		return err
	}
	used, err := r.readUsed(ctx, traces)
	if err != nil {
		return err
	}
	views := make([]*TraceView, len(traces))
	for i, t := range traces {
		if views[i], err = viewTrace(t); err != nil {
			return err
		}
	}
	if err := r.readPayees(ctx, views); err != nil {
		return err
	}
	for i, t := range traces {
		v := views[i]
		was, ended := paid[t.ID]
		if t.Outcome != trace.OutcomeAllowed {
			if !byPolicy(v) || used[t.ID] {
				continue // the draft changes nothing of why; or the call was paid in the end, and is met again there
			}
			was = spent{t.Amount, t.Amount}
		} else if !ended {
			continue
		}
		call := policy.Past{
			At: t.CreatedAt.UTC(), Host: t.Host, Domain: domainOf(t.Host), Service: t.Service, InSession: t.SessionID != nil, Price: t.Amount,
			Charged: was.counts, Settled: was.taken, Place: whose(paidAt(t)), Payee: v.payee(), Route: t.Method + " " + pathOf(t.Endpoint),
		}
		r.out.Calls++
		r.out.add(v, call, r.draft.Judge(call))
	}
	return nil
}

// readUsed finds the requests for approval by which a later call has paid.
func (r *rerun) readUsed(ctx context.Context, traces []*ent.Trace) (map[uuid.UUID]bool, error) {
	ids, err := r.c.Approval.Query().Where(approval.IDIn(idsOf(traces, trace.OutcomeHeld)...), approval.StatusEQ(approval.StatusUsed)).IDs(ctx)
	used := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		used[id] = true
	}
	return used, err
}

func idsOf(traces []*ent.Trace, of trace.Outcome) []uuid.UUID {
	var ids []uuid.UUID
	for _, t := range traces {
		if t.Outcome == of {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// readPayees reads whom the hosts of a page had been paid to before the replay, and by other agents since.
func (r *rerun) readPayees(ctx context.Context, calls []*TraceView) error {
	hosts, named := map[uuid.UUID]bool{}, map[policy.HostPayee]bool{}
	for _, v := range calls {
		hosts[r.hostID(r.agent.OrgID, paidAt(v.Trace))] = true
		named[policy.HostPayee{Host: whose(paidAt(v.Trace)), Payee: v.payee()}] = true
	}
	known, err := r.c.Payee.Query().Where(payee.HostIDIn(slices.Collect(maps.Keys(hosts))...), payee.Or(payee.AgentIDNEQ(r.agent.ID), payee.CreatedAtLT(r.since))).
		Select(payee.FieldHost, payee.FieldAddress, payee.FieldCreatedAt).Limit(maxReplayPayees).All(ctx)
	for _, k := range known {
		if who := (policy.HostPayee{Host: k.Host, Payee: k.Address}); named[who] {
			r.draft.Paid(who, k.CreatedAt.UTC())
		} else {
			r.draft.PaidSomebody(k.Host, k.CreatedAt.UTC())
		}
	}
	return err
}

// spentBefore is what the agent had spent before the replay: what the counters say now, less what the payments since count for.
func (r *rerun) spentBefore(ctx context.Context) (policy.Before, error) {
	var b policy.Before
	month, ever := policy.AgentCounters(r.agent.ID.String(), r.since)
	counters, err := r.c.Usage.Query().Where(usage.IDIn(month, ever)).All(ctx)
	if err != nil {
		return b, err
	}
	for _, u := range counters {
		if u.ID == month {
			b.Month = u.Spent
		} else {
			b.Total = u.Spent
		}
	}
	year, m, _ := r.since.UTC().Date()
	for until, left := range map[time.Time]*money.USDC{time.Date(year, m+1, 1, 0, 0, 0, 0, time.UTC): &b.Month, {}: &b.Total} {
		payments := r.c.Transaction.Query().Where(transaction.AgentID(r.agent.ID), transaction.KindEQ(transaction.KindPayment), transaction.CreatedAtGTE(r.since))
		if !until.IsZero() {
			payments.Where(transaction.CreatedAtLT(until))
		}
		var sums []struct {
			Status transaction.Status
			Quoted money.USDC
			Amount money.USDC
		}
		err := payments.GroupBy(transaction.FieldStatus).Aggregate(
			ent.As(ent.Sum(transaction.FieldQuoted), "quoted"), ent.As(ent.Sum(transaction.FieldAmount), "amount"),
		).Scan(ctx, &sums)
		if err != nil {
			return b, err
		}
		for _, s := range sums {
			*left = left.Sub(spentBy(&ent.Transaction{Status: s.Status, Quoted: s.Quoted, Amount: s.Amount}).counts)
		}
	}
	return b, nil
}

// spent is what a payment counts for in the limits, and what was taken of it.
type spent struct{ counts, taken money.USDC }

func (r *rerun) readPaid(ctx context.Context, traces []*ent.Trace) (map[uuid.UUID]spent, error) {
	payments, err := r.c.Transaction.Query().Where(
		transaction.IDIn(idsOf(traces, trace.OutcomeAllowed)...), transaction.KindEQ(transaction.KindPayment),
	).Select(
		transaction.FieldID, transaction.FieldStatus, transaction.FieldAmount, transaction.FieldQuoted, transaction.FieldTxHash, transaction.FieldServiceID,
	).All(ctx)
	paid := make(map[uuid.UUID]spent, len(payments))
	for _, t := range payments {
		paid[t.ID] = spentBy(t)
	}
	return paid, err
}

// spentBy tells of a payment what it was charged, or holds. What a session's answer has charged may come back: the chain has
// taken it when it shows it.
func spentBy(t *ent.Transaction) spent {
	switch t.Status {
	case transaction.StatusSuccess:
		if t.TxHash == nil && t.ServiceID == nil {
			return spent{counts: t.Amount}
		}
		return spent{t.Amount, t.Amount}
	case transaction.StatusFailed:
		return spent{}
	case transaction.StatusPending, transaction.StatusUnknown:
	}
	return spent{counts: t.Quoted}
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
