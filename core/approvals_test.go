package core_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/approval"
	"bursar/ent/session"
	"bursar/ent/trace"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay/paytest"
)

// yes is a world in which each amount above one atomic unit needs a person.
func yes(w *coretest.World) (core.Principal, *core.AgentView, *shop) {
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	setPolicy(w, p, a.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
	return p, a, newShop(w, cent)
}

// colleague is another person of the same organisation.
func colleague(w *coretest.World, p core.Principal, email string) core.Principal {
	w.T.Helper()
	other, _ := w.User(email)
	other.OrgID = p.OrgID
	return other
}

func approvalOf(w *coretest.World, p core.Principal, id uuid.UUID) *ent.Approval {
	w.T.Helper()
	a, err := w.Core.Approvals.Get(w.Ctx, p, id)
	if err != nil {
		w.T.Fatal(err)
	}
	return a
}

func approve(w *coretest.World, p core.Principal, id uuid.UUID) {
	w.T.Helper()
	if a, err := w.Core.Approvals.Approve(w.Ctx, p, id); err != nil || a.Status != approval.StatusApproved {
		w.T.Fatalf("%+v %v", a, err)
	}
}

// TestApproval: the same call joins the request, holds nothing while it waits, is paid once when a person has said yes, and
// asks anew the next time.
func TestApproval(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, s := yes(w)
		id := asks(w, p, s.call(0, false))
		if again := asks(w, p, s.call(0, false)); again != id {
			t.Errorf("the same call made another request: %s, %s", id, again)
		}
		got := approvalOf(w, p, id)
		if got.AgentID != a.ID || got.Payee != s.one.PayTo.Hex() || got.Ceiling != cent || got.Rule != "approve_above" || got.Status != approval.StatusPending ||
			!strings.HasPrefix(got.Host, "localhost:") || got.Asset != w.Net.Client.Network().USDC.Hex() || got.CredentialID != nil {
			t.Errorf("%+v", got)
		}
		v, err := w.Core.Traces.Get(w.Ctx, p, id)
		if err != nil || v.Outcome != trace.OutcomeHeld || v.Code != "approval_required" || *v.ApprovalID != id || rule(v.TraceDetail, "approve_above").OK {
			t.Errorf("%+v %v", v, err)
		}
		if b := agentOf(w, p, a.ID); b.Wallet.Pending != 0 || s.paid() != 0 {
			t.Errorf("%s pending, %d paid", b.Wallet.Pending, s.paid())
		}
		approve(w, p, id)
		r := fetch(w, p, s.call(0, false))
		if got := approvalOf(w, p, id); got.Status != approval.StatusUsed || *got.PaymentID != r.Payment.ID || *got.DecidedBy != p.UserID {
			t.Errorf("%+v", got)
		}
		next := asks(w, p, s.call(0, false))
		if next == id {
			t.Error("a yes was asked for twice under one id")
		}
		named := s.call(0, false)
		named.ApprovalID = &next
		approve(w, p, next)
		fetch(w, p, named)
		if s.paid() != 2 {
			t.Errorf("%d paid", s.paid())
		}
		unknown := uuid.New()
		named.ApprovalID = &unknown
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, named); code(err) != core.NotFound {
			t.Errorf("no such approval: %v", err)
		}
		w.Settle()
		w.Balanced()
	})
}

// TestApprovalBinds: a yes is for one agent, one payee and at most its ceiling. What is raised or changed afterwards asks
// anew, and a request whose price was raised meanwhile cannot be answered any more.
func TestApprovalBinds(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		other := w.Agent(p, "other", money.One)
		setPolicy(w, p, other.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(1))})
		id := asks(w, p, s.call(0, false))
		approve(w, p, id)
		theirs := s.call(0, false)
		theirs.Agent = "other"
		for name, in := range map[string]core.FetchInput{"dearer": s.call(cent+1, false), "to another": s.call(0, true), "another agent": theirs} {
			if asks(w, p, in) == id {
				t.Errorf("%s: the same request", name)
			}
			if in.Agent == "bot" {
				in.ApprovalID = &id
				if asks(w, p, in) == id {
					t.Errorf("%s, by its id: the same request", name)
				}
			}
		}
		fetch(w, p, s.call(cent-1, false)) // less is what was approved, too
		if got := approvalOf(w, p, id); got.Status != approval.StatusUsed {
			t.Errorf("%s", got.Status)
		}
		low := asks(w, p, s.call(5000, true)) // joins what asks for more
		high := asks(w, p, s.call(2*cent, true))
		if got := approvalOf(w, p, low); got.Status != approval.StatusExpired || high == low {
			t.Errorf("a request whose price was raised is %s", got.Status)
		}
		if _, err := w.Core.Approvals.Approve(w.Ctx, p, low); code(err) != core.Conflict {
			t.Errorf("it is approved: %v", err)
		}
		w.Balanced()
	})
}

