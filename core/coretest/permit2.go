package coretest

import (
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
)

// Permit2Seller sells for Price, or for at most that when UpTo is set, by x402 version 2 through Permit2. It hands in no
// permit. Its fields may be set while no call is under way.
type Permit2Seller struct {
	URL    string
	Chain  *chain.Client
	Key    *ecdsa.PrivateKey // of its facilitator, which needs ether
	PayTo  common.Address
	Price  money.USDC
	UpTo   bool
	Charge money.USDC                    // what it settles; zero: nothing
	Fails  bool                          // it answers 500, whatever it has settled
	Hides  func(evm.Call) common.Address // what makes the call in its place; nil: it does itself
	Window time.Duration
	Batch  bool // Multicall3 settles for it, so that SettleTogether can settle what is of scheme upto

	mu   sync.Mutex // one settlement at a time: the facilitator's account counts them
	seen []permit2Proof
}

// Permit2Seller starts a paid service whose facilitator settles what it is told to.
func (w *World) Permit2Seller(price money.USDC) *Permit2Seller {
	w.T.Helper()
	key, _ := w.Facilitator()
	payee, err := crypto.GenerateKey()
	w.no(err)
	s := &Permit2Seller{
		Chain: w.Net.Client, Key: key, PayTo: crypto.PubkeyToAddress(payee.PublicKey), Price: price, Charge: price, Window: time.Minute,
	}
	s.URL = w.Serve(s)
	return s
}

// permit2Proof is the part of a proof that a facilitator needs.
type permit2Proof struct {
	Payload struct {
		Signature     string
		Authorization struct {
			From, Nonce, Deadline string
			Permitted             struct{ Amount string }
			Witness               struct{ ValidAfter string }
		} `json:"permit2Authorization"`
	}
	upTo bool
}

// ServeHTTP asks, or takes a proof, settles it and answers.
func (s *Permit2Seller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := s.Take(r)
	if err != nil {
		s.Ask(w, r)
		return
	}
	if s.Charge > 0 {
		err = s.Settle(r.Context(), call, s.Charge)
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusPaymentRequired)
	case s.Fails:
		w.WriteHeader(http.StatusInternalServerError)
	default:
		_, _ = w.Write([]byte("served"))
	}
}

// Take keeps the proof of a request, and returns its number: the first is 0.
func (s *Permit2Seller) Take(r *http.Request) (int, error) {
	text, err := base64.StdEncoding.DecodeString(r.Header.Get("PAYMENT-SIGNATURE"))
	if err != nil {
		return 0, err
	}
	var p permit2Proof
	if err := json.Unmarshal(text, &p); err != nil {
		return 0, err
	}
	p.upTo = s.UpTo
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, p)
	return len(s.seen) - 1, nil
}

// Nonce is that of a proof, by its number.
func (s *Permit2Seller) Nonce(call int) common.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := new(big.Int).SetString(s.seen[call].Payload.Authorization.Nonce, 10)
	return common.BigToHash(n)
}

