package chain

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
)

const (
	firstRetry = time.Second      // after a websocket was lost; doubled each time
	longRetry  = 30 * time.Second // where the doubling ends
	newHeads   = 16               // headers that may wait to be turned into one wake-up
)

// Wake signals, soon after it, that a new block may be there, until ctx ends. Several blocks may be one signal, a
// signal may come without a block, and none may come at all: it saves waiting for the next poll and replaces none.
// It listens to the websocket URLs of the nodes and to those that are added here, and comes back by itself when one
// is lost. Without any, the channel stays silent.
func (c *Client) Wake(ctx context.Context, more ...string) <-chan struct{} {
	wake := make(chan struct{}, 1)
	urls := more
	for _, n := range c.nodes {
		urls = append(urls[:len(urls):len(urls)], n.url)
	}
	for _, u := range urls {
		if strings.HasPrefix(u, "ws://") || strings.HasPrefix(u, "wss://") {
			c.running.Go(func() { c.listen(ctx, u, wake) })
		}
	}
	return wake
}

func (c *Client) listen(ctx context.Context, address string, wake chan<- struct{}) {
	host := ""
	if u, err := url.Parse(address); err == nil {
		host = u.Host // the rest may hold a secret
	}
	wait, quiet := firstRetry, false
	for ctx.Err() == nil {
		heard := subscribed(ctx, address, wake)
		if heard {
			wait, quiet = firstRetry, false
		}
		if ctx.Err() != nil {
			return
		}
		if !quiet {
			quiet = true
			c.log.InfoContext(ctx, "no news of blocks by websocket, polling only", "host", host)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, longRetry)
	}
}

// subscribed passes on new heads until the connection is lost, and reports whether there was any.
func subscribed(ctx context.Context, address string, wake chan<- struct{}) bool {
	dial, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := rpc.DialContext(dial, address)
	if err != nil {
		return false
	}
	defer client.Close()
	heads := make(chan struct{}, newHeads) // the headers themselves are of no use: who is woken asks
	sub, err := client.EthSubscribe(dial, heads, "newHeads")
	if err != nil {
		return false
	}
	defer sub.Unsubscribe()
	signal(wake) // a block may have come while nobody listened
	heard := false
	for {
		select {
		case <-heads:
			heard = true
			signal(wake)
		case <-sub.Err(): //nolint:errcheck // why it ended does not matter, it is begun anew
			return heard
		case <-ctx.Done():
			return heard
		}
	}
}

func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default: // one is waiting already
	}
}
