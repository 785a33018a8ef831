package core_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/core/pricing"
	"bursar/ent/service"
	"bursar/ent/session"
	"bursar/ent/trace"
	"bursar/ent/transaction"
	"bursar/money"
)

// api is a service of the catalogue. It answers below /v1 and what its callers ask it to, and knows who may.
type api struct {
	*httptest.Server
	calls, strangers atomic.Int64 // strangers came without the credential
	gate             chan struct{}
	seen             atomic.Pointer[http.Request]
}

const apiSecret = `sk-secret<of> the "service"&co`

func newAPI(w *coretest.World) *api {
	a := &api{}
	a.Server = httptest.NewServer(a)
	w.T.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	a.calls.Add(1)
	a.seen.Store(r)
	if r.Header.Get("Authorization") != "Bearer "+apiSecret && r.URL.Query().Get("key") != apiSecret {
		a.strangers.Add(1)
	}
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/v1/wait":
		<-a.gate
	case "/v1/fail":
		rw.WriteHeader(http.StatusTeapot)
	case "/v1/broken":
		rw.WriteHeader(http.StatusInternalServerError)
	case "/v1/ask":
		rw.Header().Set("WWW-Authenticate", "Payment")
		rw.WriteHeader(http.StatusPaymentRequired)
	case "/v1/moved":
		http.Redirect(rw, r, "http://127.0.0.1:1/", http.StatusFound)
		return
	case "/v1/reset":
		panic(http.ErrAbortHandler)
	case "/v1/echo":
		rw.Header().Set("X-Echo", r.Header.Get("Authorization"))
		html, _ := json.Marshal(r.Header.Get("Authorization"))
		_, _ = fmt.Fprintf(rw, `{"authorization":%q,"html":%s,"query":%q}`, r.Header.Get("Authorization"), html, r.URL.RawQuery)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	tokens := r.URL.Query().Get("tokens")
	if tokens == "" {
		tokens = "0"
	}
	_, _ = fmt.Fprintf(rw, `{"path":%q,"bytes":%d,"usage":{"total_tokens":%s}}`, r.URL.RequestURI(), len(body), tokens)
}

// perCall is the operator's service at a cent a call.
func (a *api) perCall(slug string) core.ServiceInput {
	return core.ServiceInput{
		Slug: slug, Name: slug, BaseURL: a.URL + "/v1", Price: pricing.Price{PerCall: cent},
		Credential: &core.ServiceCredential{In: service.CredentialInHeader, Name: "Authorization", Prefix: "Bearer ", Secret: apiSecret},
	}
}

// perToken costs a cent a token, and ten at most.
func (a *api) perToken(slug string) core.ServiceInput {
	in := a.perCall(slug)
	in.Price = pricing.Price{By: pricing.AnswerField, Field: "usage.total_tokens", Unit: cent, Maximum: 10 * cent}
	return in
}

// metering is a world with a service, a payer and a session of a dollar.
type metering struct {
	*coretest.World
	api     *api
	p       core.Principal
	agent   *core.AgentView
	session *core.SessionView
}

func newMetering(t *testing.T, w *coretest.World, list ...func(*api) core.ServiceInput) *metering {
	t.Helper()
	m := &metering{World: w, api: newAPI(w)}
	var services []core.ServiceInput
	for _, in := range list {
		services = append(services, in(m.api))
	}
	must(w, w.Core.Services.Install(w.Ctx, services))
	m.p, _ = w.User("dev@example.com")
	m.agent = w.Agent(m.p, "bot", 3*money.One)
	var err error
	m.session, err = w.Core.Sessions.Open(w.Ctx, m.p, core.OpenSessionInput{AgentID: m.agent.ID, Deposit: money.One, Duration: 2 * time.Hour})
	must(w, err)
	return m
}

// call asks for a path of a service, from the session or, without one, from the wallet.
func (m *metering) call(inSession bool, service, path string) (*core.FetchResult, error) {
	in := core.FetchInput{Agent: "bot", Service: service, URL: path, Method: http.MethodPost, Body: []byte(`{}`)}
	if inSession {
		in.SessionID = m.session.ID.String()
	}
	return m.Core.Payments.Fetch(m.Ctx, m.p, in)
}

// left is what the session and the wallet have free.
func (m *metering) left() (inSession, inWallet money.USDC) {
	m.T.Helper()
	s, err := m.Core.Sessions.Get(m.Ctx, m.p, m.session.ID)
	must(m.World, err)
	a, err := m.Core.Agents.Get(m.Ctx, m.p, m.agent.ID)
	must(m.World, err)
	return s.Remaining, a.Wallet.Available
}

