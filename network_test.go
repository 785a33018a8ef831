package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bursar/chain"
	"bursar/chain/devnet"
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

// Over a chain of its own, with every secret given, nothing but the database needs the data folder, and makes it.
func TestDataFolderIsMade(t *testing.T) {
	t.Parallel()
	node, err := devnet.Start(devnet.Config{ChainID: evm.BaseSepoliaID, RPCAddr: "127.0.0.1:0", Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	start(t, append(secrets(), "--rpc-url="+node.URL(), fmt.Sprint("--chain-id=", evm.BaseSepoliaID))...)
}

// A database whose development chain is gone does not start: it would show figures of a chain that is no more, and wait
// for it for ever.
func TestChainIsGone(t *testing.T) {
	t.Parallel()
	p := start(t, "--demo=off")
	p.kill()
	if err := os.RemoveAll(filepath.Join(p.Data, "chain")); err != nil {
		t.Fatal(err)
	}
	p.launch()
	if p.listening() || !strings.Contains(p.out.String(), "the database does not go with the development chain in the data folder") {
		t.Errorf("it said:\n%s", p.out)
	}
}
