package core_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay/paytest"
)

// payer is what a call of a fleet is paid from.
type payer struct{ agent, session string }

// fleet makes three agents, two of them with a session besides, and a second process over the same database.
func fleet(t *testing.T, w *coretest.World, p core.Principal) (payers []payer, second *core.Core) {
	t.Helper()
	for i := range 3 {
		a := w.Agent(p, fmt.Sprintf("bot %d", i), 2*money.One)
		payers = append(payers, payer{agent: a.ID.String()})
		if i == 2 {
			break
		}
		s, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		payers = append(payers, payer{a.ID.String(), s.ID.String()})
	}
	second, err := core.New(w.Ctx, w.Deps)
	if err != nil {
		t.Fatal(err)
	}
	return payers, second
}

// race makes calls of one cent from all payers and both processes at once, and counts what passes and what the rule
// refuses.
func race(t *testing.T, w *coretest.World, p core.Principal, calls int, rule string) (passed, refused int64) {
	t.Helper()
	payers, second := fleet(t, w, p)
	s := w.Seller(cent)
	var ok, no atomic.Int64
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			from := payers[i%len(payers)]
			in := core.FetchInput{Agent: from.agent, SessionID: from.session, URL: s.Link(1+i%2, paytest.Serve, 0)}
			_, err := []*core.Core{w.Core, second}[i%2].Payments.Fetch(w.Ctx, p, in)
			switch {
			case err == nil:
				ok.Add(1)
			case code(err) == core.SpendingLimit && core.AsError(err).Limit.Rule == rule:
				no.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	w.Settle()
	w.Balanced()
	return ok.Load(), no.Load()
}

// Parallel calls of several agents, wallets and sessions never pass what their organisation may spend.
func TestOrganisationLimitUnderConcurrency(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		if _, err := w.Core.Orgs.UpdateLimits(w.Ctx, p, core.OrgLimitsInput{DailyLimit: core.Set(20 * cent), MonthlyLimit: core.Set(money.One)}); err != nil {
			t.Fatal(err)
		}
		if ok, refused := race(t, w, p, 45, "org_daily"); ok != 20 || refused != 25 {
			t.Errorf("%d calls passed, %d were refused", ok, refused)
		}
		v, err := w.Core.Orgs.Get(w.Ctx, p)
		if err != nil || v.SpentToday != 20*cent || v.SpentThisMonth != 20*cent || v.SpentTotal != 20*cent || v.Version != 2 {
			t.Errorf("%+v %v", v, err)
		}
	})
}

func TestDepartmentBudgetUnderConcurrency(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		budget := 15 * cent
		d, err := w.Core.Departments.Create(w.Ctx, p, "research", &budget)
		if err != nil {
			t.Fatal(err)
		}
		payers, second := fleet(t, w, p)
		agents, err := w.Core.Agents.List(w.Ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range agents[:2] { // the third is outside
			if _, err := w.Core.Agents.Update(w.Ctx, p, a.ID, core.UpdateAgentInput{DepartmentID: core.Set(d.ID)}); err != nil {
				t.Fatal(err)
			}
		}
		s := w.Seller(cent)
		var inside, outside atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				from := payers[i%len(payers)]
				in := core.FetchInput{Agent: from.agent, SessionID: from.session, URL: s.Link(1+i%2, paytest.Serve, 0)}
				_, err := []*core.Core{w.Core, second}[i%2].Payments.Fetch(w.Ctx, p, in)
				switch {
				case err == nil && i%len(payers) == len(payers)-1:
					outside.Add(1)
				case err == nil:
					inside.Add(1)
				case code(err) != core.SpendingLimit || core.AsError(err).Limit.Rule != "department_budget":
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if inside.Load() != 15 || outside.Load() != 10 {
			t.Errorf("%d calls of the department passed, %d of others", inside.Load(), outside.Load())
		}
		w.Settle()
		w.Balanced()
	})
}

// A limit that is tightened while a call waits for its price counts for that call.
func TestOrganisationTightenedDuringTheCallCounts(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	slow := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, err := w.Core.Orgs.UpdateLimits(w.Ctx, p, core.OrgLimitsInput{SpendingCap: core.Set(cent - 1)}); err != nil {
			t.Error(err)
		}
		s.ServeHTTP(rw, r)
	}))
	_, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{URL: slow + "/v2/serve"})
	if e := core.AsError(err); err == nil || e.Code != core.SpendingLimit || e.Limit.Rule != "org_cap" {
		t.Errorf("paid above the cap: %v", err)
	}
}

func TestWhoMayChangeLimits(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	for role, want := range map[core.Role]core.Code{core.Owner: "", core.Admin: "", core.Member: core.Forbidden, core.Viewer: core.Forbidden} {
		q := p
		q.Role = role
		if _, err := w.Core.Orgs.UpdateLimits(w.Ctx, q, core.OrgLimitsInput{DailyLimit: core.Set(money.One)}); code(err) != want {
			t.Errorf("%s changes limits: %v", role, err)
		}
		if _, err := w.Core.Books.AuditOrg(w.Ctx, q); code(err) != want {
			t.Errorf("%s proves the books: %v", role, err)
		}
		if v, err := w.Core.Orgs.Get(w.Ctx, q); err != nil || v.ID != p.OrgID {
			t.Errorf("%s reads: %+v %v", role, v, err)
		}
	}
	for _, in := range []core.OrgLimitsInput{{DailyLimit: core.Set(money.USDC(-1))}, {SpendingCap: core.Set(money.Max + 1)}} {
		if _, err := w.Core.Orgs.UpdateLimits(w.Ctx, p, in); code(err) != core.InvalidRequest {
			t.Errorf("%+v: %v", in, err)
		}
	}
	v, err := w.Core.Orgs.UpdateLimits(w.Ctx, p, core.OrgLimitsInput{DailyLimit: core.Optional[money.USDC]{Set: true}})
	if err != nil || v.DailyLimit != nil {
		t.Errorf("cleared: %+v %v", v, err)
	}
}
