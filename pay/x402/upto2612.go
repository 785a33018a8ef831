package x402

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/pay"
)

// The other "upto", of AgnicPay's pages and of x402-rs (docs/upto_scheme.md): an EIP-2612 permit by which the seller's
// facilitator may take up to the amount. Who is paid is not signed, and the deadline ends the permit, not the allowance:
// the facilitator may move the whole value to anybody, in parts, until it is used up or taken back. So nobody gets one who
// is not on the operator's list, and the list is empty unless somebody fills it.

// byEIP2612 is a transfer method; in version 1, and beside the fields that only this form has, it may be absent.
const byEIP2612 = "eip2612"

// uptoPayload is the field "payload" of a proof. Numbers are decimal text; to is the spender.
type uptoPayload struct {
	Signature     string     `json:"signature"`
	Authorization wireUptoBy `json:"authorization"`
}

type wireUptoBy struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Value       string `json:"value"`
	Nonce       string `json:"nonce"`
	ValidBefore string `json:"validBefore"`
}

// wants2612 tells this form of upto from the published one.
func (t terms) wants2612(second bool) bool {
	e := t.Extra
	if t.Scheme != schemeUpto {
		return false
	}
	onlyHere := e.FacilitatorAddress == "" && (e.Spender != "" || e.Facilitator != "")
	return e.AssetTransferMethod == byEIP2612 || (e.AssetTransferMethod == "" && (!second || onlyHere))
}

// spender is who would get the allowance: the fields that sellers use for it must not contradict each other.
func (t terms) spender() (common.Address, error) {
	var found common.Address
	for _, text := range []string{t.Extra.Spender, t.Extra.Facilitator, t.Extra.FacilitatorAddress} {
		if text == "" {
			continue
		}
		a, err := pay.ParseAddress("scheme upto: spender", text)
		if err != nil {
			return a, err
		}
		if found != (common.Address{}) && found != a {
			return a, pay.Refusal(pay.Malformed, "scheme upto names two spenders")
		}
		found = a
	}
	if found == (common.Address{}) {
		return found, pay.Refusal(pay.Malformed, "scheme upto names no spender")
	}
	return found, nil
}

// allowed is the spender of the terms if the operator trusts it.
func (t terms) allowed(spenders []common.Address) (common.Address, error) {
	a, err := t.spender()
	if err == nil && !slices.Contains(spenders, a) {
		err = pay.Refusal(pay.Unsupported, "scheme upto by an allowance: %s is not on the list of trusted facilitators", a)
	}
	return a, err
}

// instruct2612 asks for a permit over exactly the offer's amount. Its nonce is the token's next one of the payer, which the
// wallet puts in; so there is one such payment at a time for a wallet.
func instruct2612(o pay.Offer, payer common.Address, now time.Time, spenders []common.Address) (pay.Instruction, error) {
	if err := pay.CheckAgain(o, payer); err != nil {
		return pay.Instruction{}, err
	}
	deadline, err := pay.Window(o, now)
	if err != nil {
		return pay.Instruction{}, err
	}
	var t terms
	if uerr := json.Unmarshal(o.Raw, &t); uerr != nil {
		return pay.Instruction{}, errProof
	}
	spender, err := t.allowed(spenders)
	if err != nil {
		return pay.Instruction{}, err
	}
	return pay.Instruction{
		Kind: pay.SignPermit, Domain: o.Network.Domain(),
		Permit: &evm.Permit{Owner: payer, Spender: spender, Value: o.Amount, Deadline: deadline},
	}, nil
}

func write2612(o pay.Offer, p pay.Proof, spenders []common.Address) (uptoPayload, error) {
	var t terms
	if o.Refused != "" || p.Permit == nil || json.Unmarshal(o.Raw, &t) != nil {
		return uptoPayload{}, errProof
	}
	spender, err := t.allowed(spenders)
	if m := p.Permit; err != nil || m.Spender != spender || m.Value != o.Amount || len(p.Signature) != evm.SignatureLength {
		return uptoPayload{}, errProof
	}
	return uptoPayload{Signature: hexutil.Encode(p.Signature), Authorization: wireUptoBy{
		From: p.Permit.Owner.Hex(), To: p.Permit.Spender.Hex(), Value: p.Permit.Value.String(),
		Nonce: strconv.FormatUint(p.Permit.Nonce, 10), ValidBefore: strconv.FormatInt(p.Permit.Deadline, 10),
	}}, nil
}
