package devnet

import (
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/catalyst"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/eth/filters"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/rpc"
)

const (
	cacheMB     = 16 // each of the three caches; the chain is small
	logCache    = 64 // blocks
	poolSlots   = 4096
	poolTotal   = 65536
	fileHandles = 64
)

// newStack is the node without a chain: storage, and an RPC server when a host is given. It talks to no peers.
func newStack(dataDir string, chainID uint64, host string, port int) (*node.Node, error) {
	cfg := node.Config{
		Name: fmt.Sprintf("%s-%d", folder, chainID), // a folder in dataDir; the genesis hash does not cover the chain id
		P2P:  p2p.Config{NoDiscovery: true, NoDial: true},
		// leveldb hands each write to the system at once; pebble lost its last block in two of five kills.
		DBEngine: rawdb.DBLeveldb,
	}
	if dataDir != "" {
		abs, err := filepath.Abs(dataDir)
		if err != nil {
			return nil, fmt.Errorf("devnet: data folder: %w", err)
		}
		if err := outdated(abs, cfg.Name); err != nil {
			return nil, err
		}
		cfg.DataDir = abs
	}
	if host != "" {
		modules := []string{"eth", "net", "web3"} // nothing that holds keys or rewrites the chain
		cfg.HTTPHost, cfg.HTTPPort, cfg.HTTPModules = host, port, modules
		cfg.WSHost, cfg.WSPort, cfg.WSModules = host, port, modules
		cfg.HTTPVirtualHosts = []string{"localhost", "127.0.0.1"}
		cfg.HTTPTimeouts = rpc.DefaultHTTPTimeouts
	}
	stack, err := node.New(&cfg)
	if errors.Is(err, node.ErrDatadirUsed) {
		return nil, fmt.Errorf("devnet: data folder %s is used by another process", dataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("devnet: %w", err)
	}
	return stack, nil
}

// outdated refuses a data folder that has an earlier version's chain and none of this one's: a new chain beside it would
// look, to who kept books over the old one, like a chain that has lost everything.
func outdated(dataDir, name string) error {
	entries, err := os.ReadDir(dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("devnet: data folder: %w", err)
	}
	old := ""
	_, id, _ := strings.Cut(name, folder)
	for _, e := range entries {
		switch n := e.Name(); {
		case n == name:
			return nil
		case strings.HasPrefix(n, folderPrefix) && strings.HasSuffix(n, id):
			old = n
		}
	}
	if old == "" {
		return nil
	}
	return fmt.Errorf("devnet: %s is the chain of an earlier version of this program, which this one cannot go on with: start with "+
		"an empty data folder, and an empty database where that is elsewhere, or go on with the earlier version", filepath.Join(dataDir, old))
}

// buildChain puts the chain, the log filters and the block producer on the stack.
func (n *Node) buildChain() error {
	g, err := genesis(n.network)
	if err != nil {
		return err
	}
	n.eth, err = eth.New(n.stack, chainOptions(g))
	var mismatch *core.GenesisMismatchError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("devnet: data folder %s was made with another genesis: %w", n.cfg.DataDir, err)
	}
	if err != nil {
		return fmt.Errorf("devnet: %w", err)
	}
	system := filters.NewFilterSystem(n.eth.APIBackend, filters.Config{LogCacheSize: logCache})
	n.stack.RegisterAPIs([]rpc.API{{Namespace: "eth", Service: filters.NewFilterAPI(system)}})
	if n.beacon, err = catalyst.NewSimulatedBeacon(0, common.Address{}, n.eth); err != nil {
		return fmt.Errorf("devnet: %w", err)
	}
	n.stack.RegisterLifecycle(n.beacon)
	return nil
}

func chainOptions(g *core.Genesis) *ethconfig.Config {
	c := ethconfig.Defaults
	c.Genesis, c.NetworkId, c.SyncMode = g, g.Config.ChainID.Uint64(), ethconfig.FullSync
	// Hash scheme without pruning writes the state of every block. The others keep it in memory until a clean stop:
	// a kill then cost 21 of 42 blocks.
	c.StateScheme, c.NoPruning, c.Preimages = rawdb.HashScheme, true, false
	c.DatabaseCache, c.TrieCleanCache, c.TrieDirtyCache, c.SnapshotCache = cacheMB, cacheMB, cacheMB, 0
	c.DatabaseHandles, c.FilterLogCacheSize = fileHandles, logCache
	c.LogNoHistory = true    // no log index; the filters scan block by block
	c.TransactionHistory = 0 // keep the index of every transaction
	c.TxPool.NoLocals, c.TxPool.Journal = true, ""
	// A pool that asks for more than the block producer makes the pool's loop spin.
	c.TxPool.PriceLimit, c.Miner.GasPrice = 1, big.NewInt(1)
	c.TxPool.AccountSlots, c.TxPool.GlobalSlots = poolSlots, poolTotal
	c.TxPool.AccountQueue, c.TxPool.GlobalQueue = poolSlots, poolTotal
	c.Miner.GasCeil, c.Miner.Recommit = gasLimit, time.Second
	return &c
}
