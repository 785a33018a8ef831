package x402

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/pay"
)

// Schemes "exact" and "upto" by Permit2 (specs/schemes/exact/scheme_exact_evm.md, specs/schemes/upto/scheme_upto_evm.md),
// in version 2 only. Spenders are compiled in; of the offer come the receiver and, for upto, who may settle.

// permit2Payload is the field "payload" of a proof. All numbers are decimal text.
type permit2Payload struct {
	Signature     string      `json:"signature"`
	Authorization wirePermit2 `json:"permit2Authorization"`
}

type wirePermit2 struct {
	From      string        `json:"from"`
	Permitted wirePermitted `json:"permitted"`
	Spender   string        `json:"spender"`
	Nonce     string        `json:"nonce"`
	Deadline  string        `json:"deadline"`
	Witness   wireWitness   `json:"witness"`
}

type wirePermitted struct {
	Token  string `json:"token"`
	Amount string `json:"amount"`
}

type wireWitness struct {
	To          string `json:"to"`
	Facilitator string `json:"facilitator,omitempty"`
	ValidAfter  string `json:"validAfter"`
}

// facilitator is who may settle an offer of scheme upto, and the zero address for scheme exact.
func facilitator(o pay.Offer) (common.Address, error) {
	if !o.UpTo {
		return common.Address{}, nil
	}
	var r requirementV2
	if err := json.Unmarshal(o.Raw, &r); err != nil {
		return common.Address{}, errProof
	}
	return r.facilitator()
}

// facilitator refuses the zero address, under which the signature would be one of scheme exact.
func (t terms) facilitator() (common.Address, error) {
	a, err := pay.ParseAddress("scheme upto: facilitatorAddress", t.Extra.FacilitatorAddress)
	if err == nil && a == (common.Address{}) {
		err = pay.Refusal(pay.Malformed, "scheme upto: facilitatorAddress is the zero address")
	}
	return a, err
}

// instructPermit2 asks for a signature over exactly the offer's amount.
func instructPermit2(o pay.Offer, payer common.Address, now time.Time, nonce [32]byte) (pay.Instruction, error) {
	if err := pay.CheckAgain(o, payer); err != nil {
		return pay.Instruction{}, err
	}
	deadline, err := pay.Window(o, now)
	if err != nil {
		return pay.Instruction{}, err
	}
	who, err := facilitator(o)
	if err != nil {
		return pay.Instruction{}, err
	}
	return pay.Instruction{
		Kind: pay.SignPermit2, Domain: o.Network.Domain(),
		Permit2: evm.Permit2Transfer{
			Owner: payer, Token: o.Asset, To: o.PayTo, Facilitator: who, Amount: o.Amount, Nonce: nonce, Deadline: deadline,
		},
	}, nil
}

// writePermit2 makes the payload.
func writePermit2(o pay.Offer, p pay.Proof) (permit2Payload, error) {
	t := p.Permit2
	who, err := facilitator(o)
	if err != nil || o.Refused != "" || t.To != o.PayTo || t.Token != o.Asset || t.Amount != o.Amount || t.Facilitator != who ||
		len(p.Signature) != evm.SignatureLength {
		return permit2Payload{}, errProof
	}
	w := permit2Payload{
		Signature: hexutil.Encode(p.Signature),
		Authorization: wirePermit2{
			From: t.Owner.Hex(), Permitted: wirePermitted{Token: t.Token.Hex(), Amount: t.Amount.String()},
			Spender: t.Spender().Hex(), Nonce: t.Nonce.Big().String(), Deadline: strconv.FormatInt(t.Deadline, 10),
			Witness: wireWitness{To: t.To.Hex(), ValidAfter: strconv.FormatInt(t.ValidAfter, 10)},
		},
	}
	if t.UpTo() {
		w.Authorization.Witness.Facilitator = t.Facilitator.Hex()
	}
	return w, nil
}
