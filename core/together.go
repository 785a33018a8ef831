package core

import (
	"context"
	"sync"
	"time"
)

// together lets callers share work that is the same for all of them: who comes while a run is under way shares the
// next one, which begins after they came and so sees what they want seen.
type together struct {
	turn chan struct{} // full while a run is under way

	mu   sync.Mutex
	next *sharedRun // the run that has not begun yet, if anybody waits for one
}

type sharedRun struct {
	done bool // guarded by the turn
	err  error
}

// sharedLimit bounds one run, whose callers may each have left.
const sharedLimit = time.Minute

func newTogether() *together { return &together{turn: make(chan struct{}, 1)} }

func (t *together) do(ctx context.Context, f func(context.Context) error) error {
	t.mu.Lock()
	if t.next == nil {
		t.next = &sharedRun{}
	}
	r := t.next
	t.mu.Unlock()
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.turn }()
	if r.done {
		return r.err
	}
	t.mu.Lock()
	t.next = nil
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedLimit)
	defer cancel()
	r.err = f(ctx)
	r.done = true
	return r.err
}
