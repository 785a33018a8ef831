// Package e2e runs the official counterparts from npm for tests: real sellers, real facilitators, a real buyer.
// Their versions are in package.json; nothing of the program imports this package.
package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Sellers are the base URLs of the official sellers. Both sell GET /weather at 0.01, POST /echo at 0.02, GET /cheap
// at 0.0001 and GET /free. V2 sells by Permit2 besides: GET /permit2 and GET /permit2-bare at 0.01, the first with a permit
// handed in, and GET /upto, which takes 0.02 of at most 0.05 and hands in a permit too; and GET /member at 0.01, for which
// who has paid it signs in from then on (sign-in-with-x).
type Sellers struct {
	V1 string `json:"v1"` // x402-express 1.2.0
	V2 string `json:"v2"` // @x402/express 2.27.0
}

// startPatience is how long node may take to load the packages on a busy machine.
const startPatience = 60 * time.Second

// StartSellers starts both sellers with their facilitators, which settle on rpcURL by the key's account: it needs
// ether there. The chain id must be 84532, because the v1 packages know public networks only. The sellers end with
// the test. FacilitatorKeyHex may have its 0x or not.
func StartSellers(t testing.TB, rpcURL string, chainID uint64, facilitatorKeyHex string, payTo common.Address) Sellers {
	t.Helper()
	var s Sellers
	start(t, &s, "sellers.mjs",
		"RPC_URL="+rpcURL, "CHAIN_ID="+strconv.FormatUint(chainID, 10), "PAY_TO="+payTo.Hex(),
		"FACILITATOR_KEY=0x"+common.Bytes2Hex(common.FromHex(facilitatorKeyHex)), "V1_PORT=0", "V2_PORT=0")
	if s.V1 == "" || s.V2 == "" {
		t.Fatalf("e2e: sellers.mjs gave no URLs: %+v", s)
	}
	return s
}

// StartMPP starts mppx 0.11.0, which settles on rpcURL by the key's account, and returns its base URL. It sells GET
// /weather at 0.01, POST /echo at 0.02 and GET /cheap at 0.0001, and asks by MPP and by x402 v2 at once.
func StartMPP(t testing.TB, rpcURL string, chainID uint64, keyHex string, payTo common.Address) string {
	t.Helper()
	var s struct{ URL string }
	start(t, &s, "mppseller.mjs", "RPC_URL="+rpcURL, "CHAIN_ID="+strconv.FormatUint(chainID, 10), "PAY_TO="+payTo.Hex(),
		"SELLER_KEY=0x"+common.Bytes2Hex(common.FromHex(keyHex)))
	if s.URL == "" {
		t.Fatal("e2e: mppseller.mjs gave no URL")
	}
	return s.URL
}

// start runs a script until the test ends and reads its first line, which is JSON, into ready.
func start(t testing.TB, ready any, script string, env ...string) {
	t.Helper()
	cmd := Node(t, script, env...)
	stdin, err := cmd.StdinPipe() // open as long as the test runs: the script ends with it
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		stop := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		_ = cmd.Wait()
	})
	line := make(chan string, 1)
	go func() {
		defer close(line)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			select {
			case line <- lines.Text():
			default: // only the first line is for us; read on, so that node never blocks
			}
		}
	}()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case text := <-line:
		if err := json.Unmarshal([]byte(text), ready); err != nil {
			t.Fatalf("e2e: %s did not start (its errors are above); it said %q", script, text)
		}
	case <-patience.C:
		t.Fatalf("e2e: %s is not ready after %s", script, startPatience)
	}
}

// Node is a command that runs a script of this folder with node and the given environment. It stops the test with
// a hint when the packages are not installed.
func Node(t testing.TB, script string, env ...string) *exec.Cmd {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("e2e: cannot find its own folder")
	}
	dir := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal("e2e: e2e/node_modules is missing: run ./test, or npm ci in e2e")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("e2e: node 20 or newer is needed: ", err)
	}
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(dir, script))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = logWriter{t}
	return cmd
}

// logWriter shows a script's errors with the test that started it.
type logWriter struct{ t testing.TB }

// Write logs one piece of output.
func (w logWriter) Write(b []byte) (int, error) {
	w.t.Logf("node: %s", b)
	return len(b), nil
}