// TestApprovalRefused: a no refuses the call, with its reason and a trace, and stands for a while; a request that nobody
// answers, and a yes that nobody uses, expire.
func TestApprovalRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		refused := func(in core.FetchInput, text string, id uuid.UUID) {
			t.Helper()
			_, err := w.Core.Payments.Fetch(w.Ctx, p, in)
			e := core.AsError(err)
			if e.Code != core.Forbidden || !strings.Contains(e.Message, text) {
				t.Fatalf("%v", err)
			}
			if v := keptTrace(t, w, p, e); v.ApprovalID == nil || *v.ApprovalID != id || v.Outcome != trace.OutcomeRefused {
				t.Errorf("%+v", v)
			}
		}
		no := asks(w, p, s.call(0, false))
		if a, err := w.Core.Approvals.Deny(w.Ctx, p, no, "not this one"); err != nil || a.Status != approval.StatusDenied || a.DecisionReason != "not this one" {
			t.Fatalf("%+v %v", a, err)
		}
		named := s.call(0, false)
		named.ApprovalID = &no
		refused(named, "not this one", no)
		refused(s.call(0, false), "not this one", no)
		asks(w, p, s.call(0, true)) // it is about that payee alone
		w.Clock.Ahead(61 * time.Minute)
		unanswered := asks(w, p, s.call(0, false))
		named.ApprovalID = &unanswered
		w.Clock.Ahead(61 * time.Minute)
		refused(named, "expired", unanswered)
		must(w, w.Core.Approvals.ExpireDue(w.Ctx))
		if got := approvalOf(w, p, unanswered); got.Status != approval.StatusExpired {
			t.Errorf("unanswered: %s", got.Status)
		}
		refused(named, "expired", unanswered)
		unused := asks(w, p, s.call(0, false))
		approve(w, p, unused)
		w.Clock.Ahead(61 * time.Minute)
		if asks(w, p, s.call(0, false)) == unused {
			t.Error("a yes was good for ever")
		}
		must(w, w.Core.Approvals.ExpireDue(w.Ctx))
		if got := approvalOf(w, p, unused); got.Status != approval.StatusExpired || s.paid() != 0 {
			t.Errorf("unused: %s, %d paid", got.Status, s.paid())
		}
		w.Balanced()
	})
}

// TestApprovalLiftsNoLimit: nobody is asked for what a limit refuses, and a yes does not let it pass either.
func TestApprovalLiftsNoLimit(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, s := yes(w)
		setPolicy(w, p, a.ID, core.PolicyInput{DailyLimit: core.Set(cent - 1)})
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(0, false)); code(err) != core.SpendingLimit {
			t.Fatalf("%v", err)
		}
		if page, err := w.Core.Approvals.List(w.Ctx, p, core.ApprovalFilter{}); err != nil || page.Total != 0 {
			t.Errorf("%+v %v", page, err)
		}
		setPolicy(w, p, a.ID, core.PolicyInput{DailyLimit: core.Set(cent)})
		id := asks(w, p, s.call(0, false))
		approve(w, p, id)
		setPolicy(w, p, a.ID, core.PolicyInput{DailyLimit: core.Set(cent - 1)})
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(0, false)); code(err) != core.SpendingLimit {
			t.Errorf("%v", err)
		}
		if got := approvalOf(w, p, id); got.Status != approval.StatusApproved || s.paid() != 0 {
			t.Errorf("%s, %d paid", got.Status, s.paid())
		}
		w.Balanced()
	})
}

