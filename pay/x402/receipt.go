package x402

import (
	"encoding/json"
	"errors"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/pay"
)

// receipt is the settlement response of both versions (specs/x402-specification-v2.md, 5.3). amount is optional
// and new in v2.
type receipt struct {
	Success     bool   `json:"success"`
	ErrorReason string `json:"errorReason,omitempty"`
	Transaction string `json:"transaction"`
	Network     string `json:"network"`
	Payer       string `json:"payer,omitempty"`
	Amount      string `json:"amount,omitempty"`
}

// readReceipt reads a receipt header; absent is not an error. The claim is never believed beyond the offer.
func readReceipt(o pay.Offer, header string) (pay.Receipt, error) {
	if header == "" {
		return pay.Receipt{}, nil
	}
	b, err := pay.DecodeBase64(header)
	if err != nil {
		return pay.Receipt{}, err
	}
	var w receipt
	if json.Unmarshal(b, &w) != nil {
		return pay.Receipt{}, errors.New("receipt is not JSON")
	}
	r := pay.Receipt{Known: true, Success: w.Success, Reason: pay.Text(w.ErrorReason)}
	if tx, err := hexutil.Decode(w.Transaction); err == nil && len(tx) == common.HashLength {
		r.TxHash = common.BytesToHash(tx)
	}
	if !w.Success {
		return r, nil
	}
	r.Amount = o.Amount
	if w.Amount != "" {
		if a, err := pay.ParseAmount(w.Amount); err == nil {
			r.Amount = a.Min(o.Amount)
		}
	}
	return r, nil
}
