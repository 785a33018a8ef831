package main

import (
	"context"
	"crypto/ecdsa"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/devnet"
	"bursar/demo"
	"bursar/evm"
	"bursar/money"
)

const (
	shopProofLife = 15 * time.Second // a proof that nobody uses holds its money for so long
	deposit       = "0.20"
	patience      = 5 * time.Second // for a transaction of the test's own
)

// killRun is a program that dies again and again, and the world around it that does not.
type killRun struct {
	t      *testing.T
	p      *program
	seed   uint64
	dice   *rand.Rand // plans the deaths; callers roll their own
	inside bool       // the chain dies with the program
	db     *sql.DB    // read only

	chain       *chain.Client
	bank        *ecdsa.PrivateKey // funds wallets, and is the owner's address for drains
	bankMu      sync.Mutex
	facilitator *ecdsa.PrivateKey // settles for the shop
	settling    atomic.Pointer[settling]
	seller      common.Address
	shop        string // base URL
	agent       string // id of the wallet that pays
	calls       atomic.Int64

	mu       sync.Mutex
	sessions []string // open, as far as is known
	answered []string // what callers were told, and so must be there for ever
	wallets  []string // ids of agents with something to drain

	kills, early int // early: while the program was starting
	slowest      time.Duration
}

// settling is the shop's settler. The one of a chain that died is given up.
type settling struct {
	*demo.Settler
	life context.Context //nolint:containedctx // of the chain that it settles on
	end  context.CancelFunc
}

func newKillRun(t *testing.T, inside bool, args ...string) *killRun {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killRun{
		t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 0)), inside: inside, bank: newKey(t), facilitator: newKey(t),
		seller: crypto.PubkeyToAddress(newKey(t).PublicKey),
	}
	shop := httptest.NewUnstartedServer(nil)
	t.Cleanup(shop.Close)
	args = append(args, "--allow-private="+shop.Listener.Addr().String())
	rpc, network := "", mustNetwork(t, evm.DevID)
	if !inside {
		network = mustNetwork(t, evm.BaseSepoliaID)
		node, err := devnet.Start(devnet.Config{ChainID: network.ChainID, RPCAddr: "127.0.0.1:0", Heartbeat: 2 * time.Second, Clock: time.Now})
		k.no(err)
		t.Cleanup(func() { _ = node.Close() })
		rpc = node.URL()
		args = append(args, "--rpc-url="+rpc, fmt.Sprint("--chain-id=", network.ChainID), "--confirmations=1", "--poll-interval=250ms")
		if !hasSecrets(args) {
			args = append(args, secrets()...)
		}
	}
	k.p = newProgram(t, args...)
	if inside {
		k.p.start()
		rpc = k.p.RPC
	}
	var err error
	k.chain, err = chain.Open(t.Context(), chain.Config{URLs: []string{rpc}, Network: network, Clock: time.Now})
	k.no(err)
	t.Cleanup(k.chain.Close)
	k.newSettler()
	shop.Config.Handler = perCall(demo.New(demo.Config{
		Network: network, PayTo: k.seller, Settle: k.settleProof, Clock: time.Now, ProofLife: shopProofLife,
	}))
	shop.Start()
	k.shop = shop.URL
	k.endow()
	if !inside {
		k.p.start()
	}
	k.openDB()
	k.signUp()
	return k
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustNetwork(t testing.TB, id uint64) evm.Network {
	t.Helper()
	n, ok := evm.NetworkByID(id)
	if !ok {
		t.Fatalf("no network %d", id)
	}
	return n
}

func hasSecrets(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "--relayer-key=") {
			return true
		}
	}
	return false
}

func (k *killRun) no(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// perCall gives every call a path of its own, by which history knows it: /call/<n>/…
func perCall(shop http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.SplitN(r.URL.Path, "/", 4)
		if len(parts) == 4 && parts[1] == "call" {
			r = r.Clone(r.Context())
			r.URL.Path = "/" + parts[3]
		}
		shop.ServeHTTP(w, r)
	})
}

var errShop = errors.New("the shop says no after it has taken the money")

// settleProof is a seller as it comes: mostly honest; at times one that never collects, that takes the money and says
// no, or that collects late, when the caller has long been killed and started again.
func (k *killRun) settleProof(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	switch rand.IntN(10) {
	case 0:
		return common.Hash{1}, nil
	case 1:
		if hash, err := k.settleNow(ctx, a, sig); err != nil {
			return hash, err
		}
		return common.Hash{}, errShop
	case 2, 3:
		return k.settleLate(ctx, a, sig)
	}
	return k.settleNow(ctx, a, sig)
}

