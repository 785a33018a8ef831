package devnet

import (
	"context"
	"math/big"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/money"
)

// goldenGenesis is frozen: data folders of users start with it. See genesis.go before touching it.
const (
	goldenGenesis = "0x53ff3a46c1422b2edd3ae71bfa0d535aa52f9d67e4851d10be04cc5dd10313bc"
	goldenRules   = "0x7ae5d64c15c128b300e6778c605bb7359891957458f32bac90600120308fe760" // go-ethereum rewinds a folder to the start when a fork is added to its past
)

func TestGenesisIsFrozen(t *testing.T) {
	network, _ := evm.NetworkByID(evm.DevID)
	g, err := genesis(network)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.ToBlock().Hash().Hex(); got != goldenGenesis {
		t.Errorf("genesis hash %s, want %s", got, goldenGenesis)
	}
	if got := crypto.Keccak256Hash([]byte(mustJSON(t, g.Config))).Hex(); got != goldenRules {
		t.Errorf("rules %s, want %s: %s", got, goldenRules, mustJSON(t, g.Config))
	}
}

// The stand-in must be called like Circle's contract (circlefin/stablecoin-evm FiatTokenV2_2).
func TestSelectorsEqualCircle(t *testing.T) {
	text, err := os.ReadFile("contracts/DevUSDC.abi")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := abi.JSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, m := range parsed.Methods {
		have[hexutil.Encode(m.ID)[2:]] = m.Sig
	}
	for id, name := range map[string]string{
		"e3ee160e": "transferWithAuthorization", "cf092995": "transferWithAuthorization", "ef55bec6": "receiveWithAuthorization",
		"88b7ab63": "receiveWithAuthorization", "5a049a70": "cancelAuthorization", "b7b72899": "cancelAuthorization",
		"d505accf": "permit", "9fd5a6cf": "permit", "e94a0102": "authorizationState", "70a08231": "balanceOf",
		"a9059cbb": "transfer", "095ea7b3": "approve", "23b872dd": "transferFrom", "dd62ed3e": "allowance",
		"313ce567": "decimals", "3644e515": "DOMAIN_SEPARATOR", "7ecebe00": "nonces", "54fd4d50": "version",
	} {
		if !strings.HasPrefix(have[id], name+"(") {
			t.Errorf("%s is %q, want %s", id, have[id], name)
		}
	}
	for name, topic := range map[string]common.Hash{"Transfer": evm.TopicTransfer, "AuthorizationUsed": evm.TopicAuthorizationUsed} {
		if parsed.Events[name].ID != topic {
			t.Errorf("event %s is %s, want %s", name, parsed.Events[name].ID, topic)
		}
	}
}

