package chain_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
)

// One request goes to a node that has the block, the next to one that has not: no logs may be missing from an answer.
func TestLogsOfSeveralNodesBehindOneURL(t *testing.T) {
	const lag, transfers = 20, 5
	n := chaintest.New(t)
	for range lag {
		n.Node.Commit()
	}
	p := n.Proxy()
	c := watch(t, n, p.URL())
	_, to := newKey(t)
	for range transfers {
		n.Fund(to, money.One)
	}
	now := head(t, n)
	p.Set(chaintest.Sometimes(1, 2, chaintest.Stale(lag)))
	good := 0
	for range 50 {
		got, err := c.Movements(t.Context(), 1, now.Number)
		switch {
		case err == nil && len(got) == transfers:
			good++
		case !errors.Is(err, evm.ErrUnavailable):
			t.Errorf("%d movements, %v", len(got), err)
		}
	}
	if good == 0 || good == 50 {
		t.Errorf("%d of 50 readings were complete", good)
	}

	p.Set(chaintest.Alone())
	for range 2 {
		if got, err := c.Movements(t.Context(), 1, now.Number); err != nil || len(got) != transfers {
			t.Errorf("without batches: %d movements, %v", len(got), err)
		}
		p.Set(func(r chaintest.Request, next func(chaintest.Request) chaintest.Answer) chaintest.Answer {
			if r.Batch {
				t.Error("a batch to a node that refuses them")
			}
			return next(r)
		})
	}
}

func TestNodesMustAgree(t *testing.T) {
	n := chaintest.New(t)
	_, to := newKey(t)
	n.Fund(to, money.One)
	n.Node.Commit()
	now := head(t, n)
	first, second := n.Proxy(), n.Proxy()
	c := watch(t, n, first.URL(), second.URL())
	movements := func() (int, error) {
		got, err := c.Movements(t.Context(), 1, now.Number)
		return len(got), err
	}
	for name, p := range map[string]*chaintest.Proxy{"preferred": first, "second": second} {
		p.Set(chaintest.OtherHash(now.Number))
		if got, err := movements(); !errors.Is(err, evm.ErrUnavailable) || !strings.Contains(err.Error(), "disagree on block") {
			t.Errorf("the %s node lies: %d movements, %v", name, got, err)
		}
		if _, err := c.Recheck(t.Context(), 1, now.Number); !errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("the %s node lies to a second reading: %v", name, err)
		}
		if _, err := c.Agreed(t.Context(), now.Number); !errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("the %s node lies of a block: %v", name, err)
		}
		p.Set()
		if got, err := movements(); err != nil || got != 1 {
			t.Errorf("both are honest: %d movements, %v", got, err)
		}
		if b, err := c.Agreed(t.Context(), now.Number); err != nil || b.Hash != now.Hash {
			t.Errorf("agreed on %+v, %v", b, err)
		}
	}
	for name, rule := range map[string]chaintest.Rule{"lags": chaintest.Frozen(now.Number - 1), "is down": chaintest.LoseRequest()} {
		second.Set(rule)
		if got, err := movements(); err != nil || got != 1 {
			t.Errorf("the second node %s: %d movements, %v", name, got, err)
		}
	}
	if c.logged("alone=true") != 1 {
		t.Error("nobody was told that one node stands alone")
	}
}

func TestRecheckFindsWhatWasLeftOut(t *testing.T) {
	n := chaintest.New(t)
	_, to := newKey(t)
	var hidden common.Hash
	for i := range 3 {
		if hash := n.Fund(to, money.USDC(i+1)); i == 1 {
			hidden = hash
		}
	}
	n.Node.Commit()
	now := head(t, n)
	omit := chaintest.OmitLogs(func(l types.Log) bool { return l.TxHash == hidden })
	first, second := n.Proxy(omit), n.Proxy()
	c, alone := watch(t, n, first.URL(), second.URL()), watch(t, n, first.URL())
	if got, err := c.Movements(t.Context(), 1, now.Number); err != nil || len(got) != 2 {
		t.Fatalf("the first reading: %d movements, %v", len(got), err)
	}
	got, err := c.Recheck(t.Context(), 1, now.Number)
	if err != nil || len(got) != 3 {
		t.Fatalf("the second reading: %d movements, %v", len(got), err)
	}
	for i, m := range got {
		if m.Amount != money.USDC(i+1) {
			t.Errorf("movement %d: %+v", i, m)
		}
	}
	if c.logged("leaves out a log") != 1 {
		t.Error("nobody was told which node left something out")
	}
	first.Set() // its index has caught up
	if got, err := alone.Recheck(t.Context(), 1, now.Number); err != nil || len(got) != 3 {
		t.Errorf("one node read again: %d movements, %v", len(got), err)
	}

	// A log that does not exist is not believed because one node shows it.
	real, err := c.Receipt(t.Context(), hidden)
	if err != nil {
		t.Fatal(err)
	}
	fake := *real.Logs[0]
	fake.Data = common.LeftPadBytes(big.NewInt(9e12).Bytes(), 32)
	second.Set(chaintest.InventLogs(fake))
	if got, err := c.Recheck(t.Context(), 1, now.Number); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("an invented log: %d movements, %v", len(got), err)
	}
}
