package core

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// readings is a database that answers when it is told to.
type readings struct {
	mu      sync.Mutex
	queries [][]int
	answer  chan error
}

func (r *readings) load(ctx context.Context, keys []int) (map[int]string, error) {
	slices.Sort(keys)
	r.mu.Lock()
	r.queries = append(r.queries, keys)
	r.mu.Unlock()
	select {
	case err := <-r.answer:
		return map[int]string{1: "one", 2: "two"}, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestGather: who asks while another reads waits for one query of all of them, which begins afterwards, whatever becomes of
// the first: it is answered, fails, or its reader leaves.
func TestGather(t *testing.T) {
	for name, first := range map[string]func(*readings, context.CancelFunc) error{
		"answered": func(r *readings, _ context.CancelFunc) error { r.answer <- nil; return nil },
		"failed":   func(r *readings, _ context.CancelFunc) error { r.answer <- errMissing; return errMissing },
		"left":     func(_ *readings, leave context.CancelFunc) error { leave(); return context.Canceled },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &readings{answer: make(chan error)}
				g := &gather[int, string]{load: r.load}
				type got struct {
					value string
					found bool
					err   error
				}
				ask := func(ctx context.Context, key int) chan got {
					c := make(chan got, 1)
					go func() {
						v, found, err := g.get(ctx, key)
						c <- got{v, found, err}
					}()
					synctest.Wait()
					return c
				}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				one := ask(ctx, 1)
				two, three, again := ask(t.Context(), 2), ask(t.Context(), 3), ask(t.Context(), 2)
				want := first(r, leave)
				if got := <-one; !errors.Is(got.err, want) || (want == nil && got.value != "one") {
					t.Errorf("the first: %+v", got)
				}
				r.answer <- nil
				for _, c := range []chan got{two, again} {
					if got := <-c; got.value != "two" || !got.found || got.err != nil {
						t.Errorf("one of the others: %+v", got)
					}
				}
				if got := <-three; got.found || got.err != nil {
					t.Errorf("what is not there: %+v", got)
				}
				synctest.Wait()
				last := ask(t.Context(), 1)
				r.answer <- nil
				if got := <-last; got.value != "one" {
					t.Errorf("the last: %+v", got)
				}
				if len(r.queries) != 3 || !slices.Equal(r.queries[1], []int{2, 3}) {
					t.Errorf("%v", r.queries)
				}
			})
		})
	}
}

var errMissing = errors.New("no database")
