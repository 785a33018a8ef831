package evm

import "math/big"

// Fees are the EIP-1559 prices for the next blocks, in wei per gas.
type Fees struct {
	TipWei, CapWei int64
}

// Bump is the price at which a transaction that is not mined goes out again under the same account nonce. Both
// prices rise by an eighth at least, since pools refuse a replacement that is not a tenth dearer in both, reach the
// suggestion, and keep the cap within ceilingWei. It is false, with the old price, when the ceiling leaves no room
// for that: then only the old bytes can be sent again.
func Bump(old, suggested Fees, ceilingWei int64) (Fees, bool) {
	tip, tipOK := dearer(old.TipWei, ceilingWei)
	limit, limitOK := dearer(old.CapWei, ceilingWei)
	if !tipOK || !limitOK {
		return old, false
	}
	limit = max(limit, min(suggested.CapWei, ceilingWei))
	// A tip above the cap is refused. It may take the cap along, up to the ceiling.
	tip = max(tip, min(suggested.TipWei, limit))
	return Fees{TipWei: tip, CapWei: max(limit, tip)}, true
}

// dearer is a price raised by an eighth, rounded up and by one wei at least, if that is within the ceiling.
func dearer(wei, ceiling int64) (int64, bool) {
	step := max(wei/8, 0)
	if wei%8 != 0 || step == 0 {
		step++
	}
	if wei > ceiling-step {
		return 0, false
	}
	return wei + step, true
}

// Fee is what the sender paid for the transaction in wei, besides the ether that it carried.
func (r Receipt) Fee() *big.Int {
	fee := new(big.Int)
	if r.PriceWei != nil {
		fee.Mul(new(big.Int).SetUint64(r.GasUsed), r.PriceWei)
	}
	if r.L1FeeWei != nil {
		fee.Add(fee, r.L1FeeWei)
	}
	return fee
}
