package devnet

import (
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
)

const (
	sealRetry = time.Second // after a block that took nothing from a pool which is not empty
	txBacklog = 1024
)

// seal is go-ethereum's block producer replaced by one that minds the clock: it mines as soon as a transaction is
// executable, waits while the chain is too far ahead, and keeps an idle chain's time fresh.
func (n *Node) seal() {
	defer n.done.Done()
	txs := make(chan core.NewTxsEvent, txBacklog)
	sub := n.eth.TxPool().SubscribeTransactions(txs, true)
	defer sub.Unsubscribe()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-n.quit:
			return
		case <-sub.Err(): //nolint:errcheck // the pool is closing, and so are we
			return
		case <-txs:
		case <-timer.C:
		}
		for len(txs) > 0 {
			<-txs
		}
		timer.Reset(n.sealPending())
	}
}

// sealPending seals what may be sealed now and returns when to look again if no transaction comes before.
func (n *Node) sealPending() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if err := n.eth.TxPool().Sync(); err != nil {
			n.log.Error("transaction pool did not sync", "error", err)
			return sealRetry
		}
		if pending, _ := n.eth.TxPool().Stats(); pending == 0 {
			return n.beat()
		}
		if d := n.wait(); d > 0 {
			return d
		}
		if mined := n.commit(); mined == 0 {
			return sealRetry
		}
	}
}

// beat seals an empty block when the head is too old, and returns when the next one is due.
func (n *Node) beat() time.Duration {
	age := n.now().Sub(time.Unix(int64(n.eth.BlockChain().CurrentBlock().Time), 0))
	if age >= n.cfg.Heartbeat {
		n.commit()
		return n.cfg.Heartbeat
	}
	return n.cfg.Heartbeat - max(age, 0)
}

// wait is how long to wait until another block keeps within MaxAhead; not positive means not at all.
func (n *Node) wait() time.Duration {
	return time.Unix(int64(n.last)+1, 0).Sub(n.now()) - n.cfg.MaxAhead
}

func (n *Node) now() time.Time { return n.cfg.Clock().Add(n.offset) }

// commit seals one block and hands it to the disk. It returns the number of transactions in it. n.mu is held.
func (n *Node) commit() int {
	before := n.eth.BlockChain().CurrentBlock().Hash()
	hash := n.beacon.Commit()
	block := n.eth.BlockChain().GetBlockByHash(hash)
	if hash == before || block == nil {
		n.log.Error("block was not sealed", "head", hash)
		return 0
	}
	n.sealed(block.Time())
	return len(block.Transactions())
}

func (n *Node) sealed(at uint64) {
	n.last = max(n.last, at)
	if err := n.eth.ChainDb().SyncKeyValue(); err != nil {
		n.log.Error("block was not synced to disk", "error", err)
	}
}

// Commit seals a block at once, empty or not and even beyond MaxAhead, and returns the head's hash.
func (n *Node) Commit() common.Hash {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.commit()
	return n.eth.BlockChain().CurrentBlock().Hash()
}

// Fork makes an earlier block the head again, as a reorganization does. Transactions of the abandoned blocks go
// back to the pool and are soon sealed into other blocks. For tests.
func (n *Node) Fork(hash common.Hash) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.beacon.Fork(hash); err != nil {
		return fmt.Errorf("devnet: fork: %w", err)
	}
	return nil
}

// Replace is Fork with other transactions in place of those that had their sender and nonce: they must be dearer by a
// tenth. Nothing is sealed in between. For tests.
func (n *Node) Replace(hash common.Hash, by ...*types.Transaction) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.beacon.Fork(hash); err != nil {
		return fmt.Errorf("devnet: fork: %w", err)
	}
	if err := n.eth.TxPool().Sync(); err != nil {
		return fmt.Errorf("devnet: fork: %w", err)
	}
	errs := n.eth.TxPool().Add(by, true)
	for i, err := range errs {
		if errors.Is(err, txpool.ErrAlreadyKnown) { // it was in an abandoned block itself
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Advance moves the chain's time forward by d with one empty block, so that authorizations expire. It fails while
// transactions wait in the pool. For tests.
func (n *Node) Advance(d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.eth.TxPool().Sync(); err != nil {
		return fmt.Errorf("devnet: advance: %w", err)
	}
	if err := n.beacon.AdjustTime(d); err != nil {
		return fmt.Errorf("devnet: advance: %w", err)
	}
	n.offset += d
	n.sealed(n.eth.BlockChain().CurrentBlock().Time)
	return nil
}
