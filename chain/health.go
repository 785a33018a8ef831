package chain

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	restTime   = 5 * time.Second  // a failed node comes last for so long
	firstPause = time.Second      // a node that asks for less traffic is left alone for so long, and doubly each time
	longPause  = 30 * time.Second // where the doubling ends
	maxPause   = time.Minute      // the most that a node's own Retry-After is followed
	maxAnswer  = 32 << 20         // bytes; a larger one is refused, and a range of logs halved
)

// state says how useful a node is now.
type state int

const (
	fit     state = iota
	lagging       // some blocks behind the best
	resting       // failed just now
	paused        // has asked for less traffic
)

// health is what is known of a node's usefulness. node.mu guards it.
type health struct {
	head    uint64 // as last heard, 0 before
	lags    bool
	failing bool
	until   time.Time // rests
	paused  time.Time // is left alone
	pauses  int       // in a row
}

func (n *node) state(now time.Time) state {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case now.Before(n.health.paused):
		return paused
	case now.Before(n.health.until):
		return resting
	case n.health.lags:
		return lagging
	}
	return fit
}

// rest reports whether the node worked before.
func (n *node) rest(until time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh := !n.health.failing
	n.health.failing, n.health.until = true, until
	return fresh
}

// pause is rest for a node that asked for less traffic, for the time that it named or one that grows.
func (n *node) pause(now time.Time, asked time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh := !n.health.failing
	n.health.failing = true
	if now.Before(n.health.paused) {
		return fresh // requests that were under way together count once
	}
	own := longPause
	if n.health.pauses < 5 {
		own = min(longPause, firstPause<<n.health.pauses)
	}
	n.health.pauses++
	n.health.paused = now.Add(max(own, min(asked, maxPause)))
	return fresh
}

// recovered reports whether the node failed before.
func (n *node) recovered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	failed := n.health.failing
	n.health.failing, n.health.pauses = false, 0
	n.health.until, n.health.paused = time.Time{}, time.Time{}
	return failed
}

// reached notes the node's height and returns it.
func (n *node) reached(number uint64) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.health.head = number
	return number
}

func (n *node) height() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.health.head
}

// lag notes whether the node lags and returns what was noted before.
func (n *node) lag(lags bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.health.lags
	n.health.lags = lags
	return before
}

// busyError says that a node asks for less traffic, and for how long if it said so.
type busyError struct {
	words string
	after time.Duration
}

func (e *busyError) Error() string {
	if e.after > 0 {
		return fmt.Sprintf("%s, for %s", e.words, e.after)
	}
	return e.words
}

// limits is HTTP with a bound on answers, and with the Retry-After header, which go-ethereum's client drops.
type limits struct{ base http.RoundTripper }

func (l limits) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	asked := resp.Header.Get("Retry-After")
	if resp.StatusCode == http.StatusTooManyRequests || (resp.StatusCode == http.StatusServiceUnavailable && asked != "") {
		seconds, bad := strconv.ParseUint(asked, 10, 16) // the other form, a date, is read as no word
		if bad != nil {
			seconds = 0
		}
		return nil, errors.Join(&busyError{words: "HTTP " + resp.Status, after: time.Duration(seconds) * time.Second}, resp.Body.Close())
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}
