package main

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"bursar/money"
)

// TestOfficialPermit2: the official seller asks for Permit2, for a price and for at most one. The wallet and the session are
// paid from as by any other way, and what is charged is what the seller settles.
func TestOfficialPermit2(t *testing.T) {
	o := startOfficial(t)
	agent := o.agentID()
	wallet := common.HexToAddress(text(o.must("GET", "/agents/"+agent, nil), "agent", "wallet_address"))
	had := o.balance(wallet)
	session := text(o.must("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 5.00}), "session", "id")
	var paid money.USDC
	for _, c := range []struct {
		path  string
		price money.USDC
	}{{"/permit2", money.One / 100}, {"/permit2-bare", money.One / 100}, {"/upto", money.One / 50}} {
		for _, with := range [][]string{{"X-Agent-Wallet", agent}, {"X-Agent-Wallet", agent, "X-Session-Id", session}} {
			out := o.must("POST", "/external/fetch", map[string]any{"url": o.V2 + c.path}, with...)
			if text(out, "status") != "200" {
				t.Fatalf("%s: %v", c.path, out)
			}
			paid += c.price
			if got := o.balance(o.payTo); got != paid {
				t.Errorf("%s: the seller has %s, want %s", c.path, got, paid)
			}
		}
	}
	closed := o.must("POST", "/sessions/"+session+"/close", nil)
	if text(closed, "session", "status") != "closed" || text(closed, "session", "refunded") != (5*money.One-paid/2).String() {
		t.Errorf("closed: %v", closed)
	}
	eventually(t, "every balance agrees", func() bool {
		return o.balance(wallet) == had-paid && text(o.must("GET", "/agents/"+agent, nil), "agent", "usdc_balance") == (had-paid).String()
	})
	o.audit()
}
