package chaintest

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"bursar/chain"
	"bursar/evm"
)

// Bounds of Deliver.
const (
	pause     = 2 * time.Millisecond
	poolTries = 500
)

// Deliver sends a call from the key's next nonce and waits until it is mined; a revert is a receipt like any other. It
// returns when the node counts the nonce as used as well: a node answers with a receipt a moment before its newest state
// has it, and who read the nonce in between would try to replace what is mined. One at a time for a key.
func Deliver(ctx context.Context, c *chain.Client, key *ecdsa.PrivateKey, call evm.Call) (evm.Receipt, error) {
	from := crypto.PubkeyToAddress(key.PublicKey)
	nonce, err := c.NonceAt(ctx, from)
	if err != nil {
		return evm.Receipt{}, err
	}
	fees, err := c.Fees(ctx)
	if err != nil {
		return evm.Receipt{}, err
	}
	raw, hash, err := evm.SignTx(key, c.Network().ChainID, nonce, fees, call)
	if err != nil {
		return evm.Receipt{}, err
	}
	poll := time.NewTicker(pause)
	defer poll.Stop()
	for tries := 0; ; tries++ {
		// The node's pool takes a block up a moment after its state has: ether that is there may not count yet.
		if err = c.Send(ctx, raw); err == nil {
			break
		}
		if !errors.Is(err, evm.ErrNoGas) || tries == poolTries {
			return evm.Receipt{}, err
		}
		<-poll.C
	}
	for {
		receipt, err := c.Receipt(ctx, hash)
		if err == nil {
			var next uint64
			if next, err = c.NonceAt(ctx, from); err == nil && next > nonce {
				return receipt, nil
			}
		}
		if err != nil && !errors.Is(err, evm.ErrNotFound) {
			return evm.Receipt{TxHash: hash}, err
		}
		select {
		case <-ctx.Done():
			return evm.Receipt{TxHash: hash}, ctx.Err()
		case <-poll.C:
		}
	}
}
