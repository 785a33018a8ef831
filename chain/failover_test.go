package chain_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
)

func open(t *testing.T, n *chaintest.Net, urls ...string) *chain.Client {
	t.Helper()
	c, err := chain.Open(t.Context(), chain.Config{URLs: urls, Network: n.Network(), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestLogRangeIsHalved(t *testing.T) {
	n := chaintest.New(t)
	_, to := newKey(t)
	for range 6 {
		n.Fund(to, 7)
	}
	var asked, small atomic.Int32
	url := n.Proxy(chaintest.On(func(r chaintest.Request, next func(chaintest.Request) chaintest.Answer) chaintest.Answer {
		asked.Add(1)
		var q struct{ FromBlock, ToBlock hexutil.Uint64 }
		if err := json.Unmarshal(r.Params[0], &q); err != nil {
			t.Error(err)
		}
		if q.ToBlock-q.FromBlock > 1 {
			return chaintest.Answer{Error: &chaintest.Refusal{Code: -32005, Message: "query returned more than 10000 results"}}
		}
		small.Add(1)
		return next(r)
	}, "eth_getLogs")).URL()
	head, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, n, url)
	got, err := c.Movements(t.Context(), 0, head.Number)
	if err != nil || len(got) != 6 {
		t.Fatalf("%d movements, %v", len(got), err)
	}
	if small.Load() == asked.Load() {
		t.Fatal("nothing was halved")
	}
	for i, m := range got {
		if m.Amount != 7 || m.To != to || i > 0 && m.Block <= got[i-1].Block {
			t.Fatalf("movement %d: %+v", i, m)
		}
	}
	refused := asked.Load() - small.Load()
	if got, err := c.Movements(t.Context(), 0, head.Number); err != nil || len(got) != 6 {
		t.Fatalf("%d movements, %v", len(got), err)
	}
	if again := asked.Load() - small.Load() - refused; again > 1 {
		t.Errorf("%d ranges were refused before it was known what the node takes, and %d after", refused, again)
	}
}

func TestReadsFailOver(t *testing.T) {
	n := chaintest.New(t)
	p := n.Proxy()
	url := p.URL()
	_, to := newKey(t)
	hash := n.Fund(to, money.One)
	alone, both := open(t, n, url), open(t, n, url, n.Node.URL())
	for m, rule := range map[string]chaintest.Rule{
		"busy": chaintest.Status(http.StatusTooManyRequests), "broken": chaintest.Status(http.StatusInternalServerError),
		"indexing": chaintest.Refuse(-32000, "transaction indexing is in progress"), "cut": chaintest.LoseRequest(), "silent": chaintest.LoseAnswer(),
	} {
		p.Set(rule)
		if _, err := alone.Receipt(t.Context(), hash); !errors.Is(err, evm.ErrUnavailable) || errors.Is(err, evm.ErrNotFound) {
			t.Errorf("%s alone: %v", m, err)
		}
		if r, err := both.Receipt(t.Context(), hash); err != nil || !r.OK {
			t.Errorf("%s with another: %+v, %v", m, r, err)
		}
	}
	p.Set()
	before := p.Asked("")
	if _, err := both.Head(t.Context()); err != nil || p.Asked("") != before {
		t.Errorf("a node that failed just now was asked first, %v", err)
	}
	head, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Set(chaintest.On(chaintest.Null(), "eth_getBlockByNumber"))
	alone, both = open(t, n, url), open(t, n, url, n.Node.URL()) // nobody rests
	if got, err := alone.Movements(t.Context(), head.Number, head.Number); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("a node without the block gave %d movements, %v", len(got), err)
	}
	if got, err := both.Movements(t.Context(), head.Number, head.Number); err != nil || len(got) != 1 {
		t.Errorf("%d movements with another node, %v", len(got), err)
	}
}

func TestSendGoesToAll(t *testing.T) {
	n := chaintest.New(t)
	key, address := newKey(t)
	n.Ether(address, ether)
	p := n.Proxy(chaintest.On(chaintest.LoseRequest(), "eth_sendRawTransaction"))
	cut := p.URL()
	call := evm.Call{To: common.Address{7}, Gas: 21_000, ValueWei: big.NewInt(1)}
	raw, hash := sign(t, n, key, 0, call)
	if err := open(t, n, cut).Send(t.Context(), raw); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("no answer: %v", err)
	}
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{cut, "http://127.0.0.1:1", n.Node.URL()}, Network: n.Network(), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	before := p.Asked("eth_sendRawTransaction")
	if err := c.Send(t.Context(), raw); err != nil {
		t.Error(err)
	}
	n.Mined(hash)
	c.Close() // waits for the broadcasts that Send did not
	if p.Asked("eth_sendRawTransaction") == before {
		t.Error("the first node was not tried")
	}
}

func TestSendOutlivesItsCaller(t *testing.T) {
	n := chaintest.New(t)
	key, address := newKey(t)
	n.Ether(address, ether)
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := n.Proxy(chaintest.On(func(r chaintest.Request, next func(chaintest.Request) chaintest.Answer) chaintest.Answer {
		close(arrived)
		select {
		case <-release:
		case <-r.Gone:
			return chaintest.Answer{Cut: true}
		}
		return next(r)
	}, "eth_sendRawTransaction"))
	c := open(t, n, slow.URL())
	raw, hash := sign(t, n, key, 0, evm.Call{To: common.Address{7}, Gas: 21_000})
	gone, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if err := c.Send(gone, raw); !errors.Is(err, evm.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("caller gone: %v", err)
	}
	time.Sleep(50 * time.Millisecond) // a request that died with its caller would be noticed by now
	close(release)
	n.Mined(hash)
}
