package ledger

import (
	"slices"
	"sync"
	"time"
)

// Histogram counts observations by size. Counts has one element a bound, for what is at most that bound and above the one
// before, and one more for the rest.
type Histogram struct {
	Bounds []int64
	Counts []uint64
	Sum    int64
}

func (h *Histogram) observe(v int64) {
	i, _ := slices.BinarySearch(h.Bounds, v)
	h.Counts[i]++
	h.Sum += v
}

func newHistogram(bounds ...int64) Histogram {
	return Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
}

// Stats is what a batch has committed since it began.
type Stats struct {
	Units    Histogram // in a commit
	Duration Histogram // of a commit with its statements, in microseconds
	Failed   uint64    // transactions that were given up
}

// stats gathers Stats.
type stats struct {
	mu  sync.Mutex
	all Stats
}

func newStats() *stats {
	return &stats{all: Stats{
		Units:    newHistogram(1, 2, 4, 8, 16, 32, 64, 128, maxBatch),
		Duration: newHistogram(250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000),
	}}
}

func (s *stats) committed(units int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Units.observe(int64(units))
	s.all.Duration.observe(took.Microseconds())
}

func (s *stats) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Failed++
}

// Stats tells what the batch has committed.
func (b *Batch) Stats() Stats {
	b.stats.mu.Lock()
	defer b.stats.mu.Unlock()
	out := b.stats.all
	out.Units.Counts, out.Duration.Counts = slices.Clone(out.Units.Counts), slices.Clone(out.Duration.Counts)
	return out
}
