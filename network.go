package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/devnet"
	"bursar/config"
	"bursar/core"
	"bursar/demo"
)

// network is the chain that the server works on, and the node behind it when that is the embedded one.
type network struct {
	client *chain.Client
	node   *devnet.Node // nil on a real chain
	// development: the chain is the embedded one, of this process or of the one that runs it for this database.
	development bool
}

// devHeartbeat is the age of the development chain's newest block at which an empty one follows. Proofs and
// authorizations end by block time: money that waits for the end of one waits this much longer on an idle chain.
const devHeartbeat = 5 * time.Second

// openNetwork connects to the chain, or starts the development chain and connects to that.
func openNetwork(ctx context.Context, cfg config.Config, log *slog.Logger) (*network, error) {
	n := &network{}
	urls := cfg.RPCURLs
	if cfg.Embedded() {
		if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		node, err := devnet.Start(devnet.Config{
			DataDir: chainFolder(cfg), ChainID: cfg.Network().ChainID, RPCAddr: cfg.DevRPC, MaxAhead: cfg.DevMaxAhead,
			Heartbeat: devHeartbeat, Clock: time.Now, Log: log,
		})
		if err != nil {
			return nil, err
		}
		n.node, n.development, urls = node, true, []string{node.URL()}
	}
	client, err := openChain(ctx, cfg, urls, log)
	if err != nil {
		n.close()
		return nil, err
	}
	n.client = client
	return n, nil
}

func openChain(ctx context.Context, cfg config.Config, urls []string, log *slog.Logger) (*chain.Client, error) {
	return chain.Open(ctx, chain.Config{URLs: urls, Network: cfg.Network(), Clock: time.Now, Log: log})
}

func (n *network) close() {
	if n.client != nil {
		n.client.Close()
	}
	if n.node != nil {
		_ = n.node.Close() // the program is ending; what counts is on disk after each block
	}
}

// wake signals new blocks, where a node tells of them.
func (n *network) wake(ctx context.Context) <-chan struct{} {
	if n.node != nil {
		return n.client.Wake(ctx, n.node.WS())
	}
	return n.client.Wake(ctx)
}

// check refuses a database that goes with another development chain, which is gone: nothing would ever be settled or
// credited again, and its figures would be wrong.
func (n *network) check(ctx context.Context, app *core.Core) error {
	if !n.development {
		return nil
	}
	err := app.Funding.SameChain(ctx)
	switch {
	case !errors.Is(err, core.ErrOtherChain):
	case n.node == nil:
		err = fmt.Errorf("the database does not go with the development chain that runs at the address of --dev-rpc (%w): use the settings of its own server", err)
	default:
		err = fmt.Errorf("the database does not go with the development chain in the data folder (%w): start with an empty data "+
			"folder, and an empty database where that is elsewhere, or put the chain back", err)
	}
	return err
}

var ether = big.NewInt(1e18)

// prepare gives the relayers gas on the development chain.
func (n *network) prepare(ctx context.Context, s config.Secrets) error {
	for _, key := range append([]*ecdsa.PrivateKey{s.RelayerKey}, s.MoreRelayers...) {
		if err := n.gas(ctx, crypto.PubkeyToAddress(key.PublicKey)); err != nil {
			return err
		}
	}
	return nil
}

func (n *network) gas(ctx context.Context, to common.Address) error {
	if n.node == nil {
		return nil
	}
	has, err := n.client.EtherOf(ctx, to)
	if err != nil || has.Cmp(ether) >= 0 {
		return err
	}
	_, err = n.node.Ether(ctx, to, new(big.Int).Mul(ether, big.NewInt(1000)))
	return err
}

// startDemo runs the demo service with a facilitator of its own, and returns what stops it.
func startDemo(ctx context.Context, cfg config.Config, log *slog.Logger, n *network) (func(), error) {
	key, err := crypto.GenerateKey() // the facilitator holds nothing but gas
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	settler := demo.NewSettler(n.client, key)
	if err := n.gas(ctx, settler.Address()); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	listener, err := listen(ctx, cfg.DemoAddr)
	if err != nil {
		return nil, err
	}
	payTo := common.BytesToAddress(crypto.Keccak256([]byte("bursar demo shop"))[12:])
	server := &http.Server{ReadHeaderTimeout: headerTimeout, Handler: demo.New(demo.Config{
		Network: cfg.Network(), PayTo: payTo, Settle: settler.Settle, Clock: time.Now, Log: log,
	})}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.ErrorContext(ctx, "the demo service has ended", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil
}

// demoPassword is made once and kept beside the other secrets.
func demoPassword(cfg config.Config) (string, error) {
	path := filepath.Join(cfg.Data, "secrets", "demo-password")
	if text, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	b := make([]byte, 9)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("demo: no randomness: %w", err)
	}
	secret := hex.EncodeToString(b)
	return secret, config.WriteSecret(path, secret)
}
