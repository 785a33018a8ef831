package main

import (
	"context"
	"crypto/ecdsa"
	"database/sql"
	"fmt"
	"math/big"
	"math/rand/v2"
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
	"bursar/chain/chaintest"
	"bursar/chain/devnet"
	"bursar/core/coretest"
	"bursar/demo"
	"bursar/evm"
	"bursar/money"
)

const patience = 5 * time.Second // for what should take a moment

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
	permit2     *coretest.Permit2Seller
	permit2Most *coretest.Permit2Seller // asks for a maximum
	hashes      sync.Map                // of transfers that the shop has taken
	settling    atomic.Pointer[settling]
	seller      common.Address
	earner      common.Address // of the business
	shop        string         // base URL
	agent       string         // id of the wallet that pays
	calls       atomic.Int64
	consents    atomic.Int64 // in this life of the program

	mu       sync.Mutex
	sessions []openSession
	answered []string            // what callers were told, and so must be there for ever
	logins   []string            // nonces of those that the shop has heard
	wallets  []string            // ids of agents with something to drain
	topped   []string            // the same of agents that were topped up
	sources  []common.Address    // all wallets that top agents up
	allowing []*ecdsa.PrivateKey // those of them that need no permit

	kills, early int // early: while the program was starting
	slowest      time.Duration
	slowestOf    string
	met          map[string]int // how many kills met an operation of a kind in a state
}

func newKillRun(t *testing.T, inside bool, args ...string) *killRun {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killRun{
		t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 0)), inside: inside, bank: newKey(t), facilitator: newKey(t),
		seller: crypto.PubkeyToAddress(newKey(t).PublicKey), earner: crypto.PubkeyToAddress(newKey(t).PublicKey), met: map[string]int{},
	}
	shop := httptest.NewUnstartedServer(nil)
	t.Cleanup(shop.Close)
	args = append(args, "--allow-private="+shop.Listener.Addr().String(), "--services="+k.servicesFile("http://"+shop.Listener.Addr().String()), "--permit2-reserve=0.05", "--payout-least=0")
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
	k.permit2 = &coretest.Permit2Seller{Chain: k.chain, Key: newKey(t), PayTo: k.seller, Price: money.One / 100, Window: shopProofLife}
	k.permit2Most = &coretest.Permit2Seller{Chain: k.chain, Key: newKey(t), PayTo: k.seller, Price: money.One / 100, Window: shopProofLife, UpTo: true}
	shop.Config.Handler = metered(k.perCall(demo.New(demo.Config{
		Network: network, PayTo: k.seller, Settle: k.settleProof, Clock: time.Now, ProofLife: shopProofLife,
	})))
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

// endow makes the money that the run works with.
func (k *killRun) endow() {
	faucet, err := devnet.FaucetKey()
	k.no(err)
	to := []common.Address{address(k.bank), address(k.facilitator), address(k.permit2.Key), address(k.permit2Most.Key)}
	if !k.inside {
		relayer, err := crypto.HexToECDSA(strings.Repeat("3", 64))
		k.no(err)
		to = append(to, address(relayer))
	}
	for _, a := range to {
		k.no(k.send(faucet, evm.Call{To: a, ValueWei: etherWei(100), Gas: 21_000}))
	}
	mint := append(crypto.Keccak256([]byte("mint(address,uint256)"))[:4], evm.TransferData(address(k.bank), 100_000*money.One)[4:]...)
	k.no(k.send(faucet, evm.Call{To: k.chain.Network().USDC, Data: mint, Gas: 200_000}))
}

func etherWei(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

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
	r, err := chaintest.Deliver(ctx, k.chain, key, call)
	if err == nil && !r.OK {
		return evm.ErrReverted
	}
	return err
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
	k.consents.Store(0)
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
	if !strings.Contains(string(out), "DIFFERENCE") {
		select { // its sockets are reset a moment before its end is known
		case <-k.p.ended:
			return
		case <-time.After(patience):
		}
	}
	k.t.Errorf("audit: %v\n%s", err, out)
}
