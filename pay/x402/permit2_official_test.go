package x402_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain/chaintest"
	"bursar/e2e"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

// usedNonce is how the facilitator tells of Permit2's InvalidNonce, which the proxies' ABI does not list.
const usedNonce = "invalid_exact_evm_transaction_failed: The contract function \"settle\" reverted with the following signature:\n0x756688fe"

// permit2Case is an offer of 10000 and how it is settled. A proof that is not settled says why.
type permit2Case struct {
	scheme  string
	allowed bool   // Permit2 has the allowance
	take    string // of a maximum; "" is all of it
	spoil   func(*pay.Proof)
	refused string // what the facilitator's reason begins with
	moved   money.USDC
}

// TestPermit2Official gives our proofs to the official facilitators of both schemes, which settle them on the chain by the
// proxies of x402.
func TestPermit2Official(t *testing.T) {
	net := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID), chaintest.WithHeartbeat())
	settler, err := crypto.GenerateKey()
	must(t, err)
	net.Ether(crypto.PubkeyToAddress(settler.PublicKey), oneEther)
	otherNonce := func(p *pay.Proof) { p.Permit2.Nonce[31]++ }
	notYet := func(p *pay.Proof) { p.Permit2.ValidAfter++ }
	cases := []permit2Case{
		{scheme: "exact", allowed: true, moved: 10_000},
		{scheme: "exact", allowed: true, spoil: otherNonce, refused: "invalid_permit2_signature"},
		{scheme: "exact", refused: "invalid_exact_evm_transaction_failed: The contract function \"settle\" reverted with the following reason:\nTRANSFER_FROM_FAILED"},
		{scheme: "upto", allowed: true, moved: 10_000},
		{scheme: "upto", allowed: true, take: "4000", moved: 4000},
		{scheme: "upto", allowed: true, take: "1", moved: 1},
		{scheme: "upto", allowed: true, take: "0"},
		{scheme: "upto", allowed: true, take: "10001", refused: "invalid_upto_evm_payload_settlement_exceeds_amount"},
		{scheme: "upto", allowed: true, spoil: notYet, refused: "invalid_permit2_signature"},
		{scheme: "upto", refused: "permit2_allowance_required"},
	}
	var input bytes.Buffer
	var proofs []pay.Proof
	for i, c := range cases {
		proof, line := permit2Proof(t, net, settler, c, byte(i))
		proofs = append(proofs, proof)
		input.WriteString(line)
	}
	input.WriteString(strings.SplitAfter(input.String(), "\n")[0]) // the first case again, which is used by then
	cases, proofs = append(cases, permit2Case{scheme: "exact", allowed: true, refused: usedNonce, moved: 10_000}), append(proofs, proofs[0])

	cmd := e2e.Node(t, "permit2.mjs", "RPC_URL="+net.Node.URL(), fmt.Sprint("CHAIN_ID=", evm.BaseSepoliaID), "FACILITATOR_KEY="+hexutil.Encode(crypto.FromECDSA(settler)))
	cmd.Stdin = &input
	out, err := cmd.Output()
	must(t, err)
	lines := bufio.NewScanner(bytes.NewReader(out))
	for i, c := range cases {
		lines.Scan()
		settled(t, net, c, proofs[i], lines.Bytes())
	}
	var sum money.USDC
	for _, c := range cases[:len(cases)-1] {
		sum += c.moved
	}
	if got := net.Balance(proofs[0].Permit2.To); got != sum {
		t.Errorf("the seller has %s, want %s", got, sum)
	}
}

