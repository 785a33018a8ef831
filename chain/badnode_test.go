package chain_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/chain"
	"bursar/chain/chaintest"
	"bursar/evm"
	"bursar/money"
)

// watched is a client with a clock of its own, whose log can be read.
type watched struct {
	*chain.Client
	ahead atomic.Int64

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *watched) pass(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *watched) logged(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.log.String(), text)
}

func watch(t *testing.T, n *chaintest.Net, urls ...string) *watched {
	t.Helper()
	w, begin := &watched{}, time.Now()
	c, err := chain.Open(t.Context(), chain.Config{
		URLs: urls, Network: n.Network(), Log: slog.New(slog.NewTextHandler(w, nil)),
		Clock: func() time.Time { return begin.Add(time.Duration(w.ahead.Load())) }, // stands still, so nothing depends on a slow machine
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w.Client = c
	return w
}

type header interface {
	Head(ctx context.Context) (evm.Block, error)
}

func head(t *testing.T, c header) evm.Block {
	t.Helper()
	b, err := c.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Twenty blocks behind, and preferred: nothing that the client says may be of then.
func TestLaggingNodeIsPassedOver(t *testing.T) {
	const lag = 20
	n := chaintest.New(t)
	relayer, relayerAddress := newKey(t)
	payer, payerAddress := newKey(t)
	_, seller := newKey(t)
	n.Ether(relayerAddress, ether)
	n.Fund(payerAddress, 5*money.One)
	for range lag {
		n.Node.Commit()
	}
	p := n.Proxy()
	clients := map[string]*watched{"noticed": watch(t, n, p.URL(), n.Node.URL()), "not noticed yet": watch(t, n, p.URL(), n.Node.URL())}
	before := head(t, n)
	for _, c := range clients {
		head(t, c)
	}
	nonce := common.HexToHash("0x01")
	r := relay(t, n, relayer, authorize(t, n, payer, seller, money.One, nonce))
	n.Node.Commit()
	now := head(t, n)
	p.Set(chaintest.Stale(lag))
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			if name == "noticed" {
				if got := head(t, c); got.Number != now.Number {
					t.Errorf("the head went from %d to %d, the chain's is %d", before.Number, got.Number, now.Number)
				}
				if got, err := c.BalanceOf(t.Context(), seller, 0); err != nil || got != money.One {
					t.Errorf("balance now %s, %v", got, err)
				}
			}
			if got, err := c.Receipt(t.Context(), r.TxHash); err != nil || got.BlockHash != r.BlockHash {
				t.Errorf("receipt %+v, %v", got, err)
			}
			if used, err := c.AuthorizationUsed(t.Context(), payerAddress, nonce, now.Number); err != nil || !used {
				t.Errorf("used %v, %v", used, err)
			}
			if got, err := c.NonceAt(t.Context(), relayerAddress); err != nil || got != 1 {
				t.Errorf("nonce %d, %v", got, err)
			}
			if got, err := c.BalanceOf(t.Context(), seller, r.Block); err != nil || got != money.One {
				t.Errorf("balance %s, %v", got, err)
			}
			if got, err := c.BlockByNumber(t.Context(), r.Block); err != nil || got.Hash != r.BlockHash {
				t.Errorf("block %+v, %v", got, err)
			}
			if got, err := c.Movements(t.Context(), before.Number+1, now.Number); err != nil || len(got) != 1 {
				t.Errorf("%d movements, %v", len(got), err)
			}
			if _, err := c.Receipt(t.Context(), common.Hash{9}); !errors.Is(err, evm.ErrNotFound) {
				t.Errorf("no such receipt: %v", err)
			}
			if _, err := c.BlockByNumber(t.Context(), now.Number+1); !errors.Is(err, evm.ErrNotFound) {
				t.Errorf("a block to come: %v", err)
			}
			if got := head(t, c); got.Number != now.Number {
				t.Errorf("head %d", got.Number)
			}
			if got := c.logged("chain node failed"); got != 0 {
				t.Errorf("lagging was taken for failing %d times", got)
			}
		})
	}
}

