package mpp

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/pay"
)

// Plain is IndieGent's own dialect of the scheme: the challenge states its terms as parameters, without an id, and the
// hash of a transfer is the proof. Nothing binds the proof to the challenge or to who shows it.
type Plain struct{}

var _ pay.Protocol = Plain{}

const currencyUSDC = "USDC"

// isPlain tells the dialect from the draft by what each must have.
func isPlain(c pay.Challenge) bool {
	return c.Err == nil && c.Params["id"] == "" && c.Params["type"] != "" && c.Params["address"] != ""
}

// Name is "mpp-indiegent".
func (Plain) Name() string { return "mpp-indiegent" }

// Offers reads the Payment challenges of a 402 that have a type and an address.
func (p Plain) Offers(req *pay.Request, resp *pay.Response) ([]pay.Offer, error) {
	if resp == nil || resp.Status != http.StatusPaymentRequired {
		return nil, nil
	}
	challenges, err := pay.Challenges(resp.Header)
	if err != nil {
		return nil, err
	}
	var offers []pay.Offer
	for _, c := range challenges {
		if c.Is(scheme) && isPlain(c) {
			o := p.read(c.Params)
			o.Refuse(checkFree(req.Header))
			offers = append(offers, o)
		}
	}
	return offers, nil
}

func (p Plain) read(params map[string]string) pay.Offer {
	o := pay.Offer{Protocol: p.Name(), Scheme: pay.Text(params["type"]), Kind: pay.Transfer, ValidFor: pay.MaxWindow}
	if params["type"] != "exact" {
		o.Refuse(pay.Refusal(pay.Unsupported, "type %q is not supported", pay.Text(params["type"])))
	}
	if params["currency"] != currencyUSDC {
		o.Refuse(pay.Refusal(pay.BadAsset, "currency %q is not supported", pay.Text(params["currency"])))
	}
	if age, named := params["maxage"]; named {
		n, err := strconv.ParseInt(age, 10, 64)
		if err != nil {
			o.Refuse(pay.Refusal(pay.Malformed, "maxAge %q is not a number of seconds", pay.Text(age)))
		}
		o.ValidFor = pay.Seconds(n)
	}
	var err error
	o.Amount, err = pay.ParseAmount(params["amount"])
	o.Refuse(err)
	known := false
	if o.Network, known = evm.ParseNetwork(params["chain"]); !known {
		o.Refuse(pay.Refusal(pay.BadNetwork, "network %q is not supported", pay.Text(params["chain"])))
		return o
	}
	o.Asset = o.Network.USDC
	o.PayTo, err = pay.ParseAddress("address", params["address"])
	o.Refuse(err)
	return o
}

// Instruct asks for a transfer.
func (Plain) Instruct(o pay.Offer, payer common.Address, _ time.Time, _ [32]byte) (pay.Instruction, error) {
	if err := pay.CheckAgain(o, payer); err != nil {
		return pay.Instruction{}, err
	}
	return pay.Instruction{Kind: pay.Transfer, To: o.PayTo, Amount: o.Amount}, nil
}

// Attach sets Authorization.
func (Plain) Attach(req *pay.Request, o pay.Offer, p pay.Proof) error {
	if o.Refused != "" || p.TxHash == (common.Hash{}) {
		return errProof
	}
	setAuthorization(req, fmt.Sprintf("credential=%q, chain=%q, currency=%q", p.TxHash.Hex(), o.Network.Name, currencyUSDC))
	return nil
}

// Receipt reads Payment-Receipt, a list of parameters in this dialect.
func (Plain) Receipt(o pay.Offer, resp *pay.Response) (pay.Receipt, error) {
	header := resp.Header.Get(headerReceipt)
	if header == "" {
		return pay.Receipt{}, nil
	}
	params, err := pay.ReadParams(header)
	if err != nil {
		return pay.Receipt{}, err
	}
	r := pay.Receipt{Known: true, Success: params["status"] == "success", TxHash: readHash(params["txhash"])}
	if r.Success {
		r.Amount = o.Amount
	} else {
		r.Reason = pay.Text(params["status"])
	}
	return r, nil
}
