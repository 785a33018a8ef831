package core_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
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

// The document's tables are the tests' own: what stands there is what is demanded.
func TestSellersDocument(t *testing.T) {
	text, err := os.ReadFile(sellersDocument)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(askers) + len(sellers); n < 50 {
		t.Errorf("%d kinds", n)
	}
	document := string(text)
	for name, table := range map[string]string{"askers": askersTable(), "sellers": sellersTable()} {
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