// noWrites keeps everybody from writing to a table, until it is released; they may read.
func noWrites(t *testing.T, w *coretest.World, table string) (release func()) {
	t.Helper()
	conn, err := raw(t, w).Conn(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	begin := "BEGIN IMMEDIATE"
	if w.DB.Dialect == dialect.Postgres {
		begin = "BEGIN; LOCK TABLE " + table + " IN SHARE MODE"
	}
	if _, err := conn.ExecContext(w.Ctx, begin); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.ExecContext(w.Ctx, "ROLLBACK"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
}

// TestApprovalIsUsedOnce: of calls at once, in two processes, one pays by a yes; each other needs its own.
func TestApprovalIsUsedOnce(t *testing.T) {
	const calls = 6
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		cores := []*core.Core{w.Core, another(w, "", nil)}
		for round := range 3 {
			id := asks(w, p, s.call(0, false))
			approve(w, p, id)
			errs := make([]error, calls)
			s.meet = &sync.WaitGroup{}
			s.meet.Add(calls)
			release := noWrites(t, w, "approvals") // so that all are judged before one is paid
			var wait sync.WaitGroup
			for i := range calls {
				in := s.call(0, false)
				if i%3 > 0 {
					in.ApprovalID = &id
				}
				wait.Go(func() { _, errs[i] = cores[i%2].Payments.Fetch(w.Ctx, p, in) })
			}
			s.meet.Wait()
			time.Sleep(100 * time.Millisecond) // nothing tells that a call waits for the database
			release()
			wait.Wait()
			s.meet = nil
			next := map[uuid.UUID]bool{}
			for _, err := range errs {
				if err == nil {
					continue
				}
				e := core.AsError(err)
				if e.Code != core.ApprovalRequired || e.Approval.ID == id {
					t.Fatalf("%v", err)
				}
				next[e.Approval.ID] = true
			}
			if n := s.paid(); n != round+1 || len(next) != 1 {
				t.Errorf("%d paid after %d approvals, %d requests are left", n, round+1, len(next))
			}
		}
		w.Settle()
		w.Balanced()
	})
}

// TestApproversRace: who decides first has decided, in whatever process, and the others are told who it was.
func TestApproversRace(t *testing.T) {
	const people = 6
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		cores := []*core.Core{w.Core, another(w, "", nil)}
		everybody := []core.Principal{p}
		for len(everybody) < people {
			everybody = append(everybody, colleague(w, p, "colleague"+string(rune('0'+len(everybody)))+"@example.com"))
		}
		id := asks(w, p, s.call(0, false))
		won, errs := make([]bool, people), make([]error, people)
		var wait sync.WaitGroup
		for i, who := range everybody {
			wait.Go(func() {
				if i%2 == 0 {
					_, errs[i] = cores[i/2%2].Approvals.Approve(w.Ctx, who, id)
				} else {
					_, errs[i] = cores[i/2%2].Approvals.Deny(w.Ctx, who, id, "")
				}
				won[i] = errs[i] == nil
			})
		}
		wait.Wait()
		winner := slices.Index(won, true)
		if winner < 0 || slices.Contains(won[winner+1:], true) {
			t.Fatalf("%v %v", won, errs)
		}
		got := approvalOf(w, p, id)
		want, by := approval.StatusApproved, "dev@example.com"
		if winner%2 == 1 {
			want = approval.StatusDenied
		}
		if winner > 0 {
			by = "colleague" + string(rune('0'+winner)) + "@example.com"
		}
		if got.Status != want || *got.DecidedBy != everybody[winner].UserID {
			t.Errorf("%+v", got)
		}
		for i, err := range errs {
			if e := core.AsError(err); i != winner && (e.Code != core.Conflict || !strings.Contains(e.Message, by) || !strings.Contains(e.Message, string(want))) {
				t.Errorf("%v", err)
			}
		}
		if n := count(t, raw(t, w), "audit_logs WHERE action LIKE 'approval.%'"); n != 1 {
			t.Errorf("%d rows in the log", n)
		}
		if winner%2 == 0 {
			fetch(w, p, s.call(0, false))
			if _, err := w.Core.Approvals.Deny(w.Ctx, p, id, ""); code(err) != core.Conflict {
				t.Errorf("no, after it was used: %v", err)
			}
		}
		w.Balanced()
	})
}

