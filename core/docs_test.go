package core_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay/paytest"
)

// statements are those of docs/ledger.md: proofs, whose good answer is no row, and lists.
func statements(t *testing.T) (proofs, lists []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	paragraphs := regexp.MustCompile("(?s)\n\n([^\n][^`]*?)\n\n```sql\n(.*?)```")
	for _, m := range paragraphs.FindAllStringSubmatch(string(text), -1) {
		for s := range strings.SplitSeq(strings.TrimSpace(m[2]), ";") {
			switch {
			case strings.TrimSpace(s) == "":
			case strings.Contains(m[1], "(a list"):
				lists = append(lists, s)
			default:
				proofs = append(proofs, s)
			}
		}
	}
	if len(proofs) != 6 || len(lists) != 3 {
		t.Fatalf("%d proofs, %d lists", len(proofs), len(lists))
	}
	return proofs, lists
}

// rowsOf counts what a statement finds in a world's database.
func rowsOf(t *testing.T, w *coretest.World, statement string) (n int) {
	t.Helper()
	tx, err := w.DB.Begin(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.SQL.Rollback() }()
	r, err := tx.SQL.QueryContext(w.Ctx, statement)
	if err != nil {
		t.Fatalf("%s\n%v", statement, err)
	}
	defer r.Close()
	for r.Next() {
		n++
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return n
}

// The statements of docs/ledger.md run as they are on both databases, find nothing wrong in good books, and find what
// was tampered with.
func TestStatementsOfTheDocument(t *testing.T) {
	proofs, lists := statements(t)
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Seller(cent)
		for _, b := range []paytest.Behaviour{paytest.Serve, paytest.FailAfter, paytest.LieReceipt} {
			for _, session := range []string{"", v.ID.String()} {
				if _, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{SessionID: session, URL: s.Link(2, b, 0)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.Settle()
		found := func() (n int) {
			for _, statement := range proofs {
				n += min(1, rowsOf(t, w, statement))
			}
			return n
		}
		if n := found(); n != 0 {
			t.Errorf("%d proofs fail on good books", n)
		}
		for _, statement := range lists {
			if strings.Contains(statement, "created_at") { // the document's moment, at one that this world knows
				statement = strings.Replace(statement, "2026-11-26 12:00:00+00:00", "2999-01-01 00:00:00+00:00", 1)
			}
			if rowsOf(t, w, statement) == 0 {
				t.Errorf("no row: %s", statement)
			}
		}
		w.Pass(2 * time.Minute)
		w.Settle()
		if err := w.Core.Payments.ResolveHolds(w.Ctx); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		if n := found(); n != 0 {
			t.Errorf("%d proofs fail on good books without holds", n)
		}
		tamper(t, w, `UPDATE accounts SET credits_posted = credits_posted + 1 WHERE kind = 'session'`)
		tamper(t, w, `UPDATE usages SET spent = spent + 1 WHERE id LIKE 'org:%:total'`)
		if n := found(); n != 3 { // columns, debits and credits, the organisation's counter
			t.Errorf("%d proofs fail on bad books", n)
		}
	})
}
