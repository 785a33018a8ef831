package devnet

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"

	"bursar/evm"
	"bursar/money"
)

// What the proxies take, by the names of their ABI.
type (
	tokenPermissions struct {
		Token  common.Address
		Amount *big.Int
	}
	permitTransfer struct {
		Permitted       tokenPermissions
		Nonce, Deadline *big.Int
	}
	exactWitness struct {
		To         common.Address
		ValidAfter *big.Int
	}
	uptoWitness struct {
		To, Facilitator common.Address
		ValidAfter      *big.Int
	}
	permit2612 struct {
		Value, Deadline *big.Int
		R, S            [32]byte
		V               uint8
	}
)

const farAway = 4_000_000_000 // unix seconds

// payment is a Permit2 transfer on its way to a proxy, which a test may spoil.
type payment struct {
	transfer evm.Permit2Transfer
	sig      []byte
	amount   money.USDC  // scheme upto
	permit   *permit2612 // by settleWithPermit
	caller   common.Address
}

// bank is a chain on which the faucet settles.
type bank struct {
	*Node
	t     *testing.T
	payTo common.Address
	abis  map[string]abi.ABI
}

func newBank(t *testing.T) *bank {
	b := &bank{Node: start(t, Config{}), t: t, payTo: common.HexToAddress("0x5e11e4"), abis: map[string]abi.ABI{}}
	for _, name := range []string{"DevPermit2", "DevX402ExactPermit2Proxy", "DevX402UptoPermit2Proxy"} {
		text, err := os.ReadFile("contracts/" + name + ".abi")
		b.must(err)
		b.abis[name], err = abi.JSON(bytes.NewReader(text))
		b.must(err)
	}
	return b
}

func (b *bank) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// owner has one USDC, of which Permit2 may take the allowance.
func (b *bank) owner(allowance money.USDC) *ecdsa.PrivateKey {
	b.t.Helper()
	key, err := crypto.GenerateKey()
	b.must(err)
	_, err = b.Mint(b.t.Context(), crypto.PubkeyToAddress(key.PublicKey), money.One)
	b.must(err)
	if allowance > 0 {
		b.allow(key, allowance, 0)
	}
	return key
}

func (b *bank) signPermit(key *ecdsa.PrivateKey, value money.USDC, nonce uint64) []byte {
	b.t.Helper()
	p := evm.Permit{Owner: crypto.PubkeyToAddress(key.PublicKey), Spender: evm.Permit2, Value: value, Nonce: nonce, Deadline: farAway}
	sig, err := evm.Sign(key, p.Digest(b.network.Domain()))
	b.must(err)
	return sig
}

func (b *bank) allow(key *ecdsa.PrivateKey, value money.USDC, nonce uint64) {
	b.t.Helper()
	data := evm.PermitData(crypto.PubkeyToAddress(key.PublicKey), evm.Permit2, value, farAway, b.signPermit(key, value, nonce))
	_, err := b.fromFaucet(b.t.Context(), evm.Call{To: b.network.USDC, Data: data, Gas: faucetGas})
	b.must(err)
}

// sign makes a payment of 1000, or of at most 1000 for scheme upto, with what the test changes before the signature.
func (b *bank) sign(key *ecdsa.PrivateKey, upto bool, nonce byte, changes ...func(*evm.Permit2Transfer)) payment {
	b.t.Helper()
	p := payment{amount: 1000, caller: b.faucet.from, transfer: evm.Permit2Transfer{
		Owner: crypto.PubkeyToAddress(key.PublicKey), Token: b.network.USDC, To: b.payTo, Amount: 1000,
		Nonce: common.Hash{0: 0xff, 30: 7, 31: nonce}, Deadline: farAway,
	}}
	if upto {
		p.transfer.Facilitator = b.faucet.from
	}
	for _, change := range changes {
		change(&p.transfer)
	}
	var err error
	p.sig, err = evm.Sign(key, p.transfer.Digest(b.network.ChainID))
	b.must(err)
	return p
}

