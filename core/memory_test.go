package core_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

type remembered struct {
	host, route, payee, offer string
	amount, same              int64
}

func prices(t *testing.T, db *sql.DB) []remembered {
	t.Helper()
	rows, err := db.Query("SELECT host, route, payee, offer, amount, same FROM prices ORDER BY route")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []remembered
	for rows.Next() {
		var r remembered
		if err := rows.Scan(&r.host, &r.route, &r.payee, &r.offer, &r.amount, &r.same); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// twoFaced is one host whose calls are served, and paid to, whoever is set.
type twoFaced struct {
	now atomic.Pointer[coretest.Seller]
}

func (f *twoFaced) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.now.Load().ServeHTTP(w, r) }

func newTwoFaced(w *coretest.World, s *coretest.Seller) (*twoFaced, string) {
	f := &twoFaced{}
	f.now.Store(s)
	return f, w.Serve(f)
}

// TestPriceMemory: what is paid is remembered with its hold, by host and route; the same offer counts up, another begins
// anew, and what is only asked for leaves no trace in it. A host has one memory in all of its spellings.
func TestPriceMemory(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		db := raw(t, w)
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", money.One)
		one, two := w.Seller(cent), w.Seller(cent)
		faces, base := newTwoFaced(w, one)
		base = strings.Replace(base, "127.0.0.1", "localhost", 1)
		link := base + "/v2/serve"
		pays := func(url string) {
			t.Helper()
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: url}); err != nil {
				t.Fatal(err)
			}
		}
		dear := money.USDC(1)
		for _, in := range []core.FetchInput{{URL: link, DryRun: true}, {URL: link, MaxCost: &dear}} {
			_, _ = w.Core.Payments.Fetch(w.Ctx, p, in)
		}
		if got := prices(t, db); len(got) != 0 {
			t.Fatalf("before anything was paid: %+v", got)
		}
		is := func(payee common.Address, amount, same int64) pay.Offer {
			t.Helper()
			got := prices(t, db)
			if len(got) != 1 || got[0].payee != payee.Hex() || got[0].amount != amount || got[0].same != same || got[0].route != "GET /v2/serve" {
				t.Fatalf("%+v", got)
			}
			var o pay.Offer
			if err := json.Unmarshal([]byte(got[0].offer), &o); err != nil {
				t.Fatal(err)
			}
			return o
		}
		pays(link)
		pays(strings.Replace(link, "localhost", "LocalHost.", 1))
		pays(strings.Replace(link, "serve", "%73erve", 1))
		o := is(one.PayTo, int64(cent), 3)
		if o.PayTo != one.PayTo || o.Amount != cent || len(o.Raw) == 0 || len(o.Extra) == 0 || o.Network != w.Net.Client.Network() {
			t.Errorf("%+v", o)
		}
		pays(link + "?price=30000")
		is(one.PayTo, 30000, 1)
		faces.now.Store(two)
		pays(link)
		is(two.PayTo, int64(cent), 1)
		if n := count(t, db, "payees"); n != 2 {
			t.Errorf("%d payees", n)
		}
		other, _ := w.User("other@example.com")
		w.Agent(other, "bot", money.One)
		if _, err := w.Core.Payments.Fetch(w.Ctx, other, core.FetchInput{Agent: "bot", URL: link}); err != nil {
			t.Fatal(err)
		}
		if got := prices(t, db); len(got) != 2 {
			t.Errorf("another organisation's memory: %+v", got)
		}
		w.Balanced()
	})
}

// TestPriceMemoryTogether: many first calls at once, of two processes, are all paid, and remembered once.
func TestPriceMemoryTogether(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", money.One)
		one, two := w.Seller(cent), w.Seller(cent)
		faces, base := newTwoFaced(w, one)
		cores := []*core.Core{w.Core, another(w, "", nil)}
		var wait sync.WaitGroup
		for i := range 24 {
			if i == 12 {
				faces.now.Store(two)
			}
			wait.Go(func() {
				_, err := cores[i%2].Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: base + "/v1/serve"})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if got := prices(t, raw(t, w)); len(got) != 1 || got[0].same < 1 {
			t.Errorf("%+v", got)
		}
		w.Settle()
		w.Balanced()
	})
}

// TestPriceMemoryIsBounded: of a host's routes the one that was unused for longest is forgotten.
func TestPriceMemoryIsBounded(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		db := raw(t, w)
		p, _ := w.User("dev@example.com")
		w.Agent(p, "bot", money.One)
		s := w.Seller(cent)
		pays := func(version int) {
			t.Helper()
			if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: s.Link(version, paytest.Serve, 0)}); err != nil {
				t.Fatal(err)
			}
		}
		pays(1)
		exec(t, db, "UPDATE prices SET route = 'old', seen_unix = 1")
		var host string
		if err := db.QueryRow("SELECT host_id FROM prices").Scan(&host); err != nil {
			t.Fatal(err)
		}
		for range 255 {
			exec(t, db, fmt.Sprintf(`INSERT INTO prices (id, created_at, org_id, host_id, host, route, protocol, scheme, network, asset, payee, amount,
				offer, same, since_unix, seen_unix) SELECT '%s', created_at, org_id, host_id, host, 'filled', protocol, scheme, network, asset, payee,
				amount, offer, same, 2, 2 FROM prices WHERE route = 'old'`, uuid.New()))
		}
		pays(2)
		got := prices(t, db)
		if len(got) != 256 || got[0].route != "GET /v2/serve" || got[1].route != "filled" || got[255].route != "filled" {
			t.Errorf("%d rows, %s … %s", len(got), got[0].route, got[len(got)-1].route)
		}
		w.Balanced()
	})
}

// A route that was free for a while is judged by what is remembered of it, as any other.
func TestRouteThatWasFree(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	var free atomic.Bool
	url := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !free.Load() {
			s.ServeHTTP(rw, r)
		}
	})) + "/v2/serve"
	call := func(price money.USDC) (*core.FetchResult, error) {
		w.Head()
		return w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: fmt.Sprintf("%s?price=%d", url, price)})
	}
	if r, err := call(cent); err != nil || !r.Paid {
		t.Fatalf("%+v %v", r, err)
	}
	setPolicy(w, p, a.ID, core.PolicyInput{PriceJump: reaction(core.RefuseIt)})
	free.Store(true)
	for range 2 {
		if r, err := call(cent); err != nil || r.Paid {
			t.Fatalf("%+v %v", r, err)
		}
	}
	free.Store(false)
	if r, err := call(20 * cent); err == nil {
		t.Errorf("%+v", r)
	}
	if r, err := call(cent); err != nil || !r.Paid {
		t.Errorf("%+v %v", r, err)
	}
}