// The one that is up to date goes away: what is left must not speak for the chain, until it is clear that nobody else will.
func TestOnlyTheLaggingNodeIsLeft(t *testing.T) {
	const lag = 20
	n := chaintest.New(t)
	for range lag {
		n.Node.Commit()
	}
	_, to := newKey(t)
	slow, good := n.Proxy(chaintest.Stale(lag)), n.Proxy()
	c := watch(t, n, slow.URL(), good.URL())
	hash := n.Fund(to, money.One)
	n.Node.Commit()
	now := head(t, c)
	if want := head(t, n); now.Number != want.Number {
		t.Fatalf("head %d, want %d", now.Number, want.Number)
	}
	good.Set(chaintest.LoseRequest())
	unavailable := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, evm.ErrUnavailable) || errors.Is(err, evm.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := c.Head(t.Context())
	unavailable("head", err)
	_, err = c.Receipt(t.Context(), hash)
	unavailable("receipt", err)
	_, err = c.BlockByNumber(t.Context(), now.Number)
	unavailable("block", err)
	_, err = c.BalanceOf(t.Context(), to, now.Number)
	unavailable("balance", err)
	_, err = c.AuthorizationUsed(t.Context(), to, common.Hash{1}, now.Number)
	unavailable("authorization", err)
	_, err = c.Movements(t.Context(), now.Number-1, now.Number)
	unavailable("movements", err)

	c.pass(3 * time.Minute)
	if got := head(t, c); got.Number != head(t, n).Number-lag {
		t.Errorf("after a while the head is %d", got.Number)
	}
	good.Set()
	c.pass(10 * time.Second)
	if got := head(t, c); got.Number != head(t, n).Number {
		t.Errorf("with the other node back the head is %d", got.Number)
	}
}

// A node that stands still does not go back, so only the comparison with the others shows it.
func TestFrozenNodeIsNoticed(t *testing.T) {
	n := chaintest.New(t)
	n.Node.Commit()
	start := head(t, n)
	c := watch(t, n, n.Proxy(chaintest.Frozen(start.Number)).URL(), n.Node.URL())
	head(t, c)
	for range 10 {
		n.Node.Commit()
	}
	c.pass(10 * time.Second)
	if got, want := head(t, c).Number, start.Number+10; got != want {
		t.Errorf("head %d, want %d", got, want)
	}
	if c.logged("lags=true") != 1 {
		t.Error("nobody was told that a node lags")
	}
}

// When all nodes say that the chain is shorter, it is.
func TestShorterChain(t *testing.T) {
	n := chaintest.New(t)
	base := n.Node.Commit()
	for range 5 {
		n.Node.Commit()
	}
	c := watch(t, n, n.Proxy().URL(), n.Proxy().URL())
	before := head(t, c)
	if err := n.Node.Fork(base); err != nil {
		t.Fatal(err)
	}
	after := head(t, c)
	if after.Hash != base || before.Number != after.Number+5 {
		t.Errorf("head %+v, was %+v", after, before)
	}
	if _, err := c.BlockByNumber(t.Context(), before.Number); !errors.Is(err, evm.ErrNotFound) {
		t.Errorf("a block that is gone: %v", err)
	}
}

