package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay/paytest"
)

// tamper changes the stored books behind the ledger's back.
func tamper(t *testing.T, w *coretest.World, statement string) {
	t.Helper()
	tx, err := w.DB.Begin(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.SQL.ExecContext(w.Ctx, statement); err != nil {
		t.Fatal(err)
	}
	if err := tx.SQL.Commit(); err != nil {
		t.Fatal(err)
	}
}

// An organisation proves its own accounts and hears of nobody else's; the operator's proof covers all.
func TestAuditOfAnOrganisation(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		other, _ := w.User("other@example.com")
		b := w.Agent(other, "theirs", money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: v.ID.String(), URL: s.Link(2, paytest.Serve, 0)}); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		proven := func(q core.Principal) *core.Audit {
			t.Helper()
			got, err := w.Core.Books.AuditOrg(w.Ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		// Two wallets, the default one and the agent's, and a session; deposit and call are its debits.
		if got := proven(p); !got.Balanced() || got.Accounts != 3 || got.Transfers != 2 || got.Block == 0 || got.Platform != (core.PlatformFigures{}) {
			t.Errorf("%+v", got)
		}
		w.Balanced()

		tamper(t, w, `UPDATE accounts SET credits_posted = credits_posted + 1 WHERE owner_id = '`+b.ID.String()+`'`)
		if got := proven(p); !got.Balanced() {
			t.Errorf("%q", got.Differences)
		}
		got := proven(other) // against its transfers, and the chain
		if text := strings.Join(got.Differences, "\n"); len(got.Differences) != 2 || !strings.Contains(text, b.Wallet.AccountID.String()) || !strings.Contains(text, b.ID.String()) {
			t.Errorf("%q", text)
		}
		tamper(t, w, `UPDATE accounts SET debits_posted = debits_posted - 1 WHERE owner_id = '`+v.ID.String()+`'`)
		if got := proven(p); len(got.Differences) != 1 || !strings.Contains(got.Differences[0], "(session)") {
			t.Errorf("%q", got.Differences)
		}
		all, err := w.Core.Books.Audit(w.Ctx)
		if err != nil || len(all.Differences) != 5 { // two and one of those, the platform's address, and debits against credits
			t.Errorf("%+v %v", all, err)
		}
	})
}

func TestPastBalances(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		funded := w.Clock.Now()
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		w.Settle()
		opened := w.Clock.Now()
		for _, c := range []struct {
			name   string
			id     uuid.UUID
			at     time.Time
			posted money.USDC
		}{
			{"wallet before", a.ID, a.CreatedAt, 0},
			{"wallet funded", a.ID, funded, 3 * money.One},
			{"wallet after", a.ID, opened, 2 * money.One},
			{"session before", v.ID, funded, 0},
			{"session after", v.ID, opened, money.One},
		} {
			got, err := w.Core.Balances.At(w.Ctx, p, c.id, c.at)
			if err != nil || got.Posted != c.posted || got.Pending != 0 || got.Available != c.posted || got.At != c.at.UTC().Truncate(time.Microsecond) {
				t.Errorf("%s: %+v %v", c.name, got, err)
			}
		}
		if _, err := w.Core.Balances.At(w.Ctx, p, a.ID, w.Clock.Now().Add(time.Hour)); code(err) != core.InvalidRequest {
			t.Errorf("a moment to come: %v", err)
		}
		other, _ := w.User("other@example.com")
		if _, err := w.Core.Balances.At(w.Ctx, other, a.ID, opened); code(err) != core.NotFound {
			t.Errorf("another organisation's: %v", err)
		}
	})
}
