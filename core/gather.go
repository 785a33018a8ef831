package core

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// gather answers many readers by one query: who asks while one is under way is in the next, which begins after they
// asked and so shows them nothing older than an own query would. A reader alone waits for nobody, and asks by itself.
type gather[K comparable, V any] struct {
	load func(ctx context.Context, keys []K) (map[K]V, error)

	mu      sync.Mutex
	next    *reading[K, V]
	running bool
}

type reading[K comparable, V any] struct {
	keys  map[K]bool
	done  chan struct{}
	found map[K]V
	err   error
}

const gatherLimit = 10 * time.Second // for one query, whose readers may each have left

// get reads one value; false says that there is none.
func (g *gather[K, V]) get(ctx context.Context, key K) (V, bool, error) {
	if !g.alone() {
		return g.ask(ctx, key).get(ctx)
	}
	defer g.proceed(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	found, err := g.load(ctx, []K{key})
	v, ok := found[key]
	return v, ok, err
}

// alone reports whether nobody reads. Then the caller does, and has to proceed.
func (g *gather[K, V]) alone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return false
	}
	g.running = true
	return true
}

// proceed begins to read for those who have asked meanwhile.
func (g *gather[K, V]) proceed(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running = g.next != nil; g.running {
		go g.run(ctx)
	}
}

// ask begins to read one value, for a caller who has something else to do meanwhile.
func (g *gather[K, V]) ask(ctx context.Context, key K) asked[K, V] {
	return asked[K, V]{key, g.join(ctx, key)}
}

// asked is a value that is being read.
type asked[K comparable, V any] struct {
	key K
	in  *reading[K, V]
}

// get waits for it; false says that there is none.
func (a asked[K, V]) get(ctx context.Context) (V, bool, error) {
	var none V
	select {
	case <-a.in.done:
	case <-ctx.Done():
		return none, false, ctx.Err()
	}
	v, ok := a.in.found[a.key]
	return v, ok, a.in.err
}

func (g *gather[K, V]) join(ctx context.Context, key K) *reading[K, V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		g.next = &reading[K, V]{keys: map[K]bool{}, done: make(chan struct{})}
	}
	g.next.keys[key] = true
	if !g.running {
		g.running = true
		go g.run(context.WithoutCancel(ctx))
	}
	return g.next
}

// run reads until nobody waits.
func (g *gather[K, V]) run(ctx context.Context) {
	for {
		g.mu.Lock()
		r := g.next
		g.next = nil
		if r == nil {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		g.read(ctx, r)
	}
}

func (g *gather[K, V]) read(ctx context.Context, r *reading[K, V]) {
	defer close(r.done)
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	r.found, r.err = g.load(ctx, slices.Collect(maps.Keys(r.keys)))
}