// permit2Proof is a proof from a new wallet of one USDC, and the facilitator's line for it.
func permit2Proof(t *testing.T, net *chaintest.Net, settler *ecdsa.PrivateKey, c permit2Case, nonce byte) (pay.Proof, string) {
	t.Helper()
	key, err := crypto.GenerateKey()
	must(t, err)
	w := pay.Wallet{Network: net.Network(), Address: crypto.PubkeyToAddress(key.PublicKey), Also: permit2Wallet.Also}
	net.Fund(w.Address, money.One)
	if c.allowed {
		allow(t, net, settler, key, 10_000)
	}
	extra := exactExtra
	if c.scheme == "upto" {
		extra = `,"facilitatorAddress":"` + crypto.PubkeyToAddress(settler.PublicKey).Hex() + `"`
	}
	q, err := pay.Offers(both, w, request(), inHeader(permit2Challenge(c.scheme, extra, sponsored)))
	must(t, err)
	in, err := q.Protocol.Instruct(q.Offers[0], w.Address, time.Now(), crypto.Keccak256Hash([]byte{nonce}))
	must(t, err)
	proof, err := paytest.Sign(key, in)
	must(t, err)
	if c.spoil != nil {
		c.spoil(&proof)
	}
	req := request()
	must(t, q.Protocol.Attach(req, q.Offers[0], proof))
	payload := oneLine(t, decodeHeader(t, req.Header.Get("PAYMENT-SIGNATURE")))
	return proof, fmt.Sprintf("{\"payload\":%s,\"requirements\":%s,\"amount\":%q}\n", payload, oneLine(t, q.Offers[0].Raw), c.take)
}

// allow lets Permit2 take an amount of a wallet's USDC, by a permit that the relayer hands in.
func allow(t *testing.T, net *chaintest.Net, relayer, key *ecdsa.PrivateKey, amount money.USDC) {
	t.Helper()
	owner, deadline := crypto.PubkeyToAddress(key.PublicKey), time.Now().Add(2*chaintest.MaxAhead).Unix()
	nonce, err := net.PermitNonce(t.Context(), owner)
	must(t, err)
	p := evm.Permit{Owner: owner, Spender: evm.Permit2, Value: amount, Nonce: nonce, Deadline: deadline}
	sig, err := evm.Sign(key, p.Digest(net.Network().Domain()))
	must(t, err)
	receipt, err := chaintest.Deliver(t.Context(), net.Client, relayer, evm.Call{To: net.Network().USDC, Data: evm.PermitData(owner, evm.Permit2, amount, deadline, sig), Gas: 100_000})
	must(t, err)
	if !receipt.OK {
		t.Fatal("the permit was refused")
	}
}

// settled holds the facilitator's answer and the chain to what a case expects.
func settled(t *testing.T, net *chaintest.Net, c permit2Case, p pay.Proof, line []byte) {
	t.Helper()
	var got struct {
		Success     bool
		ErrorReason string
		Transaction string
		Amount      string
	}
	must(t, json.Unmarshal(line, &got))
	if got.Success != (c.refused == "") || !strings.HasPrefix(got.ErrorReason, c.refused) || (c.take != "" && got.Success && got.Amount != c.take) {
		t.Errorf("%+v: %s", c, line)
	}
	if got.Success && c.moved > 0 && !net.Mined(common.HexToHash(got.Transaction)).OK {
		t.Errorf("%+v: %s failed", c, got.Transaction)
	}
	head, err := net.Head(t.Context())
	must(t, err)
	if used, err := net.Permit2Used(t.Context(), p.Permit2.Owner, p.Permit2.Nonce, head.Number); err != nil || used != (c.moved > 0) {
		t.Errorf("%+v: nonce used: %t, %v", c, used, err)
	}
	if left := net.Balance(p.Permit2.Owner); left != money.One-c.moved {
		t.Errorf("%+v: the wallet has %s", c, left)
	}
	want := money.USDC(0) // what a maximum leaves over stays with Permit2, of no use without another signature
	if c.allowed {
		want = 10_000 - c.moved
	}
	if may, err := net.Allowance(t.Context(), p.Permit2.Owner, evm.Permit2); err != nil || may != want {
		t.Errorf("%+v: Permit2 may take %s, want %s", c, may, want)
	}
}

func oneLine(t *testing.T, b []byte) []byte {
	t.Helper()
	var line bytes.Buffer
	must(t, json.Compact(&line, b))
	return line.Bytes()
}
