package chain_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/evm"
)

// A nonce of Permit2 is used from the block on in which it was, for its owner alone, whatever its place in the bitmap. That
// a settlement uses it is shown with the official facilitators (pay/x402).
func TestPermit2Used(t *testing.T) {
	n := chaintest.New(t)
	key, owner := newKey(t)
	_, other := newKey(t)
	n.Ether(owner, ether)
	nonces := []common.Hash{{}, {31: 255}, {30: 1, 31: 2}, common.HexToHash("0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff07")}
	for i, nonce := range nonces {
		before := head(t, n)
		// invalidateUnorderedNonces(word, mask)
		word := common.BytesToHash(nonce[:31])
		var mask common.Hash
		mask[31-nonce[31]/8] = 1 << (nonce[31] % 8)
		data := append(crypto.Keccak256([]byte("invalidateUnorderedNonces(uint256,uint256)"))[:4], word[:]...)
		r := relay(t, n, key, evm.Call{To: evm.Permit2, Data: append(data, mask[:]...), Gas: 100_000})
		if !r.OK {
			t.Fatalf("receipt %+v", r)
		}
		for j, each := range nonces {
			if used, err := n.Permit2Used(t.Context(), owner, each, r.Block); err != nil || used != (j <= i) {
				t.Errorf("after %s: %s used %t, %v", nonce, each, used, err)
			}
		}
		if used, err := n.Permit2UsedOf(t.Context(), owner, nonces, r.Block); err != nil || !slices.Equal(used, []bool{true, i > 0, i > 1, i > 2}) {
			t.Errorf("after %s: %t, %v", nonce, used, err)
		}
		if used, err := n.Permit2Used(t.Context(), owner, nonce, before.Number); err != nil || used {
			t.Errorf("%s was used before: %t, %v", nonce, used, err)
		}
		if used, err := n.Permit2Used(t.Context(), other, nonce, r.Block); err != nil || used {
			t.Errorf("%s of another owner: %t, %v", nonce, used, err)
		}
		if _, err := n.Permit2Used(t.Context(), owner, nonce, r.Block+10); !errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("at a block to come: %v", err)
		}
	}
}

// Nobody who does not know may say "unused": no chain without Permit2, and no node that is behind.
func TestPermit2UsedUnknown(t *testing.T) {
	n := chaintest.New(t)
	bare := n.Proxy(func(r chaintest.Request, next func(chaintest.Request) chaintest.Answer) chaintest.Answer {
		if r.Method == "eth_call" && strings.Contains(strings.ToLower(string(r.Params[0])), strings.ToLower(evm.Permit2.Hex()[2:])) {
			return chaintest.Answer{Result: json.RawMessage(`"0x"`)} // what there is to say where there is no contract
		}
		return next(r)
	})
	for range 3 {
		n.Node.Commit()
	}
	now := head(t, n)
	for name, proxy := range map[string]*chaintest.Proxy{"without Permit2": bare, "behind": n.Proxy(chaintest.Stale(2))} {
		c, err := chain.Open(t.Context(), chain.Config{URLs: []string{proxy.URL()}, Network: n.Network(), Clock: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if used, err := c.Permit2Used(t.Context(), common.Address{1}, common.Hash{2}, now.Number); !errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("%s: %t, %v", name, used, err)
		}
		if used, err := c.Permit2UsedOf(t.Context(), common.Address{1}, []common.Hash{{2}, {3}}, now.Number); !errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("%s: together: %t, %v", name, used, err)
		}
	}
}
