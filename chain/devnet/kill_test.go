package devnet

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/money"
)

const killDirVariable = "DEVNET_KILL_DIR"

// TestMintForever is the process that TestSurvivesKill starts and kills; by itself it does nothing.
func TestMintForever(t *testing.T) {
	dir := os.Getenv(killDirVariable)
	if dir == "" {
		return
	}
	n := start(t, Config{DataDir: dir})
	for {
		hash, err := n.Mint(t.Context(), common.Address{8}, 1)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("mined", hash.Hex()) // straight to the pipe: said is seen
	}
}

func TestSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	const rounds, perRound = 3, 15
	var seen []common.Hash
	for round := range rounds {
		seen = append(seen, mintAndKill(t, dir, perRound)...)
		n := start(t, Config{DataDir: dir})
		for i, hash := range seen {
			var receipt *types.Receipt
			if err := n.rpc.CallContext(t.Context(), &receipt, "eth_getTransactionReceipt", hash); err != nil {
				t.Fatal(err)
			}
			if receipt == nil {
				t.Fatalf("round %d: transaction %d of %d, whose receipt was seen, is gone", round, i, len(seen))
			}
		}
		if got := n.balance(t, common.Address{8}); got < money.USDC(len(seen)) {
			t.Fatalf("round %d: balance %s after %d mints", round, got, len(seen))
		}
		if _, err := n.Mint(t.Context(), common.Address{8}, 1); err != nil {
			t.Fatalf("round %d: faucet after reopening: %v", round, err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// mintAndKill runs the other process until it has seen so many receipts, kills it at once and returns all it saw.
func mintAndKill(t *testing.T, dir string, enough int) []common.Hash {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMintForever$", "-test.timeout=60s")
	child.Env = append(os.Environ(), killDirVariable+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(50*time.Second, func() { _ = child.Process.Kill() })
	defer late.Stop()
	var seen []common.Hash
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var hash string
		if _, err := fmt.Sscanf(lines.Text(), "mined %s", &hash); err != nil {
			t.Log(lines.Text())
			continue
		}
		if seen = append(seen, common.HexToHash(hash)); len(seen) == enough {
			_ = child.Process.Kill() // SIGKILL; what it said before is still in the pipe
		}
	}
	_ = child.Wait() // "signal: killed"
	if len(seen) < enough {
		t.Fatalf("the other process saw %d receipts only", len(seen))
	}
	return seen
}
