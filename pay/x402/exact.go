package x402

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
	"bursar/pay"
)

// Scheme "exact" on EVM networks by EIP-3009 (specs/schemes/exact/scheme_exact_evm.md), the same in both versions.

// terms are the fields of a requirement that decide a payment, under the names that both versions share.
type terms struct {
	Scheme            string `json:"scheme"`
	Network           string `json:"network"`
	Asset             string `json:"asset"`
	PayTo             string `json:"payTo"`
	MaxTimeoutSeconds int64  `json:"maxTimeoutSeconds"`
	Extra             struct {
		Name                string `json:"name"`
		Version             string `json:"version"`
		AssetTransferMethod string `json:"assetTransferMethod"`
		FacilitatorAddress  string `json:"facilitatorAddress"`
		Facilitator         string `json:"facilitator"`
		Spender             string `json:"spender"`
	} `json:"extra"`
}

// read turns one requirement into an offer; what cannot be paid gets its reason.
func (t terms) read(protocol, amount, resource string, raw json.RawMessage, spenders []common.Address) pay.Offer {
	o := pay.Offer{
		Protocol: protocol, Scheme: pay.Text(t.Scheme), Resource: pay.Text(resource),
		ValidFor: pay.Seconds(t.MaxTimeoutSeconds), Raw: raw, UpTo: t.Scheme == schemeUpto,
	}
	var err error
	o.Amount, err = pay.ParseAmount(amount)
	o.Refuse(err)
	o.Kind, err = t.kind(protocol, spenders)
	o.Refuse(err)
	network, ok := evm.ParseNetwork(t.Network)
	if !ok {
		o.Refuse(pay.Refusal(pay.BadNetwork, "network %q is not supported", pay.Text(t.Network)))
		return o
	}
	o.Network = network
	o.Asset, err = pay.ParseAddress("asset", t.Asset)
	o.Refuse(err)
	o.PayTo, err = pay.ParseAddress("payTo", t.PayTo)
	o.Refuse(err)
	if e := t.Extra; (e.Name != "" && e.Name != network.DomainName) || (e.Version != "" && e.Version != network.DomainVersion) {
		o.Notes = append(o.Notes, fmt.Sprintf("seller names the token %q version %q; signed as %q version %q",
			pay.Text(e.Name), pay.Text(e.Version), network.DomainName, network.DomainVersion))
	}
	return o
}

// Transfer methods.
const (
	byEIP3009 = "eip3009"
	byPermit2 = "permit2"
)

// kind is what the scheme and its transfer method want of the wallet. Permit2 is of version 2 alone.
func (t terms) kind(protocol string, spenders []common.Address) (pay.InstructionKind, error) {
	method := t.Extra.AssetTransferMethod
	second := protocol == nameV2
	switch {
	case t.Scheme == schemeExact && (method == "" || method == byEIP3009):
		return pay.SignAuthorization, nil
	case second && t.Scheme == schemeExact && method == byPermit2:
		return pay.SignPermit2, nil
	case t.wants2612(second):
		_, err := t.allowed(spenders)
		return pay.SignPermit, err
	case second && t.Scheme == schemeUpto && (method == "" || method == byPermit2):
		_, err := t.facilitator()
		return pay.SignPermit2, err
	case t.Scheme == schemeExact:
		return pay.None, pay.Refusal(pay.Unsupported, "transfer method %q is not supported", pay.Text(method))
	}
	return pay.None, pay.Refusal(pay.Unsupported, "scheme %q by transfer method %q is not supported", pay.Text(t.Scheme), pay.Text(method))
}

// unreadable is an offer of which not even the terms can be read.
func unreadable(protocol, scheme string, raw json.RawMessage, err error) pay.Offer {
	o := pay.Offer{Protocol: protocol, Scheme: pay.Text(scheme), Raw: raw}
	o.Refuse(pay.Refusal(pay.Malformed, "unreadable offer: %s", pay.Text(err.Error())))
	return o
}

// instruct builds the authorization. validAfter is the protocol's habit; see V1 and V2.
func instruct(o pay.Offer, payer common.Address, now time.Time, validAfter int64, nonce [32]byte) (pay.Instruction, error) {
	if err := pay.CheckAgain(o, payer); err != nil {
		return pay.Instruction{}, err
	}
	validBefore, err := pay.Window(o, now)
	if err != nil {
		return pay.Instruction{}, err
	}
	return pay.Instruction{
		Kind:   pay.SignAuthorization,
		Domain: o.Network.Domain(),
		Authorization: evm.Authorization{
			From: payer, To: o.PayTo, Value: o.Amount, Nonce: nonce,
			ValidAfter: validAfter, ValidBefore: validBefore,
		},
	}, nil
}

// exactPayload is the field "payload" of a proof. All numbers are decimal text.
type exactPayload struct {
	Signature     string            `json:"signature"`
	Authorization wireAuthorization `json:"authorization"`
}

type wireAuthorization struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Value       string `json:"value"`
	ValidAfter  string `json:"validAfter"`
	ValidBefore string `json:"validBefore"`
	Nonce       string `json:"nonce"`
}

var errProof = errors.New("x402: the proof does not fit the offer")

func writePayload(o pay.Offer, p pay.Proof) (exactPayload, error) {
	a := p.Authorization
	if a.To != o.PayTo || a.Value != o.Amount || len(p.Signature) != evm.SignatureLength || o.Refused != "" {
		return exactPayload{}, errProof
	}
	return exactPayload{
		Signature: hexutil.Encode(p.Signature),
		Authorization: wireAuthorization{
			From: a.From.Hex(), To: a.To.Hex(), Value: a.Value.String(), Nonce: a.Nonce.Hex(),
			ValidAfter: strconv.FormatInt(a.ValidAfter, 10), ValidBefore: strconv.FormatInt(a.ValidBefore, 10),
		},
	}, nil
}

// proof is the reverse of writePayload, for sellers.
func (x exactPayload) proof() (pay.Proof, error) {
	var p pay.Proof
	w, err := x.Authorization, error(nil)
	if p.Authorization.From, err = pay.ParseAddress("from", w.From); err != nil {
		return p, err
	}
	if p.Authorization.To, err = pay.ParseAddress("to", w.To); err != nil {
		return p, err
	}
	if p.Authorization.Value, err = pay.ParseAmount(w.Value); err != nil {
		return p, fmt.Errorf("value: %w", err)
	}
	if p.Authorization.ValidAfter, err = strconv.ParseInt(w.ValidAfter, 10, 64); err != nil {
		return p, errors.New("validAfter is not a number")
	}
	if p.Authorization.ValidBefore, err = strconv.ParseInt(w.ValidBefore, 10, 64); err != nil {
		return p, errors.New("validBefore is not a number")
	}
	nonce, err := hexutil.Decode(w.Nonce)
	if err != nil || len(nonce) != common.HashLength {
		return p, errors.New("nonce is not 32 bytes")
	}
	p.Authorization.Nonce = common.BytesToHash(nonce)
	if p.Signature, err = hexutil.Decode(x.Signature); err != nil || len(p.Signature) != evm.SignatureLength {
		return p, errors.New("signature is not 65 bytes")
	}
	return p, nil
}
