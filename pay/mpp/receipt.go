package mpp

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/pay"
)

// receipt is Payment-Receipt after base64url.
type receipt struct {
	Status    string `json:"status"`
	Reference string `json:"reference"`
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

const problems = "https://paymentauth.org/problems/"

// Receipt reads Payment-Receipt. A refusal has none, but a body that says why.
func (Charge) Receipt(o pay.Offer, resp *pay.Response) (pay.Receipt, error) {
	header := resp.Header.Get(headerReceipt)
	if header == "" {
		return pay.Receipt{Reason: readProblem(resp)}, nil
	}
	b, err := pay.DecodeBase64(header)
	if err != nil {
		return pay.Receipt{}, err
	}
	var w receipt
	if json.Unmarshal(b, &w) != nil {
		return pay.Receipt{}, errors.New("receipt is not JSON")
	}
	r := pay.Receipt{Known: true, Success: w.Status == "success", TxHash: readHash(w.Reference)}
	if r.Success {
		r.Amount = o.Amount
	} else {
		r.Reason = pay.Text(w.Status)
	}
	return r, nil
}

// readProblem is a refusal's type and detail; empty for an answer that is none.
func readProblem(resp *pay.Response) string {
	var p problem
	if resp.Status < 400 || len(resp.Body) > pay.MaxBody || json.Unmarshal(resp.Body, &p) != nil {
		return ""
	}
	name, ours := strings.CutPrefix(p.Type, problems)
	if !ours {
		return ""
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	return pay.Text(name + ": " + p.Detail)
}

func readHash(s string) common.Hash {
	b, err := hexutil.Decode(s)
	if err != nil || len(b) != common.HashLength {
		return common.Hash{}
	}
	return common.BytesToHash(b)
}
