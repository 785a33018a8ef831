package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"bursar/chain/devnet"
	"bursar/evm"
)

var shell = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadmeCommands pastes what README says into a shell beside a running server: the calls, and an agent of one's own with
// money in its wallet.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	p := start(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands strings.Builder
	for _, m := range shell.FindAllStringSubmatch(string(readme), -1) {
		commands.WriteString(m[1])
	}
	script := strings.NewReplacer("http://127.0.0.1:8080", p.API, "http://127.0.0.1:8402", p.Demo, "data/secrets", p.Data+"/secrets", "go run .", "bursar").
		Replace(commands.String())
	cmd := exec.Command("bash", "-c", "set -eu\nbursar() { "+os.Args[0]+" \"$@\" --dev-rpc="+strings.TrimPrefix(p.RPC, "http://")+"; }\n"+script)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for want, times := range map[string]int{
		`"payment_method":"x402"`: 2, "X-Agnic-Paid: true": 1, `"payment":"onchain"`: 1, `"transaction":{"id"`: 1, "\ntransaction 0x": 1,
	} {
		if got := strings.Count(strings.ReplaceAll(string(out), `": "`, `":"`), want); got != times {
			t.Errorf("%d times %s instead of %d", got, want, times)
		}
	}
	if t.Failed() {
		t.Logf("the commands answered:\n%s", out)
	}
	p.audit()
}

// Money comes by itself into the wallet of an agent, and what is asked wrongly is refused in words.
func TestFund(t *testing.T) {
	t.Parallel()
	p := start(t)
	made := p.must("POST", "/agents", map[string]any{"name": "mine"})
	id, to := text(made, "id"), text(made, "wallet_address")
	if out, err := p.command("fund", to, "5", "--dev-rpc="+strings.TrimPrefix(p.RPC, "http://")); err != nil || !regexp.MustCompile(`transaction 0x[0-9a-f]{64}\n$`).MatchString(out) {
		t.Errorf("%v %q", err, out)
	}
	eventually(t, "the money", func() bool { return text(p.must("GET", "/agents/"+id, nil), "agent", "usdc_balance") == "5000000" })
	p.audit()
	node, err := devnet.Start(devnet.Config{ChainID: evm.BaseSepoliaID, RPCAddr: "127.0.0.1:0", Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	played := strings.TrimPrefix(node.URL(), "http://")
	for args, want := range map[string]string{
		to + " 5 --dev-rpc=" + played:                                 "chain",
		to + " 5 --chain-id=84532 --dev-rpc=" + played:                "only, not on 84532",
		to + " 5 --rpc-url=" + node.URL() + " --chain-id=84532":       "only, not on 84532",
		to + " 5 --rpc-url=http://127.0.0.1:1 --chain-id=8453":        "only, not on 8453",
		to + " 5 --dev-rpc=127.0.0.1:1":                               "does not answer",
		to + " 0 --dev-rpc=" + played:                                 "not a positive amount",
		to + " 1e3 --dev-rpc=" + played:                               "not a positive amount",
		to[2:] + " 5 --dev-rpc=" + played:                             "not an address",
		"0x" + strings.Repeat("0", 40) + " 5 --dev-rpc=" + played:     "not an address",
		to + " --dev-rpc=" + played:                                   "amount",
		to + " " + fmt.Sprint(uint64(1)<<62) + " --dev-rpc=" + played: "not a positive amount",
	} {
		if out, err := p.command(append([]string{"fund"}, strings.Fields(args)...)...); err == nil || !strings.Contains(out, want) || strings.Contains(out, "transaction 0x") {
			t.Errorf("%s: %v %q", args, err, out)
		}
	}
}