func slug(in func(*api, string) core.ServiceInput, name string) func(*api) core.ServiceInput {
	return func(a *api) core.ServiceInput { return in(a, name) }
}

func TestMeteredSession(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "search"), slug((*api).perToken, "model"))
		want := money.One
		for path, cost := range map[string]money.USDC{"find?q=a%20b": cent, "fail": 0, "broken": 0, "ask": 0, "moved": cent, "reset": 0} {
			r, err := m.call(true, "search", path)
			want -= cost
			if path == "reset" {
				if e := core.AsError(err); code(err) != core.ServiceFailed || e.Payment == "" {
					t.Errorf("%s: %v", path, err)
				}
				continue
			}
			if err != nil || r.Cost != cost || *r.SessionRemaining != want || r.Payment.Amount != cost || r.Service != "search" {
				t.Errorf("%s: %+v %v", path, r, err)
			} else if paid := r.Payment.Status == transaction.StatusSuccess; paid != (cost > 0) || r.Paid != paid {
				t.Errorf("%s: %+v", path, r.Payment)
			}
		}
		for tokens, cost := range map[string]money.USDC{"3": 3 * cent, "0": 0, "11": 10 * cent, "999999999": 10 * cent, "-1": 10 * cent, "null": 10 * cent} {
			r, err := m.call(true, "model", "complete?tokens="+tokens)
			want -= cost
			if err != nil || r.Cost != cost || *r.SessionRemaining != want || r.Payment.Status != transaction.StatusSuccess || r.Payment.Amount != cost {
				t.Errorf("%s tokens: %+v %v", tokens, r, err)
			}
		}
		if n := m.api.strangers.Load(); n != 0 {
			t.Errorf("%d calls came without the credential", n)
		}
		page, err := w.Core.Transactions.List(w.Ctx, m.p, core.TransactionFilter{PaymentsOnly: true, Limit: 100})
		if err != nil || page.Total != 12 || page.Spent != money.One-want {
			t.Errorf("history %+v %v", page, err)
		}
		w.Settle()
		w.Balanced()
		a, err := w.Core.Books.Audit(w.Ctx)
		if err != nil || a.Platform.Treasury != money.One-want || a.Platform.Sessions != want {
			t.Errorf("%+v %v", a.Platform, err)
		}
		c, err := w.Core.Sessions.Close(w.Ctx, m.p, m.session.ID, nil)
		if err != nil || c.Status != session.StatusClosed || c.Refunded != want {
			t.Errorf("%+v %v", c, err)
		}
		w.Settle()
		w.Balanced()
	})
}

func TestMeteredWallet(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		_, before := m.left()
		r, err := m.call(false, "model", "complete?tokens=3")
		if err != nil || r.Cost != 3*cent || r.Method != "metered" || r.TxHash == nil || r.Payment.Status == transaction.StatusFailed {
			t.Fatalf("%+v %v", r, err)
		}
		for _, path := range []string{"fail", "reset", "complete?tokens=0"} {
			if r, err := m.call(false, "model", path); path != "reset" && (err != nil || r.Cost != 0 || r.TxHash != nil) {
				t.Errorf("%s: %+v %v", path, r, err)
			}
		}
		if _, now := m.left(); now != before-3*cent {
			t.Errorf("the rest of a hold is not free: %s of %s", now, before)
		}
		w.Settle()
		done, err := w.Core.Transactions.Get(w.Ctx, m.p, r.Payment.ID)
		if err != nil || done.Status != transaction.StatusSuccess || done.Amount != 3*cent || *done.TxHash != *r.TxHash {
			t.Errorf("%+v %v", done, err)
		}
		if got := w.Net.Balance(w.Platform); got != money.One+3*cent {
			t.Errorf("the platform has %s", got)
		}
		w.Balanced()
		a, err := w.Core.Books.Audit(w.Ctx)
		if err != nil || a.Platform.Treasury != 3*cent {
			t.Errorf("%+v %v", a.Platform, err)
		}
	})
}

