package core

import "sync"

// recent remembers some things of this process's own, up to a bound: then any of them is forgotten for another. What it
// says is a guess to begin with, never a fact to rely on, unless the fact cannot change.
type recent[K comparable, V any] struct {
	mu    sync.Mutex
	known map[K]V
}

const recentMost = 4096 // of each kind

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.known[key]
	return v, ok
}

func (r *recent[K, V]) set(key K, v V) {
	r.change(key, func(V) V { return v })
}

// change makes a value of the one before, which is zero for a key that is new.
func (r *recent[K, V]) change(key K, to func(V) V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[K]V{}
	}
	old, met := r.known[key]
	if !met && len(r.known) >= recentMost {
		for one := range r.known {
			delete(r.known, one)
			break
		}
	}
	r.known[key] = to(old)
}

func (r *recent[K, V]) forget(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, key)
}
