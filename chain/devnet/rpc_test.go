package devnet

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/rpc"

	"bursar/evm"
)

func TestAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	_, err = Start(Config{RPCAddr: addr, Clock: time.Now})
	var inUse *InUseError
	if !errors.As(err, &inUse) || err.Error() != "devnet: "+addr+" is in use" {
		t.Errorf("taken port: %v", err)
	}
	for _, bad := range []string{"0.0.0.0:0", "192.0.2.1:8545", "example.com:8545", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "[::]:0"} {
		if n, err := Start(Config{RPCAddr: bad, Clock: time.Now}); err == nil {
			_ = n.Close()
			t.Errorf("%s was accepted", bad)
		}
	}
	if _, err := Start(Config{ChainID: evm.BaseID, Clock: time.Now}); err == nil {
		t.Error("played Base, whose USDC has another name")
	}
	if n := start(t, Config{}); n.URL() != "" || n.WS() != "" {
		t.Errorf("addresses %q %q without an RPC", n.URL(), n.WS())
	}
}

func TestRPCOffersNoMore(t *testing.T) {
	n := start(t, Config{RPCAddr: ":0"})
	if !strings.HasPrefix(n.URL(), "http://127.0.0.1:") || strings.TrimPrefix(n.WS(), "ws") != strings.TrimPrefix(n.URL(), "http") {
		t.Fatalf("addresses %s and %s", n.URL(), n.WS())
	}
	c, err := rpc.DialContext(t.Context(), n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	modules := map[string]string{}
	if err := c.CallContext(t.Context(), &modules, "rpc_modules"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"eth": "1.0", "net": "1.0", "web3": "1.0", "rpc": "1.0"}
	if a, b := mustJSON(t, modules), mustJSON(t, want); a != b {
		t.Errorf("modules %s, want %s", a, b)
	}
	ws, err := rpc.DialContext(t.Context(), n.WS())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	heads := make(chan map[string]any, 1)
	sub, err := ws.EthSubscribe(t.Context(), heads, "newHeads")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	want1 := n.Commit()
	select {
	case h := <-heads:
		if h["hash"] != want1.Hex() {
			t.Errorf("head %v, want %s", h["hash"], want1)
		}
	case <-time.After(5 * time.Second):
		t.Error("no head by websocket")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
