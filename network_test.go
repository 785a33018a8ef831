package main

import (
	"testing"
	"time"

	"bursar/chain"
	"bursar/evm"
)

// An idle development chain goes on making blocks: proofs that nobody uses end by block time, and without one their
// money would stay held.
func TestIdleChainBeats(t *testing.T) {
	t.Parallel()
	p := start(t, "--demo=off")
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{p.RPC}, Network: mustNetwork(t, evm.DevID), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := func() uint64 {
		b, err := c.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return b.Number
	}
	first := head()
	eventually(t, "an empty block", func() bool { return head() > first })
}
