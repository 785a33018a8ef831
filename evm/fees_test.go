package evm_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"bursar/evm"
)

func TestBump(t *testing.T) {
	fees := func(tip, limit int64) evm.Fees { return evm.Fees{TipWei: tip, CapWei: limit} }
	for _, c := range []struct {
		name           string
		old, suggested evm.Fees
		ceiling        int64
		want           evm.Fees
		ok             bool
	}{
		{"an eighth", fees(800, 8000), fees(1, 1), 1e9, fees(900, 9000), true},
		{"rounded up", fees(801, 8001), fees(1, 1), 1e9, fees(902, 9002), true},
		{"small prices rise too", fees(0, 1), fees(0, 0), 1e9, fees(1, 2), true},
		{"the suggestion is dearer", fees(800, 8000), fees(2000, 20000), 1e9, fees(2000, 20000), true},
		{"only the suggested cap is dearer", fees(800, 8000), fees(850, 20000), 1e9, fees(900, 20000), true},
		{"only the suggested tip is dearer", fees(800, 8000), fees(2000, 100), 1e9, fees(2000, 9000), true},
		{"a suggested tip above the cap", fees(800, 8000), fees(20000, 100), 1e9, fees(9000, 9000), true},
		{"the suggestion is above the ceiling", fees(800, 8000), fees(9500, 20000), 9500, fees(9500, 9500), true},
		{"exactly the ceiling", fees(800, 8000), fees(1, 1), 9000, fees(900, 9000), true},
		{"no room for an eighth", fees(800, 8000), fees(1, 1), 8999, fees(800, 8000), false},
		{"above the ceiling already", fees(800, 8000), fees(1, 1), 10, fees(800, 8000), false},
		{"no overflow", fees(1, math.MaxInt64-1), fees(1, 1), math.MaxInt64, fees(1, math.MaxInt64-1), false},
	} {
		if got, ok := evm.Bump(c.old, c.suggested, c.ceiling); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// What go-ethereum's pool asks of a replacement, and ours of every price.
func TestBumpIsAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price := rapid.Int64Range(0, 1e15)
		limit, ceiling := price.Draw(t, "cap"), price.Draw(t, "ceiling")
		old := evm.Fees{TipWei: rapid.Int64Range(0, limit).Draw(t, "tip"), CapWei: limit}
		suggested := evm.Fees{TipWei: price.Draw(t, "suggested tip"), CapWei: price.Draw(t, "suggested cap")}
		got, ok := evm.Bump(old, suggested, ceiling)
		if !ok {
			if got != old || limit+limit/8+1 < ceiling {
				t.Fatalf("%+v, false", got)
			}
			return
		}
		for _, p := range [][2]int64{{old.TipWei, got.TipWei}, {old.CapWei, got.CapWei}} {
			if p[1] <= p[0] || p[1] < p[0]*110/100 || p[1]*8 < p[0]*9 {
				t.Fatalf("%d is no bump of %d", p[1], p[0])
			}
		}
		if got.CapWei > ceiling || got.TipWei > got.CapWei || got.CapWei < min(suggested.CapWei, ceiling) {
			t.Fatalf("%+v with ceiling %d", got, ceiling)
		}
	})
}

func TestReceiptFee(t *testing.T) {
	for _, c := range []struct {
		r    evm.Receipt
		want int64
	}{
		{evm.Receipt{GasUsed: 3}, 0},
		{evm.Receipt{GasUsed: 3, PriceWei: big.NewInt(7)}, 21},
		{evm.Receipt{GasUsed: 3, PriceWei: big.NewInt(7), L1FeeWei: big.NewInt(100)}, 121},
	} {
		if got := c.r.Fee(); got.Int64() != c.want {
			t.Errorf("%+v: %s", c.r, got)
		}
	}
}
