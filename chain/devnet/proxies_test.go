package devnet

import (
	"crypto/ecdsa"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"

	"bursar/evm"
	"bursar/money"
)

// A signature of package evm moves exactly its amount through its proxy, or what the facilitator says for scheme upto;
// with the owner's allowance, with a permit that comes along, and with one that somebody else has handed in before.
func TestProxiesSettle(t *testing.T) {
	b := newBank(t)
	for _, c := range []struct {
		upto, sponsored, before bool
		amount                  money.USDC
		events                  string
	}{
		{false, false, false, 1000, "Transfer Settled"},
		{false, true, false, 1000, "Approval Transfer SettledWithPermit"},
		{false, true, true, 1000, "EIP2612PermitFailedWithReason Transfer SettledWithPermit"},
		{true, false, false, 400, "Transfer Settled"},
		{true, true, false, 400, "Approval Transfer SettledWithPermit"},
		{true, true, true, 1000, "EIP2612PermitFailedWithReason Transfer SettledWithPermit"},
	} {
		key := b.owner(map[bool]money.USDC{false: 1000}[c.sponsored])
		p := b.sign(key, c.upto, 1)
		p.amount = c.amount
		if c.sponsored {
			p = b.sponsored(p, key, 1000, 0)
		}
		if c.before {
			b.allow(key, 1000, 0)
		}
		had := b.balance(t, b.payTo)
		if b.used(p.transfer) {
			t.Errorf("%+v: used before", c)
		}
		if got := b.names(b.settle(p)); got != c.events {
			t.Errorf("%+v: events %s", c, got)
		}
		if got, has := b.balance(t, b.payTo).Sub(had), b.balance(t, p.transfer.Owner); got != c.amount || has != money.One-c.amount {
			t.Errorf("%+v: moved %s, owner has %s", c, got, has)
		}
		if !b.used(p.transfer) || b.try(p.caller, b.call(p), nil) != "InvalidNonce" {
			t.Errorf("%+v: a second use: %s", c, b.try(p.caller, b.call(p), nil))
		}
	}
}