// TestApprovalIsTheOrganisations: others neither see nor decide, and only a person who may write decides.
func TestApprovalIsTheOrganisations(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, s := yes(w)
		stranger, _ := w.User("other@example.com")
		id := asks(w, p, s.call(0, false))
		viewer, program := colleague(w, p, "viewer@example.com"), p
		viewer.Role, program.Credential = core.Viewer, core.ByAPIKey
		for name, c := range map[string]struct {
			who  core.Principal
			want core.Code
		}{"a stranger": {stranger, core.NotFound}, "a viewer": {viewer, core.Forbidden}, "a program": {program, core.Forbidden}, "nobody": {core.Principal{}, core.Unauthorized}} {
			_, yes := w.Core.Approvals.Approve(w.Ctx, c.who, id)
			_, no := w.Core.Approvals.Deny(w.Ctx, c.who, id, "")
			if code(yes) != c.want || code(no) != c.want {
				t.Errorf("%s: %v, %v", name, yes, no)
			}
		}
		if _, err := w.Core.Approvals.Get(w.Ctx, stranger, id); code(err) != core.NotFound {
			t.Errorf("a stranger reads it: %v", err)
		}
		if page, err := w.Core.Approvals.List(w.Ctx, stranger, core.ApprovalFilter{}); err != nil || page.Total != 0 {
			t.Errorf("%+v %v", page, err)
		}
		if _, err := w.Core.Approvals.List(w.Ctx, stranger, core.ApprovalFilter{AgentID: &a.ID}); code(err) != core.NotFound {
			t.Errorf("%v", err)
		}
		if _, err := w.Core.Approvals.Watch(w.Ctx, stranger, &a.ID, true); code(err) != core.NotFound {
			t.Errorf("%v", err)
		}
		pending := approval.StatusPending
		if page, err := w.Core.Approvals.List(w.Ctx, viewer, core.ApprovalFilter{AgentID: &a.ID, Status: &pending}); err != nil || page.Total != 1 || page.Items[0].ID != id {
			t.Errorf("%+v %v", page, err)
		}
		if got := approvalOf(w, p, id); got.Status != pending {
			t.Errorf("%s", got.Status)
		}
	})
}

// TestApprovalIsWaitedFor: a call that may wait is told of the request's decision by whatever process made it; so are those
// who watch, and only those of the organisation.
func TestApprovalIsWaitedFor(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		stranger, _ := w.User("other@example.com")
		over := w.Core
		if w.DB.Dialect == dialect.Postgres {
			over = another(w, "", nil)
			relayed(t, w, over)
		}
		news := func(who core.Principal, pending bool) <-chan *ent.Approval {
			c, err := over.Approvals.Watch(w.Ctx, who, nil, pending)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		requested, changed, theirs := news(p, true), news(p, false), news(stranger, false)
		for _, decision := range []approval.Status{approval.StatusApproved, approval.StatusDenied} {
			in := s.call(0, false)
			in.ApprovalWait = time.Hour // as long as there may be
			done := make(chan error)
			go func() {
				_, err := w.Core.Payments.Fetch(w.Ctx, p, in)
				done <- err
			}()
			a := <-requested
			if b := <-changed; a.Status != approval.StatusPending || b.ID != a.ID || b.Status != a.Status {
				t.Errorf("%+v %+v", a, b)
			}
			if decision == approval.StatusApproved {
				if _, err := over.Approvals.Approve(w.Ctx, p, a.ID); err != nil {
					t.Fatal(err)
				}
			} else if _, err := over.Approvals.Deny(w.Ctx, p, a.ID, ""); err != nil {
				t.Fatal(err)
			}
			err := <-done
			last := <-changed
			for last.Status != approval.StatusUsed && last.Status != approval.StatusDenied {
				last = <-changed // approved is told, unless used was faster
			}
			if decision == approval.StatusApproved && (err != nil || last.Status != approval.StatusUsed) {
				t.Errorf("approved: %v, %s", err, last.Status)
			}
			if decision == approval.StatusDenied && (code(err) != core.Forbidden || last.Status != approval.StatusDenied) {
				t.Errorf("denied: %v, %s", err, last.Status)
			}
		}
		select {
		case a := <-theirs:
			t.Errorf("a stranger was told of %+v", a)
		default:
		}
		if s.paid() != 1 {
			t.Errorf("%d paid", s.paid())
		}
		w.Balanced()
	})
}

