package x402_test

import (
	"bufio"
	"bytes"
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

// TestPermit2Official gives our proofs to the official facilitators of both schemes, which check every field and the
// signature. The token of the test chain takes the permits for real; Permit2 itself is not there.
func TestPermit2Official(t *testing.T) {
	net := chaintest.New(t, chaintest.WithChainID(evm.BaseSepoliaID), chaintest.WithHeartbeat())
	settler, err := crypto.GenerateKey()
	must(t, err)
	net.Ether(crypto.PubkeyToAddress(settler.PublicKey), oneEther)
	settles := `,"facilitatorAddress":"` + crypto.PubkeyToAddress(settler.PublicKey).Hex() + `"`

	cases := []struct {
		scheme, extra string
		sponsored     bool
		spoil         func(*pay.Proof)
		refused       string
	}{
		{"exact", exactExtra, true, nil, ""},
		{"exact", exactExtra, false, nil, ""},
		{"upto", settles, true, nil, ""},
		{"upto", settles, false, nil, ""},
		{"exact", exactExtra, false, func(p *pay.Proof) { p.Permit2.Nonce[31]++ }, "invalid_permit2_signature"},
		{"upto", settles, false, func(p *pay.Proof) { p.Permit2.ValidAfter++ }, "invalid_permit2_signature"},
	}
	var input bytes.Buffer
	var owners []common.Address
	for i, c := range cases {
		key, err := crypto.GenerateKey()
		must(t, err)
		w := pay.Wallet{Network: net.Network(), Address: crypto.PubkeyToAddress(key.PublicKey), Also: permit2Wallet.Also}
		owners = append(owners, w.Address)
		net.Fund(w.Address, money.One)
		q, err := pay.Offers(both, w, request(), inHeader(permit2Challenge(c.scheme, c.extra, sponsored)))
		must(t, err)
		in, err := q.Protocol.Instruct(q.Offers[0], w.Address, time.Now(), crypto.Keccak256Hash([]byte{byte(i)}))
		must(t, err)
		allowance := money.One
		if c.sponsored {
			allowance, err = net.Allowance(t.Context(), w.Address, in.Needs.Allowance)
			must(t, err)
		}
		in, err = in.Complete(allowance, 0)
		must(t, err)
		proof, err := paytest.Sign(key, in)
		must(t, err)
		if c.spoil != nil {
			c.spoil(&proof)
		}
		req := request()
		must(t, q.Protocol.Attach(req, q.Offers[0], proof))
		fmt.Fprintf(&input, "{\"payload\":%s,\"requirements\":%s}\n", oneLine(t, decodeHeader(t, req.Header.Get("PAYMENT-SIGNATURE"))), oneLine(t, q.Offers[0].Raw))
	}

	cmd := e2e.Node(t, "permit2.mjs", "RPC_URL="+net.Node.URL(), fmt.Sprint("CHAIN_ID=", evm.BaseSepoliaID), "FACILITATOR_KEY="+hexutil.Encode(crypto.FromECDSA(settler)))
	cmd.Stdin = &input
	out, err := cmd.Output()
	must(t, err)
	lines := bufio.NewScanner(bytes.NewReader(out))
	for i, c := range cases {
		lines.Scan()
		var got struct {
			Success     bool
			ErrorReason string
			Call        struct{ Proxy, Function string }
		}
		must(t, json.Unmarshal(lines.Bytes(), &got))
		if got.Success != (c.refused == "") || got.ErrorReason != c.refused {
			t.Errorf("%+v: %s", c, lines.Text())
			continue
		}
		if got.Success && (got.Call.Function == "settleWithPermit") != c.sponsored {
			t.Errorf("%+v: %s", c, lines.Text())
		}
		if got.Success && !strings.EqualFold(got.Call.Proxy, map[string]string{"exact": evm.ExactProxy.Hex(), "upto": evm.UptoProxy.Hex()}[c.scheme]) {
			t.Errorf("%+v: proxy %s", c, got.Call.Proxy)
		}
		may, err := net.Allowance(t.Context(), owners[i], evm.Permit2)
		if want := map[bool]money.USDC{true: 10_000}[c.sponsored]; err != nil || may != want {
			t.Errorf("%+v: Permit2 may take %s, want %s", c, may, want)
		}
	}
}

func oneLine(t *testing.T, b []byte) []byte {
	t.Helper()
	var line bytes.Buffer
	must(t, json.Compact(&line, b))
	return line.Bytes()
}
