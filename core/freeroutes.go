package core

import (
	"sync"

	"github.com/google/uuid"
)

// freeRoutes remembers which routes cost nothing the last time, so that what is remembered of their price is not read for
// nothing. It is this process's own, and a guess: a route that asks for money after all has it read then.
type freeRoutes struct {
	mu    sync.Mutex
	known map[uuid.UUID]bool
}

const freeMost = 4096 // routes; some are forgotten for others

func (f *freeRoutes) has(route uuid.UUID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[route]
}

func (f *freeRoutes) set(route uuid.UUID, free bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !free {
		delete(f.known, route)
		return
	}
	if f.known == nil {
		f.known = map[uuid.UUID]bool{}
	}
	if len(f.known) >= freeMost && !f.known[route] {
		for one := range f.known {
			delete(f.known, one)
			break
		}
	}
	f.known[route] = true
}