func (k *killRun) settleNow(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	s := k.settling.Load()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	return s.Settle(ctx, a, sig)
}

// settleLate waits and then tries for as long as the proof lives.
func (k *killRun) settleLate(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	wait := time.Duration(rand.Int64N(int64(shopProofLife)))
	for {
		select {
		case <-ctx.Done():
			return common.Hash{}, ctx.Err()
		case <-time.After(wait):
		}
		hash, err := k.settleNow(ctx, a, sig)
		if err == nil || errors.Is(err, evm.ErrReverted) || time.Now().Unix() > a.ValidBefore {
			return hash, err
		}
		wait = time.Second / 2
	}
}

// newSettler gives the shop a settler that knows nothing of what an earlier chain process lost.
func (k *killRun) newSettler() {
	life, end := context.WithCancel(k.t.Context())
	if old := k.settling.Swap(&settling{demo.NewSettler(k.chain, k.facilitator), life, end}); old != nil {
		old.end()
	}
}

// endow makes the money that the run works with.
func (k *killRun) endow() {
	faucet, err := devnet.FaucetKey()
	k.no(err)
	ether := new(big.Int).Mul(big.NewInt(100), big.NewInt(1e18))
	to := []common.Address{address(k.bank), address(k.facilitator)}
	if !k.inside {
		relayer, err := crypto.HexToECDSA(strings.Repeat("3", 64))
		k.no(err)
		to = append(to, address(relayer))
	}
	for _, a := range to {
		k.no(k.send(faucet, evm.Call{To: a, ValueWei: ether, Gas: 21_000}))
	}
	mint := append(crypto.Keccak256([]byte("mint(address,uint256)"))[:4], evm.TransferData(address(k.bank), 100_000*money.One)[4:]...)
	k.no(k.send(faucet, evm.Call{To: k.chain.Network().USDC, Data: mint, Gas: 200_000}))
}

func address(key *ecdsa.PrivateKey) common.Address { return crypto.PubkeyToAddress(key.PublicKey) }

// give sends USDC from the bank. It fails when the chain dies on the way, and the money may have moved all the same.
func (k *killRun) give(to string, amount money.USDC) error {
	return k.send(k.bank, evm.Call{To: k.chain.Network().USDC, Data: evm.TransferData(common.HexToAddress(to), amount), Gas: 100_000})
}

func (k *killRun) send(key *ecdsa.PrivateKey, call evm.Call) error {
	k.bankMu.Lock()
	defer k.bankMu.Unlock()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	nonce, err := k.chain.NonceAt(ctx, address(key))
	if err != nil {
		return err
	}
	fees, err := k.chain.Fees(ctx)
	if err != nil {
		return err
	}
	raw, hash, err := evm.SignTx(key, k.chain.Network().ChainID, nonce, fees, call)
	if err != nil {
		return err
	}
	if err := k.chain.Send(ctx, raw); err != nil {
		return err
	}
	for {
		r, err := k.chain.Receipt(ctx, hash)
		if err == nil && !r.OK {
			return evm.ErrReverted
		}
		if !errors.Is(err, evm.ErrNotFound) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// openDB opens the program's database from outside, for reading.
func (k *killRun) openDB() {
	driver, dsn := "sqlite", "file:"+filepath.Join(k.p.Data, "bursar.db")+"?"+url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)"}}.Encode()
	for _, a := range k.p.args {
		if text, ok := strings.CutPrefix(a, "--database-url="); ok {
			driver, dsn = "postgres", text
		}
	}
	var err error
	k.db, err = sql.Open(driver, dsn)
	k.no(err)
	k.t.Cleanup(func() { _ = k.db.Close() })
}

// launch starts the program to die so, and does not wait.
func (k *killRun) launch(d death) {
	k.t.Helper()
	k.p.kill()
	if k.inside {
		k.newSettler()
	}
	k.p.launch(killVariable + "=" + d.spec())
}

// audit runs the program's own audit. One that is cut short because the program, and the chain in it, dies meanwhile
// says nothing; a difference always counts.
func (k *killRun) audit() {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), os.Args[0], append([]string{"audit"}, k.p.args...)...)
	cmd.Env = append(cmd.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil && strings.Contains(string(out), "the books balance") {
		return
	}
	select {
	case <-k.p.ended:
		if !strings.Contains(string(out), "DIFFERENCE") {
			return
		}
	default:
	}
	k.t.Errorf("audit: %v\n%s", err, out)
}