// sponsored adds a permit of the token over a value.
func (b *bank) sponsored(p payment, key *ecdsa.PrivateKey, value money.USDC, nonce uint64) payment {
	sig := b.signPermit(key, value, nonce)
	p.permit = &permit2612{value.Big(), big.NewInt(farAway), [32]byte(sig[:32]), [32]byte(sig[32:64]), sig[64]}
	return p
}

func (p payment) signed() permitTransfer {
	t := p.transfer
	return permitTransfer{tokenPermissions{t.Token, t.Amount.Big()}, t.Nonce.Big(), big.NewInt(t.Deadline)}
}

// call is the payment as a call of its proxy.
func (b *bank) call(p payment) evm.Call {
	b.t.Helper()
	t := p.transfer
	proxy, method, args := "DevX402ExactPermit2Proxy", "settle", []any{p.signed()}
	if t.UpTo() {
		proxy = "DevX402UptoPermit2Proxy"
		args = append(args, p.amount.Big(), t.Owner, uptoWitness{t.To, t.Facilitator, big.NewInt(t.ValidAfter)}, p.sig)
	} else {
		args = append(args, t.Owner, exactWitness{t.To, big.NewInt(t.ValidAfter)}, p.sig)
	}
	if p.permit != nil {
		method, args = "settleWithPermit", slices.Insert(args, 0, any(*p.permit))
	}
	data, err := b.abis[proxy].Pack(method, args...)
	b.must(err)
	return evm.Call{To: t.Spender(), Data: data, Gas: 300_000}
}

// settle sends the payment, which must go through, and returns what it logged.
func (b *bank) settle(p payment) []*types.Log {
	b.t.Helper()
	return b.send(b.call(p))
}

func (b *bank) send(c evm.Call) []*types.Log {
	b.t.Helper()
	hash, err := b.fromFaucet(b.t.Context(), c)
	b.must(err)
	var receipt *types.Receipt
	b.must(b.rpc.CallContext(b.t.Context(), &receipt, "eth_getTransactionReceipt", hash))
	return receipt.Logs
}

// try is why a call would fail: the name of the contract's error, or its text; "" when it would not. Code stands in for
// that of an address.
func (b *bank) try(from common.Address, c evm.Call, code map[common.Address]hexutil.Bytes) string {
	b.t.Helper()
	override := map[common.Address]any{}
	for a, bytecode := range code {
		override[a] = map[string]any{"code": bytecode}
	}
	var out hexutil.Bytes
	err := b.rpc.CallContext(b.t.Context(), &out, "eth_call", map[string]any{"from": from, "to": c.To, "input": hexutil.Bytes(c.Data)}, "latest", override)
	var data rpc.DataError
	if !errors.As(err, &data) {
		b.must(err)
		return ""
	}
	text, _ := data.ErrorData().(string)
	raw := common.FromHex(text)
	if why, bad := abi.UnpackRevert(raw); bad == nil {
		return why
	}
	for _, a := range b.abis {
		for _, e := range a.Errors {
			if bytes.HasPrefix(raw, e.ID[:4]) {
				return strings.TrimSuffix(e.Sig, "()")
			}
		}
	}
	return err.Error()
}

// used is the bit of a payment's nonce.
func (b *bank) used(t evm.Permit2Transfer) bool {
	b.t.Helper()
	data, bit := t.BitmapData()
	var out hexutil.Bytes
	b.must(b.rpc.CallContext(b.t.Context(), &out, "eth_call", map[string]any{"to": evm.Permit2, "input": hexutil.Bytes(data)}, "latest"))
	return new(big.Int).SetBytes(out).Bit(int(bit)) == 1
}

// names are the events of a settlement; those of the token are called by its own names.
func (b *bank) names(logs []*types.Log) string {
	var names []string
	for _, l := range logs {
		name := map[common.Hash]string{evm.TopicTransfer: "Transfer", crypto.Keccak256Hash([]byte("Approval(address,address,uint256)")): "Approval"}[l.Topics[0]]
		for _, a := range b.abis {
			if e, err := a.EventByID(l.Topics[0]); err == nil {
				name = e.Name
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
