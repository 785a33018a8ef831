package core_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"bursar/core/coretest"
)

var writeSellers = flag.Bool("write-sellers", false, "write the tables of docs/sellers.md from the tests' own")

const sellersDocument = "../docs/sellers.md"

// askersTable is what TestAskers demands, for people.
func askersTable() string {
	var b strings.Builder
	b.WriteString("| how it asks | x402 | signed | charged | the caller is told |\n|---|---|---|---|---|\n")
	for _, a := range askers {
		version := "v1, v2"
		if a.only != 0 {
			version = fmt.Sprintf("v%d", a.only)
		}
		signed, charged := "nothing", "nothing"
		var told string
		switch {
		case a.signed:
			signed, charged, told = "one proof", "the price that was asked", "the answer, and what it cost"
		case a.code != "":
			told = fmt.Sprintf("`%s`", a.code)
		case a.status != 0:
			told = fmt.Sprintf("its answer, %d, unpaid", a.status)
		default:
			told = fmt.Sprintf("its 402, unpaid, and why: “%s”", a.told)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", a.name, version, signed, charged, told)
	}
	return b.String()
}

// sellersTable is what TestSellers demands, for people.
func sellersTable() string {
	var b strings.Builder
	b.WriteString("| what it does with the proof | the chain shows it | charged in the end | the caller is told at once | the record meanwhile |\n|---|---|---|---|---|\n")
	for _, s := range sellers {
		shown := map[when]string{never: "never", first: "before the answer", later: "after the call", last: "in the proof's last block"}[s.settles]
		charged := map[bool]string{true: "the price", false: "nothing"}[s.settles != never]
		told := fmt.Sprintf("its answer, %d", s.status)
		if s.code != "" {
			told = fmt.Sprintf("`%s` and the payment's id", s.code)
		}
		meanwhile := "session: charged; wallet: pending"
		if !s.fair {
			meanwhile = fmt.Sprintf("unknown: “%s”", s.reason)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", s.name, shown, charged, told, meanwhile)
	}
	return b.String()
}

// permit2Table is what TestPermit2SellersThatMisbehave demands, for people.
func permit2Table() string {
	var b strings.Builder
	b.WriteString("| what it does with the proof | scheme | charged in the end | the caller is told at once | the record meanwhile |\n|---|---|---|---|---|\n")
	for _, c := range permit2Sellers {
		s := coretest.Permit2Seller{}
		c.set(&s)
		scheme, meanwhile := "exact", "session: charged; wallet: pending"
		if s.UpTo {
			scheme, meanwhile = "upto", "pending"
		}
		if c.reason != "" {
			meanwhile = fmt.Sprintf("unknown: “%s”", c.reason)
		}
		charged := "what it has settled"
		switch c.charged {
		case 0:
			charged = "nothing"
		case cent:
			charged = "the price"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | its answer, %d | %s |\n", c.name, scheme, charged, c.status, meanwhile)
	}
	return b.String()
}

// clubsTable is what TestClubsThatMisbehave demands, for people.
func clubsTable() string {
	var b strings.Builder
	b.WriteString("| what it does | signed in | paid | the caller is told | the trace says |\n|---|---|---|---|---|\n")
	for _, c := range clubs {
		signed := map[int]string{0: "no", 1: "once"}[c.logins]
		paid := map[bool]string{true: "the price, by one proof", false: "nothing"}[c.paid]
		told := fmt.Sprintf("its answer, %d", c.status)
		if c.code != "" {
			told = fmt.Sprintf("`%s`", c.code)
		}
		says := fmt.Sprintf("“%s”", c.came)
		if c.not != "" {
			says = fmt.Sprintf("why it was not signed: “%s”", c.not)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.name, signed, paid, told, says)
	}
	return b.String()
}

// The document's tables are the tests' own: what stands there is what is demanded.
func TestSellersDocument(t *testing.T) {
	text, err := os.ReadFile(sellersDocument)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{len(askers) + len(sellers) - 50, len(permit2Sellers) - 5, len(clubs) - 5} {
		if n < 0 {
			t.Errorf("kinds are missing: %d", n)
		}
	}
	document := string(text)
	for name, table := range map[string]string{"askers": askersTable(), "sellers": sellersTable(), "permit2": permit2Table(), "clubs": clubsTable()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		before, rest, found := strings.Cut(document, begin)
		got, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("no place for %s", name)
		}
		if got != table && !*writeSellers {
			t.Errorf("%s are not the tests': go test ./core -run TestSellersDocument -write-sellers", name)
		}
		document = before + begin + table + end + after
	}
	if *writeSellers {
		if err := os.WriteFile(sellersDocument, []byte(document), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
