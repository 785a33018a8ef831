package chain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
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

type request struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
	gone   <-chan struct{}   // the client hung up
}

// troubled is a real chain behind a node that misbehaves: trouble answers a request itself, or says false.
func troubled(t *testing.T, behind string, trouble func(w http.ResponseWriter, r request) bool) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		var r request
		if err != nil || json.Unmarshal(body, &r) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.gone = in.Context().Done()
		w.Header().Set("Content-Type", "application/json")
		if trouble(w, r) {
			return
		}
		out, err := http.Post(behind, "application/json", bytes.NewReader(body))
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer out.Body.Close()
		_, _ = io.Copy(w, out.Body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func refuse(w io.Writer, r request, code int, text string) bool {
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, r.ID, code, text)
	return true
}

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
	url := troubled(t, n.Node.URL(), func(w http.ResponseWriter, r request) bool {
		if r.Method != "eth_getLogs" {
			return false
		}
		asked.Add(1)
		var q struct{ FromBlock, ToBlock hexutil.Uint64 }
		if err := json.Unmarshal(r.Params[0], &q); err != nil {
			t.Error(err)
		}
		if q.ToBlock-q.FromBlock > 1 {
			return refuse(w, r, -32005, "query returned more than 10000 results")
		}
		small.Add(1)
		return false
	})
	head, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(t, n, url).Movements(t.Context(), 0, head.Number)
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
}

func TestReadsFailOver(t *testing.T) {
	n := chaintest.New(t)
	var mode atomic.Value
	mode.Store("fine")
	var asked atomic.Int32
	url := troubled(t, n.Node.URL(), func(w http.ResponseWriter, r request) bool {
		asked.Add(1)
		switch mode.Load() {
		case "busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "indexing":
			return refuse(w, r, -32000, "transaction indexing is in progress")
		case "lagging":
			if r.Method != "eth_getBlockByNumber" {
				return false
			}
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":null}`, r.ID)
		case "cut":
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	})
	_, to := newKey(t)
	hash := n.Fund(to, money.One)
	alone, both := open(t, n, url), open(t, n, url, n.Node.URL())
	for _, m := range []string{"busy", "indexing", "cut"} {
		mode.Store(m)
		if _, err := alone.Receipt(t.Context(), hash); !errors.Is(err, evm.ErrUnavailable) || errors.Is(err, evm.ErrNotFound) {
			t.Errorf("%s alone: %v", m, err)
		}
		if r, err := both.Receipt(t.Context(), hash); err != nil || !r.OK {
			t.Errorf("%s with another: %+v, %v", m, r, err)
		}
	}
	mode.Store("fine")
	before := asked.Load()
	if _, err := both.Head(t.Context()); err != nil || asked.Load() != before {
		t.Errorf("a node that failed just now was asked first, %v", err)
	}
	head, err := n.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mode.Store("lagging")
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
	var sent atomic.Int32
	cut := troubled(t, n.Node.URL(), func(_ http.ResponseWriter, r request) bool {
		if r.Method == "eth_sendRawTransaction" {
			sent.Add(1)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	call := evm.Call{To: common.Address{7}, Gas: 21_000, ValueWei: big.NewInt(1)}
	raw, hash := sign(t, n, key, 0, call)
	if err := open(t, n, cut).Send(t.Context(), raw); !errors.Is(err, evm.ErrUnavailable) {
		t.Errorf("no answer: %v", err)
	}
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{cut, "http://127.0.0.1:1", n.Node.URL()}, Network: n.Network(), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	before := sent.Load()
	if err := c.Send(t.Context(), raw); err != nil {
		t.Error(err)
	}
	n.Mined(hash)
	c.Close() // waits for the broadcasts that Send did not
	if sent.Load() == before {
		t.Error("the first node was not tried")
	}
}

func TestSendOutlivesItsCaller(t *testing.T) {
	n := chaintest.New(t)
	key, address := newKey(t)
	n.Ether(address, ether)
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := troubled(t, n.Node.URL(), func(_ http.ResponseWriter, r request) bool {
		if r.Method == "eth_sendRawTransaction" {
			close(arrived)
			select {
			case <-release:
			case <-r.gone:
				return true
			}
		}
		return false
	})
	c := open(t, n, slow)
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
