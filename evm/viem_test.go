package evm_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
)

// random makes inputs; its seed is fixed, so that a failure comes back.
type random struct{ *rand.Rand }

func (r random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.UintN(256))
	}
	return b
}

func (r random) address() common.Address { return common.BytesToAddress(r.bytes(20)) }

// amount is of any length, with the ends of the range among them.
func (r random) amount() money.USDC {
	return []money.USDC{0, 1, money.Max, money.USDC(r.Int64N(int64(money.Max))), money.USDC(r.Int64N(1_000_000))}[r.IntN(5)]
}

func (r random) seconds() int64 { return r.Int64() >> r.IntN(63) }

func (r random) domain() evm.Domain {
	if r.IntN(2) == 0 {
		return evm.Networks()[r.IntN(len(evm.Networks()))].Domain()
	}
	return evm.Domain{Name: r.text(), Version: r.text(), ChainID: new(big.Int).SetUint64(uint64(r.Uint32())), Token: r.address()}
}

func (r random) text() string {
	letters := []rune("USD Coin2é\"\\😀€\n")
	b := make([]rune, r.IntN(20))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// one makes an input of the kind and our own hash of it.
func (r random) one(kind string) (map[string]any, common.Hash) {
	d := r.domain()
	domain := map[string]any{"name": d.Name, "version": d.Version, "chainId": d.ChainID.Uint64(), "verifyingContract": d.Token}
	in := map[string]any{"kind": kind, "chainId": d.ChainID.Uint64(), "domain": domain}
	text := func(v any) string { return fmt.Sprint(v) }
	switch kind {
	case "authorization":
		a := evm.Authorization{From: r.address(), To: r.address(), Value: r.amount(), ValidAfter: r.seconds(), ValidBefore: r.seconds(), Nonce: common.Hash(r.bytes(32))}
		in["message"] = map[string]any{"from": a.From, "to": a.To, "value": a.Value.String(), "validAfter": text(a.ValidAfter), "validBefore": text(a.ValidBefore), "nonce": a.Nonce}
		return in, a.Digest(d)
	case "permit":
		p := evm.Permit{Owner: r.address(), Spender: r.address(), Value: r.amount(), Nonce: r.Uint64(), Deadline: r.seconds()}
		in["message"] = map[string]any{"owner": p.Owner, "spender": p.Spender, "value": p.Value.String(), "nonce": text(p.Nonce), "deadline": text(p.Deadline)}
		return in, p.Digest(d)
	case "exact", "upto":
		p := evm.Permit2Transfer{Owner: r.address(), Token: r.address(), To: r.address(), Amount: r.amount(), Nonce: common.Hash(r.bytes(32)), ValidAfter: r.seconds(), Deadline: r.seconds()}
		witness := map[string]any{"to": p.To, "validAfter": text(p.ValidAfter)}
		if kind == "upto" {
			p.Facilitator = r.address()
			witness["facilitator"] = p.Facilitator
		}
		in["message"] = map[string]any{
			"permitted": map[string]any{"token": p.Token, "amount": p.Amount.String()},
			"nonce":     p.Nonce.Big().String(), "deadline": text(p.Deadline), "witness": witness,
		}
		return in, p.Digest(d.ChainID.Uint64())
	}
	message := r.text()
	in["message"] = message
	return in, evm.PersonalDigest(message)
}

// TestViem holds that our hash of everything a wallet signs is viem's, for random inputs.
func TestViem(t *testing.T) {
	const each = 200
	r := random{rand.New(rand.NewPCG(1, 2))}
	kinds := []string{"authorization", "permit", "exact", "upto", "text"}
	var input bytes.Buffer
	encoder := json.NewEncoder(&input)
	var want []common.Hash
	for i := range each * len(kinds) {
		in, hash := r.one(kinds[i%len(kinds)])
		if err := encoder.Encode(in); err != nil {
			t.Fatal(err)
		}
		want = append(want, hash)
	}
	lines := strings.Split(input.String(), "\n")
	cmd := e2e.Node(t, "hashes.mjs")
	cmd.Stdin = &input
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := bufio.NewScanner(bytes.NewReader(out))
	for i, w := range want {
		if !got.Scan() {
			t.Fatalf("%d hashes, want %d", i, len(want))
		}
		if got.Text() != w.Hex() {
			t.Fatalf("hash %s, viem says %s, of %s", w, got.Text(), lines[i])
		}
	}
}
