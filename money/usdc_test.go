package money_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"bursar/money"
)

func TestParseDecimalTable(t *testing.T) {
	for _, c := range []struct {
		in   string
		want money.USDC
		err  error
	}{
		{"5", 5_000_000, nil},
		{"5.00", 5_000_000, nil},
		{"0.000001", 1, nil},
		{"0", 0, nil},
		{"007.5", 7_500_000, nil},
		{"1.0000000", 1_000_000, nil},
		{"0.000249", 249, nil}, // 248.99999999999997 by a float, and so the next
		{"1.000001", 1_000_001, nil},
		{"1.000012", 1_000_012, nil},
		{"1000000000", money.Max, nil},
		{"1000000000.000001", 0, money.ErrOutOfRange},
		{"99999999999999999999", 0, money.ErrOutOfRange},
		{"0.0000001", 0, money.ErrPrecision},
		{"-1", 0, money.ErrNegative},
		{"-0.5", 0, money.ErrNegative},
		{"", 0, money.ErrSyntax},
		{".", 0, money.ErrSyntax},
		{".5", 0, money.ErrSyntax},
		{"5.", 0, money.ErrSyntax},
		{"1e3", 0, money.ErrSyntax},
		{"+1", 0, money.ErrSyntax},
		{"1,000", 0, money.ErrSyntax},
		{" 1", 0, money.ErrSyntax},
		{"NaN", 0, money.ErrSyntax},
		{"Infinity", 0, money.ErrSyntax},
		{"0x10", 0, money.ErrSyntax},
		{"--1", 0, money.ErrSyntax},
		{"٣", 0, money.ErrSyntax},
		{"1.2.3", 0, money.ErrSyntax},
		{"null", 0, money.ErrSyntax},
	} {
		got, err := money.ParseDecimal(c.in)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("ParseDecimal(%q) = %v, %v; want %v, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func TestParseAtomicTable(t *testing.T) {
	for in, want := range map[string]error{
		"25000000": nil, "0": nil, "": money.ErrSyntax, "1.0": money.ErrSyntax, "-1": money.ErrNegative,
		"1e6": money.ErrSyntax, "0x1": money.ErrSyntax, "1000000000000001": money.ErrOutOfRange,
		"9999999999999999999999999": money.ErrOutOfRange, " 1": money.ErrSyntax,
	} {
		if _, err := money.ParseAtomic(in); !errors.Is(err, want) {
			t.Errorf("ParseAtomic(%q) error %v, want %v", in, err, want)
		}
	}
}

func TestSpellingsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := money.USDC(rapid.Int64Range(0, int64(money.Max)).Draw(t, "a"))
		for name, back := range map[string]func() (money.USDC, error){
			"atomic":  func() (money.USDC, error) { return money.ParseAtomic(a.String()) },
			"decimal": func() (money.USDC, error) { return money.ParseDecimal(a.Decimal()) },
			"dollars": func() (money.USDC, error) { return money.FromJSONDollars(a.Dollars()) },
			"big":     func() (money.USDC, error) { return money.FromBig(a.Big()) },
		} {
			if b, err := back(); err != nil || b != a {
				t.Fatalf("%s: %v -> %v, %v", name, a, b, err)
			}
		}
		cost, err := money.ParseDecimal(a.CostUSD()[1:])
		if err != nil || cost < a || cost-a >= 100 {
			t.Fatalf("cost %s of %v", a.CostUSD(), a)
		}
		rest, err := money.ParseDecimal(a.RemainingUSD()[1:])
		if err != nil || rest > a || a-rest >= 100 {
			t.Fatalf("remaining %s of %v", a.RemainingUSD(), a)
		}
	})
}

func TestDisplay(t *testing.T) {
	for _, c := range []struct {
		a                               money.USDC
		dollars, cost, remaining, exact string
	}{
		{10_000, "0.01", "$0.0100", "$0.0100", "$0.0100"},
		{4_990_000, "4.99", "$4.9900", "$4.9900", "$4.9900"},
		{1, "0.000001", "$0.0001", "$0.0000", "$0.000001"},
		{5_000_000, "5.00", "$5.0000", "$5.0000", "$5.0000"},
		{0, "0.00", "$0.0000", "$0.0000", "$0.0000"},
		{101, "0.000101", "$0.0002", "$0.0001", "$0.000101"},
		{1_000_010, "1.00001", "$1.0001", "$1.0000", "$1.000010"},
	} {
		if string(c.a.Dollars()) != c.dollars || c.a.CostUSD() != c.cost || c.a.RemainingUSD() != c.remaining || c.a.ExactUSD() != c.exact {
			t.Errorf("%d: %s %s %s %s", c.a, c.a.Dollars(), c.a.CostUSD(), c.a.RemainingUSD(), c.a.ExactUSD())
		}
	}
	if got := money.USDC(-1_500_000).Decimal(); got != "-1.500000" {
		t.Error(got)
	}
}

func TestOverflowPanics(t *testing.T) {
	for _, f := range []func(){
		func() { money.USDC(math.MaxInt64).Add(1) },
		func() { money.USDC(math.MinInt64).Sub(1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		}()
	}
}

func TestFromBigBounds(t *testing.T) {
	for _, v := range []*big.Int{nil, big.NewInt(-1), new(big.Int).Add(money.Max.Big(), big.NewInt(1)), new(big.Int).Lsh(big.NewInt(1), 200)} {
		if _, err := money.FromBig(v); !errors.Is(err, money.ErrOutOfRange) {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestGraphQLScalar(t *testing.T) {
	var a money.USDC
	for _, v := range []any{"12", json.Number("12"), int64(12), 12} {
		if err := a.UnmarshalGQL(v); err != nil || a != 12 {
			t.Errorf("%T: %v %v", v, a, err)
		}
	}
	for _, v := range []any{12.0, nil, true, "1.5", "-3", json.Number("1e3")} {
		if err := a.UnmarshalGQL(v); err == nil {
			t.Errorf("%v accepted", v)
		}
	}
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"5.00", "1e9", "-1", "0.0000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := money.ParseDecimal(s)
		if err != nil {
			return
		}
		if a < 0 || a > money.Max {
			t.Fatalf("%q -> %v", s, a)
		}
		if b, err := money.ParseDecimal(a.Decimal()); err != nil || b != a {
			t.Fatalf("%q -> %v -> %v, %v", s, a, b, err)
		}
	})
}
