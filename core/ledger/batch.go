package ledger

import (
	"context"
	"errors"
	"time"
)

// Bounds of the batch.
const (
	maxBatch     = 256              // units in one transaction
	queueLength  = 4096             // units that wait; beyond it callers wait to enter
	batchTimeout = 10 * time.Second // for one transaction
	maxTries     = 3                // for a unit whose transaction failed
)

// ErrClosed says that the program is stopping.
var ErrClosed = errors.New("ledger: closed")

// Batch commits units in groups: what queues up while one transaction is at the disk is the next transaction.
// An idle server so commits a unit at once, and a busy one shares each commit among all who wait. Each caller
// gets its own verdict, after COMMIT.
type Batch struct {
	queue chan waiting
	done  chan struct{}
	begin func(ctx context.Context) (Tx, error)
	clock func() time.Time
	stats *stats
}

type waiting struct {
	unit   Unit
	answer chan answer
}

type answer struct {
	result Result
	err    error
}

// NewBatch starts the batch's goroutine, which ends with ctx. begin opens a transaction that may write.
func NewBatch(ctx context.Context, clock func() time.Time, begin func(context.Context) (Tx, error)) *Batch {
	b := &Batch{queue: make(chan waiting, queueLength), done: make(chan struct{}), begin: begin, clock: clock, stats: newStats()}
	go b.run(ctx)
	return b
}

// Do commits one unit and returns its verdict. Once the unit is queued the caller's context no longer counts:
// it may land, so its outcome is waited for. An error means that the outcome is the database's to tell; the
// unit's keys make it safe to ask again.
func (b *Batch) Do(ctx context.Context, u Unit) (Result, error) {
	w := waiting{unit: u, answer: make(chan answer, 1)}
	select {
	case <-b.done:
		return Result{}, ErrClosed
	default:
	}
	select {
	case b.queue <- w:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-b.done:
		return Result{}, ErrClosed
	}
	select {
	case a := <-w.answer:
		return a.result, a.err
	case <-b.done:
		// The goroutine answers everything it took before it ends; what is left in the queue was not begun.
		select {
		case a := <-w.answer:
			return a.result, a.err
		default:
			return Result{}, ErrClosed
		}
	}
}

func (b *Batch) run(ctx context.Context) {
	defer close(b.done)
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-b.queue:
			group := append(make([]waiting, 0, maxBatch), first)
		drain:
			for len(group) < maxBatch {
				select {
				case w := <-b.queue:
					group = append(group, w)
				default:
					break drain
				}
			}
			b.commit(context.WithoutCancel(ctx), group) // what was taken is finished, also when the program stops
		}
	}
}

// commit runs the group as one transaction. When that fails each unit gets transactions of its own, so that
// one bad row refuses one caller only; a unit whose first commit did land is recognised by its keys.
func (b *Batch) commit(ctx context.Context, group []waiting) {
	units := make([]Unit, len(group))
	for i, w := range group {
		units[i] = w.unit
	}
	results, err := b.try(ctx, units)
	if err == nil {
		for i, w := range group {
			w.answer <- answer{result: results[i]}
		}
		return
	}
	for _, w := range group {
		var a answer
		for range maxTries {
			var one []Result
			if one, a.err = b.try(ctx, []Unit{w.unit}); a.err == nil {
				a.result = one[0]
				break
			}
		}
		w.answer <- a
	}
}

func (b *Batch) try(ctx context.Context, units []Unit) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	tx, err := b.begin(ctx)
	if err != nil {
		b.stats.failed()
		return nil, err
	}
	start := b.clock()
	results, err := Apply(ctx, tx, start, units)
	if err != nil {
		b.stats.failed()
		return nil, errors.Join(err, tx.SQL.Rollback())
	}
	if err := tx.SQL.Commit(); err != nil {
		b.stats.failed()
		return nil, err
	}
	b.stats.committed(len(units), b.clock().Sub(start))
	tx.Prepared.warm(ctx)
	return results, nil
}