// TestMeteredByHost: the doors that take a URL bill it by the entry that it lies below, and nothing beside it.
func TestMeteredByHost(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w, slug((*api).perCall, "search"), func(a *api) core.ServiceInput {
		in := a.perCall("dear")
		in.BaseURL, in.Price = a.URL+"/v1/dear", pricing.Price{PerCall: 5 * cent}
		return in
	})
	for path, cost := range map[string]money.USDC{
		"/v1": cent, "/v1/": cent, "/v1/find": cent, "/v1/dear": 5 * cent, "/v1/dear/x?y": 5 * cent, "/v1/dearer": cent,
		"/v2/find": 0, "/v10": 0, "/": 0, "/v1/../admin": 0, "/v1/%2e%2e/admin": 0, "/v1/x/%252e%252e/%252e%252e/admin": 0, `/v1/..%5cadmin`: 0, "/v1%2fx": 0, "/v1/..;/admin": 0, "/v1/%2e%2e%3bx=1/admin": 0, "/v1/a;x/..b;": cent,
	} {
		strangers := m.api.strangers.Load()
		r, err := m.Core.Payments.Fetch(m.Ctx, m.p, core.FetchInput{SessionID: m.session.ID.String(), URL: m.api.URL + path})
		if err != nil || r.Cost != cost || r.Paid != (cost > 0) {
			t.Errorf("%s: %+v %v", path, r, err)
		}
		if came := m.api.strangers.Load() > strangers; came != (cost == 0) {
			t.Errorf("%s: without the credential: %v", path, came)
		}
	}
	w.Balanced()
}

// TestMeteredLimits: policies, limits and ceilings are those of every payment; what is refused is not sent.
func TestMeteredLimits(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "search"), slug((*api).perToken, "model"))
		set := func(in core.PolicyInput) {
			_, err := w.Core.Policies.Update(w.Ctx, m.p, m.agent.ID, in)
			must(w, err)
		}
		refused := func(why core.Code, service, path string) {
			t.Helper()
			calls := m.api.calls.Load()
			_, err := m.call(true, service, path)
			if code(err) != why || core.AsError(err).Trace == "" || m.api.calls.Load() != calls {
				t.Errorf("%s/%s: %v", service, path, err)
			}
		}
		// The day's limit is reached exactly; the maximum counts until the answer is there.
		set(core.PolicyInput{DailyLimit: core.Set(3 * cent)})
		refused(core.SpendingLimit, "model", "complete")
		for range 3 {
			if _, err := m.call(true, "search", "find"); err != nil {
				t.Error(err)
			}
		}
		refused(core.SpendingLimit, "search", "find")
		set(core.PolicyInput{DailyLimit: core.Set(14 * cent)})
		if _, err := m.call(true, "model", "complete?tokens=1"); err != nil {
			t.Error(err)
		}
		if _, err := m.call(true, "model", "complete?tokens=1"); err != nil { // 4 + 10 = 14
			t.Error(err)
		}
		refused(core.SpendingLimit, "model", "complete?tokens=1") // 5 + 10 > 14
		set(core.PolicyInput{DailyLimit: core.Optional[money.USDC]{Set: true}})
		for rule, ok := range map[string]bool{"search": true, "127.0.0.1": true, "other": false} {
			list := []string{rule}
			set(core.PolicyInput{AllowedServices: &list})
			if _, err := m.call(true, "search", "find"); (err == nil) != ok {
				t.Errorf("allowed %s: %v", rule, err)
			}
		}
		none := []string{}
		for _, rule := range []string{"search", "127.0.0.1"} {
			list := []string{rule}
			set(core.PolicyInput{AllowedServices: &none, BlockedServices: &list})
			refused(core.Forbidden, "search", "find")
		}
		set(core.PolicyInput{BlockedServices: &none})
		low := cent - 1
		_, err := w.Core.Payments.Fetch(w.Ctx, m.p, core.FetchInput{Service: "search", URL: "find", SessionID: m.session.ID.String(), MaxCost: &low})
		if code(err) != core.CostExceedsMax {
			t.Error(err)
		}
		if _, err := m.call(true, "nobody", "find"); code(err) != core.NotFound {
			t.Error(err)
		}
		for _, path := range []string{"../admin", "%2e%2e/admin", `..\admin`, "x/%252e%252e/y", "#", "./x", "..;/admin", "x/..%3b/..;y/admin"} {
			if _, err := m.call(true, "search", path); code(err) != core.InvalidRequest {
				t.Errorf("%s: %v", path, err)
			}
		}
		w.Balanced()
	})
}