// relayed runs the relay between the world's process and another, and waits until both hear each other.
func relayed(t *testing.T, w *coretest.World, over *core.Core) {
	t.Helper()
	for _, c := range []*core.Core{w.Core, over} {
		go func() {
			if err := c.Relay(w.Ctx); err != nil {
				t.Error(err)
			}
		}()
	}
	p, _ := w.User("relay@example.com")
	a := w.Agent(p, "relay", 0)
	for _, pair := range [][2]*core.Core{{w.Core, over}, {over, w.Core}} {
		ctx, cancel := context.WithCancel(w.Ctx)
		balances, err := pair[1].Balances.Watch(ctx, p, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		<-balances // as it is
		heard := false
		for !heard {
			w.Fund(a, 1)
			w.Mine(2)
			if err := pair[0].Funding.ReadChain(w.Ctx); err != nil {
				t.Fatal(err)
			}
			again := time.NewTimer(200 * time.Millisecond) // one of the two did not listen yet
			select {
			case <-balances:
				heard = true
			case <-again.C:
			}
		}
		cancel()
	}
}

// TestApprovalUnderAKey: "a person must say yes" is not the answer of an idempotency key. The same request under it runs
// again, and once it is paid it is paid once.
func TestApprovalUnderAKey(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		key := "k"
		in := s.call(0, false)
		in.IdempotencyKey = &key
		id := asks(w, p, in)
		if again := asks(w, p, in); again != id {
			t.Errorf("%s, %s", id, again)
		}
		approve(w, p, id)
		in.ApprovalID, in.ApprovalWait = &id, time.Second // neither makes it another request
		first := fetch(w, p, in)
		in.ApprovalID = nil
		for range 2 {
			if again := fetch(w, p, in); again.Payment.ID != first.Payment.ID {
				t.Errorf("paid twice under one key: %s, %s", first.Payment.ID, again.Payment.ID)
			}
		}
		if s.paid() != 1 {
			t.Errorf("%d paid", s.paid())
		}
		key2 := "no"
		in.IdempotencyKey = &key2
		id = asks(w, p, in)
		if _, err := w.Core.Approvals.Deny(w.Ctx, p, id, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, in); code(err) != core.Forbidden {
			t.Errorf("%v", err)
		}
		w.Balanced()
	})
}

// TestApprovalsAreBounded: an agent cannot fill the list that people read.
func TestApprovalsAreBounded(t *testing.T) {
	w := coretest.New(t)
	p, _, s := yes(w)
	db := raw(t, w)
	id := asks(w, p, s.call(0, false))
	for i := range 99 {
		exec(t, db, fmt.Sprintf(`INSERT INTO approvals (id, created_at, org_id, agent_id, host, payee, network, asset, ceiling, method, endpoint, protocol, rule,
			reason, status, expires_unix) SELECT '%s', created_at, org_id, agent_id, 'host%d', payee, network, asset, ceiling, method, endpoint, protocol,
			rule, reason, status, expires_unix FROM approvals WHERE host LIKE 'localhost%%'`, uuid.New(), i))
	}
	_, err := w.Core.Payments.Fetch(w.Ctx, p, s.call(0, true))
	if e := core.AsError(err); e.Code != core.RateLimited || e.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
	if again := asks(w, p, s.call(0, false)); again != id {
		t.Errorf("%s, %s", id, again)
	}
}

// TestApprovalOfASignature: asking for a proof is asking to pay.
func TestApprovalOfASignature(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _, s := yes(w)
		link, key := s.one.Link(1, paytest.Serve, 0), "k"
		in := core.SignInput{Agent: "bot", URL: link, Challenge: challenge(t, link), IdempotencyKey: &key}
		_, err := w.Core.Payments.Sign(w.Ctx, p, in)
		e := core.AsError(err)
		if e.Code != core.ApprovalRequired {
			t.Fatalf("%v", err)
		}
		approve(w, p, e.Approval.ID)
		in.ApprovalID = &e.Approval.ID
		signed, err := w.Core.Payments.Sign(w.Ctx, p, in)
		if err != nil || *approvalOf(w, p, e.Approval.ID).PaymentID != signed.Payment.ID {
			t.Fatalf("%+v %v", signed, err)
		}
		if again, err := w.Core.Payments.Sign(w.Ctx, p, in); err != nil || again.Value != signed.Value {
			t.Errorf("%+v %v", again, err)
		}
		in.IdempotencyKey = nil
		if _, err := w.Core.Payments.Sign(w.Ctx, p, in); code(err) != core.ApprovalRequired {
			t.Errorf("a second proof by one yes: %v", err)
		}
		w.Pass(2 * time.Minute)
		w.Settle()
		w.Jobs()
		if r, err := w.Core.Transactions.Get(w.Ctx, p, signed.Payment.ID); err != nil || r.Status != transaction.StatusFailed {
			t.Fatalf("%+v %v", r, err)
		}
		if _, err := w.Core.Payments.Sign(w.Ctx, p, in); code(err) != core.ApprovalRequired { // it has used the yes all the same
			t.Errorf("after a payment that failed: %v", err)
		}
		w.Balanced()
	})
}

