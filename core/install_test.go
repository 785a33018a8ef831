package core_test

import (
	"strings"
	"sync"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/service"
)

// The catalogue's part that is the operator's is what the list says, no more and no less; what organisations have put there
// is theirs.
func TestInstall(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w)
		_, business, _ := m.business("Weather")
		active := func(slug string) *core.ServiceView {
			t.Helper()
			v, err := w.Core.Services.Get(w.Ctx, m.p, slug)
			if err != nil && code(err) != core.NotFound {
				t.Fatal(err)
			}
			return v
		}
		install := func(slugs ...string) error {
			var list []core.ServiceInput
			for _, s := range slugs {
				list = append(list, m.api.perCall(s))
			}
			return w.Core.Services.Install(w.Ctx, list)
		}
		must(w, install("maps", "search"))
		was := active("maps")
		r, err := m.call(false, "maps", "x")
		if err != nil || r.Cost != cent {
			t.Fatalf("%+v %v", r, err)
		}

		must(w, install("search"))
		if active("maps") != nil || active("search") == nil || active(business.Slug) == nil {
			t.Error("what was taken out of the list is still there, or what was not is gone")
		}
		if _, err := m.call(false, "maps", "x"); code(err) != core.NotFound {
			t.Errorf("called by its name: %v", err)
		}
		db := raw(t, w)
		if n := count(t, db, "services WHERE slug = 'maps' AND sealed_credential IS NULL AND credential_in = 'none'"); n != 1 {
			t.Error("its credential is still kept")
		}
		if got, err := w.Core.Transactions.Get(w.Ctx, m.p, r.Payment.ID); err != nil || got.ServiceID == nil || *got.ServiceID != was.ID {
			t.Errorf("history does not name it any more: %+v %v", got, err)
		}
		in := core.ServiceInput{Slug: "maps", Name: "Maps", BaseURL: m.api.URL, Price: m.api.perCall("").Price, Wallet: address("0x5e11e2").Hex()}
		if _, err := w.Core.Services.Add(w.Ctx, m.p, in); code(err) != core.Conflict {
			t.Errorf("an organisation takes its name: %v", err)
		}

		must(w, install("maps", "search"))
		if v := active("maps"); v == nil || v.ID != was.ID {
			t.Errorf("it comes back as %+v", v)
		}
		if r, err := m.call(false, "maps", "x"); err != nil || r.Cost != cent || m.api.strangers.Load() != 0 {
			t.Errorf("when it is back: %+v %v, %d strangers", r, err, m.api.strangers.Load())
		}

		must(w, install())
		if active("maps") != nil || active("search") != nil || active(business.Slug) == nil {
			t.Error("an empty list leaves something of the operator's, or takes another's")
		}
		w.Settle()
		w.Balanced()
	})
}

// A list that cannot be installed as a whole changes nothing, and says what to change.
func TestInstallAllOrNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "maps"))
		_, business, _ := m.business("Weather")
		for name, c := range map[string]struct {
			list []core.ServiceInput
			code core.Code
			says string
		}{
			"a business has the name": {[]core.ServiceInput{m.api.perCall("search"), m.api.perCall(business.Slug)}, core.Conflict, `"weather" is a business's: give the entry another slug`},
			"twice":                   {[]core.ServiceInput{m.api.perCall("search"), m.api.perCall("search")}, core.InvalidRequest, `"search" is listed twice`},
			"no price":                {[]core.ServiceInput{m.api.perCall("search"), {Slug: "free", Name: "Free", BaseURL: m.api.URL}}, core.InvalidRequest, "price"},
			"too many":                {make([]core.ServiceInput, 1001), core.InvalidRequest, "1000"},
		} {
			if err := w.Core.Services.Install(w.Ctx, c.list); code(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
			own, err := w.Core.Services.List(w.Ctx, m.p, 0, 0)
			if err != nil || len(own) != 2 || own[0].Slug != "maps" || own[1].Slug != business.Slug || own[0].CredentialIn != service.CredentialInHeader {
				t.Errorf("%s: %+v %v", name, own, err)
			}
		}
	})
}

// Processes that start together install one list together.
func TestInstallTogether(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		m := newMetering(t, w, slug((*api).perCall, "gone"))
		list := []core.ServiceInput{m.api.perCall("maps"), m.api.perToken("model"), m.api.perCall("search")}
		errs := make([]error, 4)
		var wait sync.WaitGroup
		for i := range errs {
			c := another(w, "", nil)
			wait.Go(func() { errs[i] = c.Services.Install(w.Ctx, list) })
		}
		wait.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		own, err := w.Core.Services.List(w.Ctx, m.p, 0, 0)
		if err != nil || len(own) != 3 {
			t.Errorf("%d services, %v", len(own), err)
		}
	})
}