// TestMeteredSecret: the credential goes to the service alone.
func TestMeteredSecret(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w, slug((*api).perCall, "header"), func(a *api) core.ServiceInput {
		in := a.perCall("query")
		in.Credential = &core.ServiceCredential{In: service.CredentialInQuery, Name: "key", Secret: apiSecret}
		return in
	})
	for _, c := range []struct{ service, path string }{{"header", "echo"}, {"query", "echo?a=1&key=mine&%6bey=mine&b=2"}} {
		r, err := m.Core.Payments.Fetch(m.Ctx, m.p, core.FetchInput{
			Service: c.service, URL: c.path, SessionID: m.session.ID.String(),
			Header: http.Header{"authorization": {"Bearer mine"}, "Accept-Encoding": {"br"}, "X-Mine": {"yes"}},
		})
		must(w, err)
		all, err := json.Marshal([]any{r.Header, string(r.Body), r.Payment, r.Agent})
		if err != nil || strings.Contains(string(all), "sk-secret") || !strings.Contains(string(r.Body), "[removed]") {
			t.Errorf("%s: %s %v", c.service, all, err)
		}
		seen := m.api.seen.Load()
		if seen.Header.Get("X-Mine") != "yes" || strings.Contains(fmt.Sprint(seen.Header, seen.URL), "mine") || seen.Header.Get("Accept-Encoding") == "br" {
			t.Errorf("%s: %s %v", c.service, seen.URL, seen.Header)
		}
	}
	db := raw(t, w)
	for _, q := range []string{"SELECT detail || endpoint FROM traces", "SELECT COALESCE(endpoint, '') FROM transactions", "SELECT CAST(sealed_credential AS TEXT) || base_url FROM services"} {
		func() {
			rows, err := db.Query(q)
			must(w, err)
			defer rows.Close()
			for rows.Next() {
				var text string
				must(w, rows.Scan(&text))
				if strings.Contains(text, "sk-secret") {
					t.Errorf("%s: %s", q, text)
				}
			}
			must(w, rows.Err())
		}()
	}
	// A credential opens on its own row alone.
	exec(t, db, "UPDATE services SET sealed_credential = (SELECT sealed_credential FROM services WHERE slug = 'query')")
	if _, err := m.call(true, "header", "find"); code(err) != core.ServerError {
		t.Error(err)
	}
	w.Balanced()
}

// TestMeteredClosing: a session that is closed while a call is under way keeps what the call holds until it has ended.
func TestMeteredClosing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		m.api.gate = make(chan struct{})
		var calls sync.WaitGroup
		calls.Go(func() {
			if r, err := m.call(true, "model", "wait?tokens=4"); err != nil || r.Cost != 4*cent {
				t.Errorf("%+v %v", r, err)
			}
		})
		for m.api.calls.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		closed := make(chan *core.SessionView)
		go func() {
			c, err := w.Core.Sessions.Close(w.Ctx, m.p, m.session.ID, nil)
			if err != nil {
				t.Error(err)
			}
			closed <- c
		}()
		for {
			s, err := w.Core.Sessions.Get(w.Ctx, m.p, m.session.ID)
			must(w, err)
			if s.Status == session.StatusClosing {
				break
			}
			time.Sleep(time.Millisecond)
		}
		close(m.api.gate)
		calls.Wait()
		if c := <-closed; c.Refunded != 0 && c.Refunded != money.One-4*cent {
			t.Errorf("%+v", c)
		}
		w.Settle()
		if c, err := w.Core.Sessions.Get(w.Ctx, m.p, m.session.ID); err != nil || c.Status != session.StatusClosed || c.Refunded != money.One-4*cent {
			t.Errorf("%+v %v", c, err)
		}
		w.Balanced()
	})
}

// TestMeteredAgain: the same key is the same call; two at once under one key are one call, without a key two.
func TestMeteredAgain(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "search"))
		for _, inSession := range []bool{true, false} {
			key, calls := uuid.NewString(), m.api.calls.Load()
			in := core.FetchInput{Service: "search", URL: "find", IdempotencyKey: &key}
			if inSession {
				in.SessionID = m.session.ID.String()
			}
			ids := make([]uuid.UUID, 3)
			var callers sync.WaitGroup
			for i := range ids {
				callers.Go(func() {
					r, err := w.Core.Payments.Fetch(w.Ctx, m.p, in)
					if err != nil || r.Cost != cent || string(r.Body) == "" {
						t.Errorf("%+v %v", r, err)
						return
					}
					ids[i] = r.Payment.ID
				})
			}
			callers.Wait()
			if m.api.calls.Load() != calls+1 || ids[0] != ids[1] || ids[0] != ids[2] {
				t.Errorf("%d calls: %v", m.api.calls.Load()-calls, ids)
			}
			in.URL = "other"
			if _, err := w.Core.Payments.Fetch(w.Ctx, m.p, in); code(err) != core.Conflict {
				t.Error(err)
			}
		}
		w.Settle()
		if got := w.Net.Balance(w.Platform); got != money.One+cent {
			t.Errorf("the platform has %s", got)
		}
		w.Balanced()
	})
}