func start(t *testing.T, cfg Config) *Node {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.MaxAhead == 0 {
		cfg.MaxAhead = time.Hour
	}
	n, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func (n *Node) balance(t *testing.T, a common.Address) money.USDC {
	t.Helper()
	var out hexutil.Bytes
	data := append(crypto.Keccak256([]byte("balanceOf(address)"))[:4], common.LeftPadBytes(a[:], 32)...)
	if err := n.rpc.CallContext(t.Context(), &out, "eth_call", map[string]any{"to": n.network.USDC, "input": hexutil.Bytes(data)}, "latest"); err != nil {
		t.Fatal(err)
	}
	amount, err := money.FromBig(new(big.Int).SetBytes(out))
	if err != nil {
		t.Fatal(err)
	}
	return amount
}

func (n *Node) headTime() time.Time {
	return time.Unix(int64(n.eth.BlockChain().CurrentBlock().Time), 0)
}

func TestFaucetIsConcurrent(t *testing.T) {
	n := start(t, Config{})
	to := common.Address{1}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := n.Mint(t.Context(), to, 3); err != nil {
				t.Error(err)
			}
			if _, err := n.Ether(t.Context(), to, big.NewInt(2)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := n.balance(t, to); got != 60 {
		t.Errorf("%s USDC units", got)
	}
	var wei hexutil.Big
	if err := n.rpc.CallContext(t.Context(), &wei, "eth_getBalance", to, "latest"); err != nil || wei.ToInt().Int64() != 40 {
		t.Errorf("%s wei, %v", wei.ToInt(), err)
	}
	if _, err := n.Mint(t.Context(), to, 0); err == nil {
		t.Error("minted nothing")
	}
}

func TestReopen(t *testing.T) {
	dir, to := t.TempDir(), common.Address{2}
	var head common.Hash
	for round := range 2 {
		n := start(t, Config{DataDir: dir})
		if round > 0 && n.eth.BlockChain().GetBlockByHash(head) == nil {
			t.Fatal("the last block is gone")
		}
		if _, err := Start(Config{DataDir: dir, Clock: time.Now}); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Fatalf("second process on the folder: %v", err)
		}
		if _, err := n.Mint(t.Context(), to, money.One); err != nil {
			t.Fatal(err)
		}
		if got, want := n.balance(t, to), money.One*money.USDC(round+1); got != want {
			t.Fatalf("balance %s, want %s", got, want)
		}
		head = n.eth.BlockChain().CurrentBlock().Hash()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := start(t, Config{DataDir: dir, ChainID: evm.BaseSepoliaID}).balance(t, to); got != 0 {
		t.Fatalf("another chain in the same folder has %s", got)
	}
	altered, _ := evm.NetworkByID(evm.DevID)
	altered.WETH = common.Address{5}
	stack, err := newStack(dir, altered.ChainID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stack.Close()
	if err := (&Node{network: altered, stack: stack}).buildChain(); err == nil || !strings.Contains(err.Error(), "another genesis") {
		t.Fatalf("folder of another genesis: %v", err)
	}
}

// The clock stands still here, so nothing but the sealer's own rule can hold blocks back.
func TestBurstStaysWithinMaxAhead(t *testing.T) {
	const maxAhead = 5 * time.Second
	begin := time.Now()
	var jump atomic.Int64
	n := start(t, Config{MaxAhead: maxAhead, Clock: func() time.Time { return begin.Add(time.Duration(jump.Load())) }})
	to := common.Address{3}
	mined := 0
	for ; mined < 20; mined++ {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := n.Mint(ctx, to, 1)
		cancel()
		if err != nil {
			break
		}
	}
	if mined < 3 || mined > 6 {
		t.Errorf("%d blocks in a burst", mined)
	}
	if ahead := n.headTime().Sub(begin); ahead > maxAhead {
		t.Errorf("%s ahead of the clock", ahead)
	}
	jump.Store(int64(time.Hour))
	if _, err := n.Mint(t.Context(), to, 1); err != nil { // the one that waited is mined with it
		t.Fatal(err)
	}
	if got := n.balance(t, to); got != money.USDC(mined+2) {
		t.Errorf("balance %s after %d blocks", got, mined)
	}
}

func TestIdleChainKeepsTime(t *testing.T) {
	n := start(t, Config{Heartbeat: 20 * time.Millisecond})
	if age := time.Since(n.headTime()); age > 10*time.Second {
		t.Errorf("head is %s old after start", age)
	}
	first := n.eth.BlockChain().CurrentBlock().Number.Uint64()
	for end := time.Now().Add(5 * time.Second); n.eth.BlockChain().CurrentBlock().Number.Uint64() < first+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no empty blocks")
		}
	}
}

func TestForkAndAdvance(t *testing.T) {
	n := start(t, Config{})
	to := common.Address{4}
	base := n.Commit()
	hash, err := n.Mint(t.Context(), to, 9)
	if err != nil {
		t.Fatal(err)
	}
	old := n.Commit()
	if err := n.Fork(base); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mint(t.Context(), to, 1); err != nil { // after the re-mined one, whose nonce comes first
		t.Fatal(err)
	}
	if got := n.balance(t, to); got != 10 {
		t.Errorf("balance %s", got)
	}
	var receipt struct{ BlockHash common.Hash }
	if err := n.rpc.CallContext(t.Context(), &receipt, "eth_getTransactionReceipt", hash); err != nil || receipt.BlockHash == old {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
	if n.eth.BlockChain().GetCanonicalHash(n.eth.BlockChain().GetHeaderByHash(old).Number.Uint64()) == old {
		t.Error("the old branch is still canonical")
	}
	before := n.headTime()
	if err := n.Advance(3 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mint(t.Context(), to, 1); err != nil { // sealing goes on
		t.Fatal(err)
	}
	if passed := n.headTime().Sub(before); passed < 3*time.Hour || passed > 3*time.Hour+time.Minute {
		t.Errorf("%s passed", passed)
	}
}