// One URL may hide several nodes: a head of one, and a block of another that has not reached it.
func TestBlockBelowTheHeadIsNotMissing(t *testing.T) {
	n := chaintest.New(t)
	n.Node.Commit()
	now := head(t, n)
	p := n.Proxy()
	c := watch(t, n, p.URL())
	p.Set(chaintest.Times(1, chaintest.On(chaintest.Null(), "eth_getBlockByNumber")))
	if _, err := c.BlockByNumber(t.Context(), now.Number); !errors.Is(err, evm.ErrUnavailable) || errors.Is(err, evm.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestBusyNodeIsLeftAlone(t *testing.T) {
	n := chaintest.New(t)
	p := n.Proxy()
	c := watch(t, n, p.URL())
	ask := func(times int) (asked int) {
		before := p.Asked("")
		for range times {
			if _, err := c.Head(t.Context()); !errors.Is(err, evm.ErrUnavailable) {
				t.Errorf("%v", err)
			}
			if err := c.Send(t.Context(), []byte{1}); !errors.Is(err, evm.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		}
		return p.Asked("") - before
	}
	fine := func() {
		t.Helper()
		p.Set()
		head(t, c)
	}
	p.Set(chaintest.RetryAfter(20))
	if got := ask(50); got != 1 {
		t.Errorf("a node that asked for 20 seconds was asked %d times", got)
	}
	c.pass(19 * time.Second)
	if got := ask(1); got != 0 {
		t.Errorf("asked %d times before the time was over", got)
	}
	c.pass(2 * time.Second)
	fine()
	p.Set(chaintest.RetryAfter(86_400))
	ask(1)
	c.pass(59 * time.Second)
	if got := ask(1); got != 0 {
		t.Errorf("a node that asked for a day was asked %d times in the first minute", got)
	}
	c.pass(2 * time.Second)
	fine()
	p.Set(chaintest.RetryAfter(20))
	before := p.Asked("")
	for range 50 {
		if err := c.Send(t.Context(), []byte{1}); !errors.Is(err, evm.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	if got := p.Asked("") - before; got != 1 {
		t.Errorf("a node that asked for 20 seconds was sent to %d times", got)
	}
	c.pass(21 * time.Second)
	fine()
	for _, rule := range []chaintest.Rule{
		chaintest.Status(http.StatusTooManyRequests), chaintest.Refuse(-32005, "daily request count exceeded, request rate limited"),
		chaintest.Refuse(429, "Your app has exceeded its compute units per second capacity"),
	} {
		p.Set(rule)
		asked := 0
		for range 60 { // a minute of polls
			asked += ask(4)
			c.pass(time.Second)
		}
		if asked < 3 || asked > 7 {
			t.Errorf("a node that keeps refusing was asked %d times in a minute", asked)
		}
		c.pass(time.Minute)
		fine()
	}
	if got := c.logged("chain node failed"); got != 6 {
		t.Errorf("logged %d times", got)
	}
}

func TestForeignNodeIsNeverUsed(t *testing.T) {
	n := chaintest.New(t)
	p := n.Proxy(chaintest.LoseRequest())
	c := watch(t, n, p.URL(), n.Node.URL())
	p.Set(chaintest.ChainID(1))
	c.pass(time.Minute)
	want := head(t, n)
	if got := head(t, c); got.Hash != want.Hash {
		t.Errorf("%+v", got)
	}
	if p.Asked("eth_getBlockByNumber")+p.Asked("eth_call") != 0 {
		t.Error("a node of another chain was asked")
	}
}

// The node takes the transaction and its answer is lost: unknown, and the same bytes again are known.
func TestLostAnswerOfASend(t *testing.T) {
	n := chaintest.New(t)
	key, address := newKey(t)
	n.Ether(address, ether)
	p := n.Proxy(chaintest.On(chaintest.LoseAnswer(), "eth_sendRawTransaction"))
	c := watch(t, n, p.URL())
	raw, hash := sign(t, n, key, 0, evm.Call{To: common.Address{7}, Gas: 21_000})
	if err := c.Send(t.Context(), raw); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("no answer: %v", err)
	}
	n.Mined(hash)
	n.Node.Commit()
	p.Set(chaintest.On(chaintest.Twice(), "eth_sendRawTransaction"))
	if err := c.Send(t.Context(), raw); !errors.Is(err, evm.ErrKnown) {
		t.Errorf("the same again: %v", err)
	}
	raw, hash = sign(t, n, key, 1, evm.Call{To: common.Address{7}, Gas: 21_000})
	if err := c.Send(t.Context(), raw); err != nil && !errors.Is(err, evm.ErrKnown) {
		t.Errorf("handed over twice: %v", err)
	}
	n.Mined(hash)
}

func TestSlowNodeIsNotWaitedFor(t *testing.T) {
	n := chaintest.New(t)
	c := watch(t, n, n.Proxy(chaintest.On(chaintest.Delay(time.Hour), "eth_getTransactionCount")).URL(), n.Node.URL())
	_, address := newKey(t)
	if got, err := c.NonceAt(t.Context(), address); err != nil || got != 0 {
		t.Errorf("%d, %v", got, err)
	}
	if c.logged("slower than the others") != 1 {
		t.Error("the slow node was waited for until its request timed out")
	}
}

func TestDataFeeIsPartOfTheFee(t *testing.T) {
	n := chaintest.New(t)
	_, to := newKey(t)
	hash := n.Fund(to, 1)
	c := watch(t, n, n.Proxy(chaintest.AddField("eth_getTransactionReceipt", "l1Fee", `"0x64"`)).URL())
	with, err := c.Receipt(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}
	without, err := n.Receipt(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}
	if more := new(big.Int).Sub(with.Fee(), without.Fee()); more.Int64() != 100 || with.L1FeeWei.Int64() != 100 {
		t.Errorf("%s wei more", more)
	}
}