// TestMeteredRace: calls from a session and a wallet that have money for some of them take no more than they have.
func TestMeteredRace(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perToken, "model"))
		var callers sync.WaitGroup
		var cost atomic.Int64
		for i := range 40 {
			callers.Go(func() {
				r, err := m.call(i%2 == 0, "model", fmt.Sprintf("complete?tokens=%d", 5+i%6))
				if err == nil {
					cost.Add(int64(r.Cost))
				} else if c := code(err); c != core.InsufficientBalance {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		w.Settle()
		s, err := w.Core.Sessions.Get(w.Ctx, m.p, m.session.ID)
		must(w, err)
		a, err := w.Core.Agents.Get(w.Ctx, m.p, m.agent.ID)
		must(w, err)
		if spent := 3*money.One - s.Remaining - a.Wallet.Posted; int64(spent) != cost.Load() || a.Wallet.Pending != 0 {
			t.Errorf("spent %s, told %d: %+v", spent, cost.Load(), a.Wallet)
		}
		w.Balanced()
	})
}

// TestMeteredDryRun: the verdict comes from the price alone; the service is not asked.
func TestMeteredDryRun(t *testing.T) {
	w := coretest.New(t)
	m := newMetering(t, w, slug((*api).perToken, "model"))
	r, err := w.Core.Payments.Fetch(w.Ctx, m.p, core.FetchInput{Service: "model", URL: "complete", SessionID: m.session.ID.String(), DryRun: true})
	if err != nil || !r.Verdict.Allowed || r.Verdict.Price != 10*cent || m.api.calls.Load() != 0 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := m.call(true, "model", "complete?tokens=2"); err != nil {
		t.Error(err)
	}
	page, err := w.Core.Traces.List(w.Ctx, m.p, core.TraceFilter{})
	if err != nil || page.Total != 1 {
		t.Fatalf("%+v %v", page, err)
	}
	v := page.Items[0]
	if v.Outcome != trace.OutcomeAllowed || v.Amount != 10*cent || len(v.Offers) != 1 || v.Offers[0].Protocol != "metered" || v.Digest != "" || v.Service != "model" {
		t.Errorf("%+v", v)
	}
	w.Balanced()
}

// TestMeteredLimitRace: two processes, sessions and wallets at once: a daily limit is reached to the unit and not passed, and what
// the answers did not cost is there for others.
func TestMeteredLimitRace(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "search"), slug((*api).perToken, "model"))
		_, err := w.Core.Policies.Update(w.Ctx, m.p, m.agent.ID, core.PolicyInput{DailyLimit: core.Set(20 * cent)})
		must(w, err)
		other, err := core.New(w.Ctx, w.Deps)
		must(w, err)
		var spent, served atomic.Int64
		call := func(i int, in core.FetchInput) {
			if i%2 == 0 {
				in.SessionID = m.session.ID.String()
			}
			r, err := []*core.Core{w.Core, other}[i/2%2].Payments.Fetch(w.Ctx, m.p, in)
			if err == nil {
				spent.Add(int64(r.Cost))
				served.Add(1)
			} else if code(err) != core.SpendingLimit {
				t.Error(err)
			}
		}
		var callers sync.WaitGroup
		for i := range 24 { // each holds ten cents, and costs one
			callers.Go(func() { call(i, core.FetchInput{Service: "model", URL: "complete?tokens=1"}) })
		}
		callers.Wait()
		if money.USDC(spent.Load()) > 20*cent || served.Load() == 0 {
			t.Errorf("%d calls for %d", served.Load(), spent.Load())
		}
		for i := range 40 {
			callers.Go(func() { call(i, core.FetchInput{Service: "search", URL: "find"}) })
		}
		callers.Wait()
		if money.USDC(spent.Load()) != 20*cent {
			t.Errorf("%d of a limit of %s", spent.Load(), 20*cent)
		}
		w.Settle()
		page, err := w.Core.Transactions.List(w.Ctx, m.p, core.TransactionFilter{PaymentsOnly: true})
		if err != nil || page.Spent != 20*cent || page.Total != int(served.Load()) {
			t.Errorf("%+v %v", page, err)
		}
		w.Balanced()
	})
}
