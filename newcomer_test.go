package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNewcomer pastes what the program prints into a shell, kills it, and finds everything again.
func TestNewcomer(t *testing.T) {
	p := start(t)
	printed := p.out.String()
	_, commands, found := strings.Cut(printed, "Try it: paste any of these.")
	if !found {
		t.Fatalf("no commands in\n%s", printed)
	}
	commands, _, _ = strings.Cut(commands, "\ntime=")
	script := exec.Command("bash", "-c", "set -eu\n"+commands)
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for want, times := range map[string]int{
		`"payment_method":"x402"`: 1, `"payment_method":"session"`: 1, "HTTP/1.1 200 OK": 2, "X-Agnic-Paid: true": 2, `"status":"closed"`: 1, `"payment":"session"`: 1, `"payment":"onchain"`: 1, `"cost":"$0.0010"`: 1, `"cost":"$0.0100"`: 2,
	} {
		if got := strings.Count(strings.ReplaceAll(string(out), `": "`, `":"`), want); got != times {
			t.Errorf("%d times %s instead of %d", got, want, times)
		}
	}
	if t.Failed() {
		t.Logf("the commands answered:\n%s", out)
	}
	agent, key := p.agentID(), p.Key
	before := text(p.must("GET", "/agents/"+agent+"/transactions", nil), "total")
	p.kill()
	p.start()
	if p.agentID() != agent || p.Key != key {
		t.Error("a restart lost the agent or its key")
	}
	if after := text(p.must("GET", "/agents/"+agent+"/transactions", nil), "total"); after != before {
		t.Errorf("history had %s rows and has %s", before, after)
	}
	p.audit()
	for _, name := range []string{"master-key", "jwt-secret", "platform-key", "relayer-key", "demo.json"} {
		info, err := os.Stat(p.Data + "/secrets/" + name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

// TestBadStart: a wrong setting or a taken port is one clear line.
func TestBadStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct{ args, want string }{
		{"--listen=" + l.Addr().String(), l.Addr().String() + " is in use"},
		{"--dev-rpc=" + l.Addr().String(), l.Addr().String() + " is in use"},
		{"--max-payment=1e3", "--max-payment"},
		{"--chain-id=1", "--chain-id"},
		{"--rpc-url=http://127.0.0.1:1", "--chain-id"},
		{"--rpc-url=http://127.0.0.1:1 --chain-id=8453", "--master-key"},
		{"--database-url=mysql://x", "--database-url"},
		{"--dev-rpc=0.0.0.0:8545", "--dev-rpc"},
		{"--no-such-flag", "--no-such-flag"},
		{"--services=/no/such/file", "--services"},
		{"--services=/dev/null", "--services"},
	} {
		p := newProgram(t, strings.Fields(c.args)...)
		cmd := exec.Command(os.Args[0], p.args...)
		cmd.Env = append(os.Environ(), childVariable+"=1")
		out, err := cmd.CombinedOutput()
		line := strings.TrimSpace(string(out))
		if err == nil || !strings.Contains(line, c.want) || strings.Count(line, "\n") > 0 {
			t.Errorf("%s: %v %q", c.args, err, line)
		}
	}
}
