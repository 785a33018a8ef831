package chain_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
)

// Twenty authorizations in one transaction, one with a signature of somebody else: the others settle, and the
// receipt's logs tell which.
func TestBatchSettlesAllButTheBadOne(t *testing.T) {
	const size, bad = 20, 7
	n := chaintest.New(t)
	relayer, relayerAddress := newKey(t)
	stranger, strangerAddress := newKey(t)
	_, seller := newKey(t)
	n.Ether(relayerAddress, ether)
	var calls []evm.Call
	nonces := map[common.Hash]common.Address{}
	for i := range size {
		payer, address := newKey(t)
		n.Fund(address, money.One)
		nonce := common.BigToHash(big.NewInt(int64(1000 + i)))
		if i == bad {
			call := authorize(t, n, stranger, seller, money.USDC(i+1), nonce)
			copy(call.Data[4+12:], address[:]) // says the payer, whom the stranger has not asked
			calls = append(calls, call)
			continue
		}
		calls = append(calls, authorize(t, n, payer, seller, money.USDC(i+1), nonce))
		nonces[nonce] = address
	}
	before, err := n.EtherOf(t.Context(), relayerAddress)
	if err != nil {
		t.Fatal(err)
	}
	batch := evm.Call{To: n.Network().Multicall3, Data: evm.Aggregate3Data(calls), Gas: size * 150_000}
	if err := n.Simulate(t.Context(), relayerAddress, batch); err != nil {
		t.Fatal(err)
	}
	r := relay(t, n, relayer, batch)
	if !r.OK {
		t.Fatalf("receipt %+v", r)
	}
	t.Logf("%d gas for each of %d", r.GasUsed/size, size)
	moved := evm.MovementsOf(n.Network().USDC, r.Logs)
	if len(moved) != size-1 {
		t.Fatalf("%d movements", len(moved))
	}
	for _, m := range moved {
		if m.AuthNonce == nil || nonces[*m.AuthNonce] != m.From || m.To != seller || m.Amount != money.USDC(m.AuthNonce.Big().Int64()-999) {
			t.Errorf("%+v", m)
			continue
		}
		delete(nonces, *m.AuthNonce)
	}
	if len(nonces) != 0 {
		t.Errorf("%d authorizations without a movement", len(nonces))
	}
	if got, want := n.Balance(seller), money.USDC(size*(size+1)/2-bad-1); got != want {
		t.Errorf("the seller has %s, want %s", got, want)
	}
	if got := n.Balance(strangerAddress); got != 0 {
		t.Errorf("the stranger has %s", got)
	}
	after, err := n.EtherOf(t.Context(), relayerAddress)
	if err != nil {
		t.Fatal(err)
	}
	if paid := new(big.Int).Sub(before, after); paid.Cmp(r.Fee()) != 0 || paid.Sign() == 0 || r.L1FeeWei != nil {
		t.Errorf("paid %s wei, the receipt says %s", paid, r.Fee())
	}
}

func TestBlocksNameTheirParents(t *testing.T) {
	n := chaintest.New(t)
	n.Node.Commit()
	head, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parent, err := n.BlockByNumber(t.Context(), head.Number-1)
	if err != nil || head.Parent != parent.Hash {
		t.Errorf("parent %s, want %s, %v", head.Parent, parent.Hash, err)
	}
}
