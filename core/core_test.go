package core_test

import (
	"database/sql"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/ethereum/go-ethereum/common"

	"bursar/core/coretest"
	"bursar/money"
)

func TestFundingIsSeenOnceAndGrantsGasOnce(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	a := w.Agent(p, "Research Bot", 5*money.One)
	if a.Wallet.Posted != 5*money.One || a.Wallet.Available != 5*money.One {
		t.Fatalf("wallet %+v", a.Wallet)
	}
	w.Settle()
	hash := w.Net.Fund(common.HexToAddress(a.Address), 2*money.One)
	for range 2 {
		r, err := w.Core.Funding.Fund(w.Ctx, p, a.ID, hash.Hex(), 2*money.One, nil)
		if err != nil || !r.Funded || r.GasSponsored {
			t.Fatalf("%+v %v", r, err)
		}
	}
	w.Settle() // another grant, if there is one, is sent
	wei, err := w.Net.Client.EtherOf(w.Ctx, common.HexToAddress(a.Address))
	if err != nil || wei.Cmp(w.Deps.GasGrantWei) != 0 {
		t.Fatalf("gas %v %v", wei, err)
	}
	w.Balanced()
}

func address(text string) common.Address { return common.HexToAddress(text) }

// raw is a connection to the world's database that knows nothing of the program.
func raw(t *testing.T, w *coretest.World) *sql.DB {
	t.Helper()
	driver, dsn := "sqlite", "file:"+w.DB.URL+"?_pragma=busy_timeout(10000)"
	if w.DB.Dialect == dialect.Postgres {
		driver, dsn = "postgres", w.DB.URL
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *sql.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
