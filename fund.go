package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/chain/devnet"
	"bursar/config"
	"bursar/evm"
	"bursar/money"
)

const (
	fundPatience = 30 * time.Second // for the block; the development chain makes one at once
	fundPoll     = 20 * time.Millisecond
)

// fund makes test USDC at an address, by the development chain's public faucet key, and prints the transaction. It speaks to
// the JSON-RPC of the server that runs the chain, and that server's watcher credits the wallet as any other income. No other
// chain is spoken to: not even one that the development chain plays.
func fund(ctx context.Context, cfg config.Config, out io.Writer) error {
	network := cfg.Network()
	if network.ChainID != evm.DevID {
		return fmt.Errorf("fund: test money is made on the development chain (%d) only, not on %d", evm.DevID, network.ChainID)
	}
	if len(cfg.FundAddress) != 2+2*common.AddressLength || !common.IsHexAddress(cfg.FundAddress) || common.HexToAddress(cfg.FundAddress) == (common.Address{}) {
		return fmt.Errorf("fund: %q is not an address: 0x and 40 hex digits", cfg.FundAddress)
	}
	amount, err := money.ParseDecimal(cfg.FundAmount)
	if err != nil || amount == 0 {
		return fmt.Errorf("fund: %q is not a positive amount in USD", cfg.FundAmount)
	}
	to := common.HexToAddress(cfg.FundAddress)
	call, err := devnet.MintCall(network, to, amount)
	if err != nil {
		return err
	}
	urls := cfg.RPCURLs
	if cfg.Embedded() {
		urls = []string{"http://" + cfg.DevRPC}
	}
	client, err := openChain(ctx, cfg, urls, nil)
	if err != nil {
		return fmt.Errorf("fund: the development chain does not answer; it runs inside a server (--dev-rpc): %w", err)
	}
	defer client.Close()
	hash, err := sendFromFaucet(ctx, client, call)
	if err != nil {
		return fmt.Errorf("fund: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s USDC made at %s\ntransaction %s\n", amount.Decimal(), to.Hex(), hash.Hex())
	return err
}

// sendFromFaucet sends by the faucet's key and waits for the block. Who sends at the same time may take the same nonce: then
// one of them is refused or not mined, and says so.
func sendFromFaucet(ctx context.Context, client *chain.Client, c evm.Call) (common.Hash, error) {
	key, err := devnet.FaucetKey()
	if err != nil {
		return common.Hash{}, err
	}
	nonce, err := client.NonceAt(ctx, crypto.PubkeyToAddress(key.PublicKey))
	if err != nil {
		return common.Hash{}, err
	}
	fees, err := client.Fees(ctx)
	if err != nil {
		return common.Hash{}, err
	}
	raw, hash, err := evm.SignTx(key, client.Network().ChainID, nonce, fees, c)
	if err != nil {
		return hash, err
	}
	if err := client.Send(ctx, raw); err != nil {
		return hash, err
	}
	ctx, cancel := context.WithTimeout(ctx, fundPatience)
	defer cancel()
	poll := time.NewTicker(fundPoll)
	defer poll.Stop()
	for {
		r, err := client.Receipt(ctx, hash)
		switch {
		case err == nil && r.OK:
			return hash, nil
		case err == nil:
			return hash, fmt.Errorf("the transaction %s was reverted", hash.Hex())
		case !errors.Is(err, evm.ErrNotFound):
			return hash, fmt.Errorf("the transaction %s was sent, and nothing is known of it: %w", hash.Hex(), err)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return hash, fmt.Errorf("no block has taken the transaction %s: look whether the money has come before you try again", hash.Hex())
		}
	}
}
