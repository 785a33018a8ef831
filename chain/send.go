package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"bursar/evm"
)

// Send hands a signed transaction to all nodes but those that have asked for a pause, and returns nil at the first acceptance. Otherwise the error is, in
// this order of what was heard: evm.ErrKnown, evm.ErrUnderpriced, evm.ErrNoGas, evm.ErrReverted, and
// evm.ErrUnavailable for everything else. No error proves that the transaction will not be mined; the same bytes
// may be sent again at any time.
func (c *Client) Send(ctx context.Context, raw []byte) error {
	answers := make(chan error, len(c.nodes))
	nodes := c.order()
	// The other nodes get it too when the first has accepted, or the caller has left; each has its own time limit.
	free := context.WithoutCancel(ctx)
	for _, n := range nodes {
		c.running.Go(func() { answers <- c.sendTo(free, n, raw) })
	}
	var failures []error
	for range nodes {
		select {
		case err := <-answers:
			if err == nil {
				return nil
			}
			failures = append(failures, err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", evm.ErrUnavailable, ctx.Err())
		}
	}
	if len(failures) == 0 {
		return errPaused()
	}
	return worst(failures)
}

func (c *Client) sendTo(ctx context.Context, n *node, raw []byte) error {
	err := c.ready(ctx, n)
	if err == nil {
		err = sendClass(n.call(ctx, nil, "eth_sendRawTransaction", hexutil.Encode(raw)))
	}
	var busy *busyError
	if errors.As(err, &busy) {
		c.failed(n, err)
	} else if errors.Is(err, evm.ErrUnavailable) {
		c.log.WarnContext(ctx, "chain node did not take a transaction", "host", n.host, "error", err)
	}
	return err
}

// worst picks the failure that tells the caller most.
func worst(failures []error) error {
	for _, class := range []error{evm.ErrKnown, evm.ErrUnderpriced, evm.ErrNoGas, evm.ErrReverted} {
		for _, err := range failures {
			if errors.Is(err, class) {
				return err
			}
		}
	}
	return errors.Join(failures...) // each wraps evm.ErrUnavailable
}