// What the contracts refuse, by the names that a facilitator decodes.
func TestProxiesRefuse(t *testing.T) {
	b := newBank(t)
	key := b.owner(5000)
	poor := b.owner(0)
	stranger := common.Address{7}
	late := func(p *evm.Permit2Transfer) { p.Deadline = genesisTime }
	early := func(p *evm.Permit2Transfer) { p.ValidAfter = farAway }
	nowhere := func(p *evm.Permit2Transfer) { p.To = common.Address{} }
	nothing := func(p *evm.Permit2Transfer) { p.Amount = 0 }
	for _, upto := range []bool{false, true} {
		for want, p := range map[string]payment{
			"":                          b.sign(key, upto, 1),
			"SignatureExpired(uint256)": b.sign(key, upto, 1, late),
			"PaymentTooEarly":           b.sign(key, upto, 1, early),
			"InvalidDestination":        b.sign(key, upto, 1, nowhere),
			"InvalidOwner":              spoil(b.sign(key, upto, 1), func(p *payment) { p.transfer.Owner = common.Address{} }),
			"InvalidSigner":             spoil(b.sign(key, upto, 1), func(p *payment) { p.transfer.To = stranger }),
			"InvalidSignature":          spoil(b.sign(key, upto, 1), func(p *payment) { p.sig[64] = 9 }),
			"InvalidSignatureLength":    spoil(b.sign(key, upto, 1), func(p *payment) { p.sig = p.sig[:63] }),
			"TRANSFER_FROM_FAILED":      b.sign(poor, upto, 1),
			"Permit2612AmountMismatch":  b.sponsored(b.sign(poor, upto, 1), poor, 1001, 0),
		} {
			if got := b.try(p.caller, b.call(p), nil); got != want {
				t.Errorf("upto %t: %q, want %q", upto, got, want)
			}
		}
	}
	for want, p := range map[string]payment{
		"AmountExceedsPermitted":  spoil(b.sign(key, true, 1), func(p *payment) { p.amount = 1001 }),
		"UnauthorizedFacilitator": spoil(b.sign(key, true, 1), func(p *payment) { p.caller = stranger }),
		"InvalidAmount":           spoil(b.sign(key, true, 1), func(p *payment) { p.amount = 0 }),
		"InvalidSigner":           spoil(b.sign(key, true, 1), func(p *payment) { p.transfer.Facilitator, p.caller = stranger, stranger }),
	} {
		if got := b.try(p.caller, b.call(p), nil); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if p := b.sign(key, false, 1, nothing); b.try(p.caller, b.call(p), nil) != "InvalidAmount" {
		t.Error("nothing was settled")
	}
	if p := b.sign(key, false, 1); b.try(stranger, b.call(p), nil) != "" {
		t.Error("scheme exact asks who settles")
	}
}

func spoil(p payment, change func(*payment)) payment {
	change(&p)
	return p
}

// A compact signature is one too, and an owner that is a contract is asked itself.
func TestPermit2Signatures(t *testing.T) {
	b := newBank(t)
	key := b.owner(1000)
	p := b.sign(key, false, 1)
	compact := append([]byte(nil), p.sig[:64]...)
	compact[32] |= (p.sig[64] - 27) << 7
	answer := func(magic string) map[common.Address]hexutil.Bytes { // PUSH4 magic, SHL 224, MSTORE at 0, RETURN 32
		return map[common.Address]hexutil.Bytes{p.transfer.Owner: common.FromHex("63" + magic + "60e01b60005260206000f3")}
	}
	for _, c := range []struct {
		sig  []byte
		code map[common.Address]hexutil.Bytes
		want string
	}{
		{compact, nil, ""},
		{[]byte("whatever the wallet makes of it"), answer("1626ba7e"), ""},
		{p.sig, answer("ffffffff"), "InvalidContractSignature"},
	} {
		again := spoil(p, func(p *payment) { p.sig = c.sig })
		if got := b.try(p.caller, b.call(again), c.code); got != c.want {
			t.Errorf("%x: %q, want %q", c.sig, got, c.want)
		}
	}
}

// Permit2 without a proxy: the spender of a plain transfer is its caller. The hash is go-ethereum's.
func TestPermit2Alone(t *testing.T) {
	b := newBank(t)
	key := b.owner(1000)
	p := b.sign(key, false, 1)
	p.sig = b.signPlain(key, p.transfer, b.faucet.from)
	type details struct {
		To              common.Address
		RequestedAmount *big.Int
	}
	take := func(amount int64) evm.Call {
		data, err := b.abis["DevPermit2"].Pack("permitTransferFrom", p.signed(), details{b.payTo, big.NewInt(amount)}, p.transfer.Owner, p.sig)
		b.must(err)
		return evm.Call{To: evm.Permit2, Data: data, Gas: faucetGas}
	}
	for _, c := range []struct {
		from   common.Address
		amount int64
		want   string
	}{{b.faucet.from, 1001, "InvalidAmount(uint256)"}, {b.payTo, 1000, "InvalidSigner"}, {b.faucet.from, 1000, ""}} {
		if got := b.try(c.from, take(c.amount), nil); got != c.want {
			t.Errorf("%d: %q, want %q", c.amount, got, c.want)
		}
	}
	b.send(take(250))
	if got := b.balance(t, b.payTo); got != 250 || !b.used(p.transfer) {
		t.Errorf("moved %s", got)
	}
	data, err := b.abis["DevPermit2"].Pack("invalidateUnorderedNonces", big.NewInt(7), big.NewInt(5))
	b.must(err)
	if got := b.names(b.send(evm.Call{To: evm.Permit2, Data: data, Gas: faucetGas})); got != "UnorderedNonceInvalidation" {
		t.Errorf("events %s", got)
	}
	for nonce, want := range map[byte]bool{0: true, 1: false, 2: true, 3: false} {
		if got := b.used(evm.Permit2Transfer{Owner: b.faucet.from, Nonce: common.Hash{30: 7, 31: nonce}}); got != want {
			t.Errorf("nonce %d invalid: %t", nonce, got)
		}
	}
}

func (b *bank) signPlain(key *ecdsa.PrivateKey, p evm.Permit2Transfer, spender common.Address) []byte {
	b.t.Helper()
	hash, _, err := apitypes.TypedDataAndHash(apitypes.TypedData{
		Types: apitypes.Types{
			"EIP712Domain":       {{Name: "name", Type: "string"}, {Name: "chainId", Type: "uint256"}, {Name: "verifyingContract", Type: "address"}},
			"PermitTransferFrom": {{Name: "permitted", Type: "TokenPermissions"}, {Name: "spender", Type: "address"}, {Name: "nonce", Type: "uint256"}, {Name: "deadline", Type: "uint256"}},
			"TokenPermissions":   {{Name: "token", Type: "address"}, {Name: "amount", Type: "uint256"}},
		},
		PrimaryType: "PermitTransferFrom",
		Domain:      apitypes.TypedDataDomain{Name: "Permit2", ChainId: (*math.HexOrDecimal256)(b.network.Domain().ChainID), VerifyingContract: evm.Permit2.Hex()},
		Message: apitypes.TypedDataMessage{
			"permitted": map[string]any{"token": p.Token.Hex(), "amount": p.Amount.String()},
			"spender":   spender.Hex(), "nonce": p.Nonce.Big().String(), "deadline": big.NewInt(p.Deadline).String(),
		},
	})
	b.must(err)
	sig, err := evm.Sign(key, common.BytesToHash(hash))
	b.must(err)
	return sig
}

// The stand-ins must be called, and must refuse, like the contracts that they stand for.
func TestSelectorsEqualPermit2(t *testing.T) {
	b := newBank(t)
	have := map[string]string{}
	for _, a := range b.abis {
		for _, m := range a.Methods {
			have[hexutil.Encode(m.ID)[2:]] = m.Name
		}
		for _, e := range a.Errors {
			have[hexutil.Encode(e.ID[:4])[2:]] = e.Name
		}
		for _, e := range a.Events {
			have[hexutil.Encode(e.ID[:4])[2:]] = e.Name
		}
	}
	for id, name := range map[string]string{
		"30f28b7a": "permitTransferFrom", "137c29fe": "permitWitnessTransferFrom", "4fe02b44": "nonceBitmap",
		"3ff9dcb1": "invalidateUnorderedNonces", "3644e515": "DOMAIN_SEPARATOR", "756688fe": "InvalidNonce",
		"cd21db4f": "SignatureExpired", "815e1d64": "InvalidSigner", "8baa579f": "InvalidSignature", "4be6321b": "InvalidSignatureLength",
		"b0669cbc": "InvalidContractSignature", "3728b83d": "InvalidAmount", "6afdd850": "PERMIT2",
	} {
		if have[id] != name {
			t.Errorf("%s is %q, want %s", id, have[id], name)
		}
	}
}
