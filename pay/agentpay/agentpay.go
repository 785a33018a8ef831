// Package agentpay speaks Agent Pay, IndieGent's own way of asking: the JSON body of a 402 names a receiver and an amount
// in dollars, and the proof is the hash of a transfer in X-Payment-Tx. Two forms of the body are published; both are read.
//
// The hash is a bearer proof that everybody can see on the chain, and the money has left before the service answers. So who
// pays must present it at once, present the same hash again when that fails, and never pay again for the same call.
package agentpay

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Protocol is Agent Pay. Default is the network of challenges that name none; the zero value refuses them.
type Protocol struct{ Default evm.Network }

var _ pay.Protocol = Protocol{}

const (
	headerTx = "X-Payment-Tx"
	asks     = "payment_required" // the value of "error" that makes a body a challenge
)

var errProof = errors.New("agentpay: the proof does not fit the offer")

// challenge is the body of a 402. The older page has token and chain, the newer one currency. Memo and instructions are
// texts for language models: they are not read here and never followed.
type challenge struct {
	Error     string  `json:"error"`
	Amount    string  `json:"amount"`
	Token     *string `json:"token"`
	Currency  *string `json:"currency"`
	Chain     *string `json:"chain"`
	Recipient string  `json:"recipient"`
}

// Name is "agent_pay".
func (Protocol) Name() string { return "agent_pay" }

// Offers reads the body of a 402.
func (p Protocol) Offers(_ *pay.Request, resp *pay.Response) ([]pay.Offer, error) {
	if resp == nil || resp.Status != http.StatusPaymentRequired || len(resp.Body) > pay.MaxBody || !isChallenge(resp.Body) {
		return nil, nil
	}
	var c challenge
	if err := pay.ReadJSON(resp.Body, &c); err != nil {
		return nil, err
	}
	return []pay.Offer{p.read(c)}, nil
}

// isChallenge recognises a body by what makes it one. A body of x402 is that alone, whatever else it holds: a challenge is
// never read in two ways.
func isChallenge(body []byte) bool {
	var c struct {
		Error     json.RawMessage `json:"error"`
		Recipient json.RawMessage `json:"recipient"`
		X402      json.RawMessage `json:"x402Version"`
	}
	return json.Unmarshal(body, &c) == nil && bytes.Equal(c.Error, []byte(`"`+asks+`"`)) && c.Recipient != nil && c.X402 == nil
}

func (p Protocol) read(c challenge) pay.Offer {
	o := pay.Offer{Protocol: p.Name(), Scheme: "transfer", Kind: pay.Transfer, ValidFor: pay.MaxWindow}
	var err error
	o.Amount, err = parseDollars(c.Amount)
	o.Refuse(err)
	o.Refuse(checkCurrency(c))
	o.PayTo, err = pay.ParseAddress("recipient", c.Recipient)
	o.Refuse(err)
	o.Network = p.Default
	if c.Chain != nil {
		known := false
		if o.Network, known = evm.ParseNetwork(*c.Chain); !known {
			o.Refuse(pay.Refusal(pay.BadNetwork, "network %q is not supported", pay.Text(*c.Chain)))
		}
	} else if p.Default.ChainID == 0 {
		o.Refuse(pay.Refusal(pay.BadNetwork, "the challenge names no network, and none is set for that case"))
	}
	o.Asset = o.Network.USDC
	return o
}

// parseDollars reads an exact amount of dollars: digits, at most one point, at most six decimals.
func parseDollars(s string) (money.USDC, error) {
	const most = 32 // characters
	if len(s) > most {
		return 0, pay.Refusal(pay.BadAmount, "amount has more than %d characters", most)
	}
	if point := bytes.IndexByte([]byte(s), '.'); point >= 0 && len(s)-point-1 > money.Decimals {
		return 0, pay.Refusal(pay.BadAmount, "amount %q has more than %d decimals", pay.Text(s), money.Decimals)
	}
	a, err := money.ParseDecimal(s)
	if err != nil {
		return 0, pay.Refusal(pay.BadAmount, "amount %q: %v", pay.Text(s), err)
	}
	return a, nil
}

// checkCurrency holds that dollars are meant: of the two fields at least one must be there, and both must say so.
func checkCurrency(c challenge) error {
	switch {
	case c.Token == nil && c.Currency == nil:
		return pay.Refusal(pay.BadAsset, "the challenge names neither token nor currency")
	case c.Token != nil && *c.Token != "USDC":
		return pay.Refusal(pay.BadAsset, "token %q is not supported", pay.Text(*c.Token))
	case c.Currency != nil && *c.Currency != "USD" && *c.Currency != "USDC":
		return pay.Refusal(pay.BadAsset, "currency %q is not supported", pay.Text(*c.Currency))
	}
	return nil
}

// Instruct asks for a transfer.
func (Protocol) Instruct(o pay.Offer, payer common.Address, _ time.Time, _ [32]byte) (pay.Instruction, error) {
	if err := pay.CheckAgain(o, payer); err != nil {
		return pay.Instruction{}, err
	}
	return pay.Instruction{Kind: pay.Transfer, To: o.PayTo, Amount: o.Amount}, nil
}

// Attach sets X-Payment-Tx.
func (Protocol) Attach(req *pay.Request, o pay.Offer, p pay.Proof) error {
	if o.Refused != "" || p.TxHash == (common.Hash{}) {
		return errProof
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	pay.StripPaymentHeaders(req.Header)
	req.Header.Set(headerTx, p.TxHash.Hex())
	return nil
}

// Receipt finds none: the protocol has no receipts. A refusal says why in its body.
func (Protocol) Receipt(_ pay.Offer, resp *pay.Response) (pay.Receipt, error) {
	var c struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if resp.Status < http.StatusBadRequest || len(resp.Body) > pay.MaxBody || json.Unmarshal(resp.Body, &c) != nil {
		return pay.Receipt{}, nil
	}
	if c.Message != "" {
		c.Error = c.Message
	}
	return pay.Receipt{Reason: pay.Text(c.Error)}, nil
}