// Settle settles a proof by its number.
func (s *Permit2Seller) Settle(ctx context.Context, call int, amount money.USDC) error {
	if s.Batch {
		return s.SettleTogether(ctx, nil, Settlement{Call: call, Amount: amount})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.settlement(call, amount)
	if err != nil {
		return err
	}
	if err := s.Chain.Simulate(ctx, s.facilitator(), c); err != nil {
		return err
	}
	if s.Hides != nil {
		c = evm.Call{To: s.Hides(c), Gas: 400_000}
	}
	got, err := chaintest.Deliver(ctx, s.Chain, s.Key, c)
	if err == nil && !got.OK {
		err = evm.ErrReverted
	}
	return err
}

// Ask answers that the call has a price.
func (s *Permit2Seller) Ask(w http.ResponseWriter, r *http.Request) {
	scheme, extra := "exact", `,"assetTransferMethod":"permit2"`
	if s.UpTo {
		scheme, extra = "upto", fmt.Sprintf(`,"facilitatorAddress":%q`, s.facilitator().Hex())
	}
	n := s.Chain.Network()
	challenge := fmt.Sprintf(`{"x402Version":2,"resource":{"url":"http://%s%s"},"accepts":[{"scheme":%q,"network":%q,"amount":%q,"asset":%q,"payTo":%q,
		"maxTimeoutSeconds":%d,"extra":{"name":"USDC","version":"2"%s}}]}`,
		r.Host, r.URL.Path, scheme, n.CAIP2(), s.Price, n.USDC.Hex(), s.PayTo.Hex(), int(s.Window.Seconds()), extra)
	w.Header().Set("PAYMENT-REQUIRED", base64.StdEncoding.EncodeToString([]byte(challenge)))
	w.WriteHeader(http.StatusPaymentRequired)
}

func (s *Permit2Seller) facilitator() common.Address {
	if s.Batch {
		return s.Chain.Network().Multicall3
	}
	return crypto.PubkeyToAddress(s.Key.PublicKey)
}

// proxies are the calls of the two proxies (x402, contracts/evm).
var proxies = func() abi.ABI {
	const permit = `{"name":"permit","type":"tuple","components":[{"name":"permitted","type":"tuple","components":[{"name":"token","type":"address"},
		{"name":"amount","type":"uint256"}]},{"name":"nonce","type":"uint256"},{"name":"deadline","type":"uint256"}]}`
	const tail = `{"name":"signature","type":"bytes"}]}`
	a, err := abi.JSON(strings.NewReader(`[{"type":"function","name":"exact","inputs":[` + permit + `,{"name":"owner","type":"address"},
		{"name":"witness","type":"tuple","components":[{"name":"to","type":"address"},{"name":"validAfter","type":"uint256"}]},` + tail + `,
		{"type":"function","name":"upto","inputs":[` + permit + `,{"name":"amount","type":"uint256"},{"name":"owner","type":"address"},
		{"name":"witness","type":"tuple","components":[{"name":"to","type":"address"},{"name":"facilitator","type":"address"},{"name":"validAfter","type":"uint256"}]},` + tail + `]`))
	if err != nil {
		panic(err)
	}
	return a
}()

type permitted struct {
	Permitted struct {
		Token  common.Address
		Amount *big.Int
	}
	Nonce, Deadline *big.Int
}

// Settlement is a proof, by its number, and what is taken by it. One that is spoiled is refused.
type Settlement struct {
	Call    int
	Amount  money.USDC
	Spoiled bool
}

// SettleTogether settles proofs in one transaction, whose call data names what shows says besides what is settled. What is
// hidden does not stand there.
func (s *Permit2Seller) SettleTogether(ctx context.Context, shows []int, all ...Settlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	inner := make([]evm.Call, len(all))
	for i, one := range all {
		var err error
		if inner[i], err = s.settlement(one.Call, one.Amount); err != nil {
			return err
		}
		if one.Spoiled {
			inner[i].Data[len(inner[i].Data)-40]++ // of the signature
		}
	}
	c := evm.Call{To: s.Chain.Network().Multicall3, Data: evm.Aggregate3Data(inner), Gas: uint64(len(all)+2) * 300_000}
	if s.Hides != nil {
		c.To, c.Data = s.Hides(c), nil
	}
	for _, call := range shows {
		n, _ := new(big.Int).SetString(s.seen[call].Payload.Authorization.Nonce, 10)
		c.Data = append(c.Data, common.BigToHash(n).Bytes()...)
	}
	got, err := chaintest.Deliver(ctx, s.Chain, s.Key, c)
	if err == nil && !got.OK {
		err = evm.ErrReverted
	}
	return err
}

// settlement is the call that settles a proof for an amount.
func (s *Permit2Seller) settlement(call int, amount money.USDC) (evm.Call, error) {
	p := s.seen[call]
	a := p.Payload.Authorization
	var permit permitted
	var validAfter *big.Int
	permit.Permitted.Token = s.Chain.Network().USDC
	for text, into := range map[string]**big.Int{
		a.Permitted.Amount: &permit.Permitted.Amount, a.Nonce: &permit.Nonce, a.Deadline: &permit.Deadline, a.Witness.ValidAfter: &validAfter,
	} {
		v, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return evm.Call{}, fmt.Errorf("coretest: %q is not a number", text)
		}
		*into = v
	}
	owner, sig := common.HexToAddress(a.From), common.FromHex(p.Payload.Signature)
	var args []byte
	var err error
	name, proxy, signature := "exact", evm.ExactProxy, "settle(((address,uint256),uint256,uint256),address,(address,uint256),bytes)"
	if p.upTo {
		name, proxy, signature = "upto", evm.UptoProxy, "settle(((address,uint256),uint256,uint256),uint256,address,(address,address,uint256),bytes)"
		args, err = proxies.Methods[name].Inputs.Pack(permit, amount.Big(), owner, struct {
			To, Facilitator common.Address
			ValidAfter      *big.Int
		}{s.PayTo, s.facilitator(), validAfter}, sig)
	} else {
		args, err = proxies.Methods[name].Inputs.Pack(permit, owner, struct {
			To         common.Address
			ValidAfter *big.Int
		}{s.PayTo, validAfter}, sig)
	}
	return evm.Call{To: proxy, Data: append(crypto.Keccak256([]byte(signature))[:4], args...), Gas: 300_000}, err
}

// Hidden puts a contract on the chain that makes a call whenever it is called itself, so that who calls it hands in nothing.
func (w *World) Hidden(by *ecdsa.PrivateKey, call evm.Call) common.Address {
	w.T.Helper()
	from := crypto.PubkeyToAddress(by.PublicKey)
	node, err := ethclient.Dial(w.Net.Node.URL())
	w.no(err)
	defer node.Close()
	nonce, err := node.PendingNonceAt(w.Ctx, from)
	w.no(err)
	tx, err := types.SignNewTx(by, types.LatestSignerForChainID(new(big.Int).SetUint64(w.Net.Network().ChainID)), &types.DynamicFeeTx{
		Nonce: nonce, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), Gas: 1_000_000, Data: repeater(call),
	})
	w.no(err)
	w.no(node.SendTransaction(w.Ctx, tx))
	w.Net.Mined(tx.Hash())
	return crypto.CreateAddress(from, nonce)
}

// repeater is the creation code of that contract: it copies the call data from its own end and makes the call.
func repeater(call evm.Call) []byte {
	const head, tail = 44, 12 // lengths of the code before the data, and of the code that returns it all
	size := func(n int) []byte { return []byte{byte(n >> 8), byte(n)} }
	length := size(len(call.Data))
	code := slices.Concat(
		[]byte{0x61}, length, []byte{0x61}, size(head), []byte{0x60, 0, 0x39}, // CODECOPY(0, head, length)
		[]byte{0x60, 0, 0x60, 0, 0x61}, length, []byte{0x60, 0, 0x60, 0, 0x73}, call.To[:], // CALL(gas, to, 0, 0, length, 0, 0)
		[]byte{0x5a, 0xf1, 0x00}, call.Data,
	)
	return slices.Concat([]byte{0x61}, size(len(code)), []byte{0x80, 0x60, tail, 0x60, 0, 0x39, 0x60, 0, 0xf3}, code)
}