// TestApprovalOfASessionsCall, and what a dry run says of it: it asks nobody.
func TestApprovalOfASessionsCall(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, a, s := yes(w)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One / 2})
		if err != nil || v.Status != session.StatusOpen {
			t.Fatalf("%+v %v", v, err)
		}
		in, dry := s.call(0, false), s.call(0, false)
		in.SessionID, dry.SessionID, dry.DryRun = v.ID.String(), v.ID.String(), true
		is := func(allowed bool, want string) {
			t.Helper()
			r, err := w.Core.Payments.Fetch(w.Ctx, p, dry)
			if err != nil || r.Verdict.Allowed != allowed || r.Verdict.Code != want || r.Verdict.Price != cent {
				t.Fatalf("%+v %v", r, err)
			}
		}
		is(false, "approval_required")
		if page, err := w.Core.Approvals.List(w.Ctx, p, core.ApprovalFilter{}); err != nil || page.Total != 0 {
			t.Errorf("%+v %v", page, err)
		}
		id := asks(w, p, in)
		is(false, "approval_required")
		approve(w, p, id)
		is(true, "")
		if got := approvalOf(w, p, id); got.Status != approval.StatusApproved {
			t.Errorf("a dry run has used it: %s", got.Status)
		}
		if r := fetch(w, p, in); r.Method != core.PaidBySession {
			t.Errorf("%+v", r)
		}
		is(false, "approval_required")
		w.Balanced()
	})
}

// TestReplayOfCaution: what a draft would have held for a person, and refused, of calls that were paid; and the other way.
func TestReplayOfCaution(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", money.One)
		s := newShop(w, cent)
		for _, in := range []core.FetchInput{s.call(0, false), s.call(0, false), s.call(2*cent, false), s.call(0, true)} {
			fetch(w, p, in)
		}
		replay := func(draft core.PolicyInput) *core.Replay {
			t.Helper()
			r, err := w.Core.Policies.Replay(w.Ctx, p, core.ReplayInput{AgentID: a.ID, Days: 7, Draft: draft})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for name, c := range map[string]struct {
			draft         core.PolicyInput
			refused, held int
			saved         money.USDC
		}{
			"none":              {core.PolicyInput{}, 0, 0, 0},
			"amounts":           {core.PolicyInput{ApproveAbove: core.Set(cent)}, 0, 1, 0},
			"all amounts":       {core.PolicyInput{ApproveAbove: core.Set(money.USDC(0))}, 0, 4, 0},
			"jumps":             {core.PolicyInput{PriceJump: reaction(core.ApproveIt)}, 0, 1, 0},
			"jumps are refused": {core.PolicyInput{PriceJump: reaction(core.RefuseIt)}, 1, 0, 2 * cent},
			"new payees":        {core.PolicyInput{NewPayee: reaction(core.ApproveIt)}, 0, 2, 0},
			"no new payees":     {core.PolicyInput{NewPayee: reaction(core.RefuseIt)}, 4, 0, 5 * cent},
			"changed payees":    {core.PolicyInput{ChangedPayee: reaction(core.RefuseIt)}, 1, 0, cent},
		} {
			r := replay(c.draft)
			if r.Calls != 4 || r.Refused != c.refused || r.Held != c.held || r.Saved != c.saved || r.Freed != 0 || len(r.Differences) != c.refused+c.held {
				t.Errorf("%s: %+v", name, r)
			}
		}
		setPolicy(w, p, a.ID, core.PolicyInput{ApproveAbove: core.Set(cent)})
		id := asks(w, p, s.call(2*cent, false))
		if r := replay(core.PolicyInput{}); r.Calls != 5 || r.Held != 1 || r.Freed != 0 { // the third call was before the policy
			t.Errorf("what was held is held: %+v", r)
		}
		if r := replay(core.PolicyInput{ApproveAbove: core.Optional[money.USDC]{Set: true}}); r.Freed != 1 || r.Added != 2*cent {
			t.Errorf("what was held is paid: %+v", r)
		}
		approve(w, p, id)
		fetch(w, p, s.call(2*cent, false))
		if r := replay(core.PolicyInput{ApproveAbove: core.Optional[money.USDC]{Set: true}}); r.Calls != 5 || r.Freed != 0 || r.Refused+r.Held != 0 {
			t.Errorf("what was approved and paid is one call: %+v", r)
		}
		w.Balanced()
	})
}
