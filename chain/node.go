package chain

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"

	"bursar/evm"
	"bursar/money"
)

const (
	callTimeout = 10 * time.Second // one request to one node
	wordLength  = 32
)

// Call data of the token's views.
var (
	dataDecimals  = crypto.Keccak256([]byte("decimals()"))[:4]
	dataSeparator = crypto.Keccak256([]byte("DOMAIN_SEPARATOR()"))[:4]
	selBalanceOf  = crypto.Keccak256([]byte("balanceOf(address)"))[:4]
	selAuthState  = crypto.Keccak256([]byte("authorizationState(address,bytes32)"))[:4]
	selAllowance  = crypto.Keccak256([]byte("allowance(address,address)"))[:4]
	selNonces     = crypto.Keccak256([]byte("nonces(address)"))[:4]
)

// errWrongNetwork says that a node serves another chain or token than it was configured for.
var errWrongNetwork = errors.New("chain: wrong network")

// node is one RPC endpoint.
type node struct {
	url, host string
	span      atomic.Uint64 // blocks of logs that it takes at once; 0: it has refused none yet
	single    atomic.Bool   // it refuses batches of requests
	failures  atomic.Uint64 // requests that it left without a usable answer

	mu      sync.Mutex
	client  *rpc.Client
	checked bool
	health  health
}

// ready connects and checks the node once. A node of the wrong network stays unusable: each call checks it again.
func (n *node) ready(ctx context.Context, network evm.Network) error {
	n.mu.Lock()
	checked, client := n.checked, n.client
	n.mu.Unlock()
	if checked {
		return nil
	}
	if client == nil {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		fresh, err := rpc.DialOptions(ctx, n.url, rpc.WithHTTPClient(&http.Client{Transport: limits{http.DefaultTransport}}))
		if err != nil {
			return n.fail("connect", err)
		}
		n.keep(fresh)
	}
	if err := n.check(ctx, network); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.checked = true
	return nil
}

// keep stores a connection unless another call was faster.
func (n *node) keep(fresh *rpc.Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil {
		fresh.Close()
		return
	}
	n.client = fresh
}

func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil {
		n.client.Close()
	}
}

// check holds the node to what the registry says. A domain that differs would make every signature worthless.
func (n *node) check(ctx context.Context, network evm.Network) error {
	var id hexutil.Uint64
	if err := n.call(ctx, &id, "eth_chainId"); err != nil {
		return err
	}
	if uint64(id) != network.ChainID {
		return fmt.Errorf("%w: %s serves chain %d, not %d (%s)", errWrongNetwork, n.host, id, network.ChainID, network.Name)
	}
	var code hexutil.Bytes
	if err := n.call(ctx, &code, "eth_getCode", network.USDC, "latest"); err != nil {
		return err
	}
	if len(code) == 0 {
		return fmt.Errorf("%w: %s has no USDC contract at %s", errWrongNetwork, n.host, network.USDC)
	}
	decimals, err := n.fact(ctx, network, dataDecimals)
	if err != nil {
		return err
	}
	if decimals != common.BigToHash(big.NewInt(money.Decimals)) {
		return fmt.Errorf("%w: the token at %s has not %d decimals", errWrongNetwork, network.USDC, money.Decimals)
	}
	separator, err := n.fact(ctx, network, dataSeparator)
	if err != nil {
		return err
	}
	if want := network.Domain().Separator(); separator != want {
		return fmt.Errorf("%w: the token's domain separator is %s, the registry's %q version %q gives %s",
			errWrongNetwork, separator, network.DomainName, network.DomainVersion, want)
	}
	return nil
}

// fact reads a view that every USDC has; a contract without it is another one.
func (n *node) fact(ctx context.Context, network evm.Network, data []byte) (common.Hash, error) {
	word, err := n.word(ctx, network.USDC, data, "latest")
	if errors.Is(err, evm.ErrReverted) || errors.Is(err, errNoWord) {
		return word, fmt.Errorf("%w: the contract at %s is not USDC", errWrongNetwork, network.USDC)
	}
	return word, err
}

// call makes one request with its own time limit. Its errors are classed by answer.
func (n *node) call(ctx context.Context, result any, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n.mu.Lock()
	client := n.client
	n.mu.Unlock()
	if err := client.CallContext(ctx, result, method, args...); err != nil {
		return n.fail(method, err)
	}
	return nil
}

// errOneByOne says that a node may refuse batches, which some do in ways of their own. It never leaves the package.
var errOneByOne = errors.New("chain: batch refused")

// batch makes several requests at once. The first failure of one is the batch's.
func (n *node) batch(ctx context.Context, batch []rpc.BatchElem) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n.mu.Lock()
	client := n.client
	n.mu.Unlock()
	if err := client.BatchCallContext(ctx, batch); err != nil {
		err = n.fail(batch[len(batch)-1].Method, err)
		var busy *busyError
		if ctx.Err() != nil || errors.Is(err, errTooLarge) || errors.As(err, &busy) {
			return err
		}
		return fmt.Errorf("%w: %w", err, errOneByOne)
	}
	for _, e := range batch {
		if e.Error != nil {
			err := n.fail(e.Method, e.Error)
			if errors.Is(e.Error, rpc.ErrMissingBatchResponse) {
				err = fmt.Errorf("%w: %w", err, errOneByOne)
			}
			return err
		}
	}
	return nil
}

// word calls a view that returns one word.
func (n *node) word(ctx context.Context, to common.Address, data []byte, block string) (common.Hash, error) {
	var out hexutil.Bytes
	err := n.call(ctx, &out, "eth_call", map[string]any{"to": to, "input": hexutil.Bytes(data)}, block)
	if err != nil {
		return common.Hash{}, err
	}
	if len(out) != wordLength {
		return common.Hash{}, fmt.Errorf("%w: %s: %w: %d bytes", evm.ErrUnavailable, n.host, errNoWord, len(out))
	}
	return common.BytesToHash(out), nil
}
