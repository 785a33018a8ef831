// Package wstest is a small GraphQL API that misbehaves on request, for the tests of package ws.
package wstest

//go:generate go run github.com/99designs/gqlgen generate --config gqlgen.yml

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"bursar/graph/ws"
)

// Resolver is the API. Slow and pay answer when Release is closed.
type Resolver struct {
	Release chan struct{}
	Started chan struct{} // one value for each slow and pay that began
	Live    atomic.Int64  // subscriptions whose context has not ended
	Ended   atomic.Int64  // slow calls whose context ended first

	mu    sync.Mutex
	feeds map[chan int]struct{}
}

// New makes a Resolver.
func New() *Resolver {
	return &Resolver{
		Release: make(chan struct{}), Started: make(chan struct{}, 100), feeds: map[chan int]struct{}{},
	}
}

// ErrRefused is what the field refused returns.
var ErrRefused = errors.New("not yours")

// ErrOverflow is what the field fails ends with.
var ErrOverflow = errors.New("fell behind")

// Publish hands a value to every feed, waiting for each.
func (r *Resolver) Publish(v int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ch := range r.feeds {
		ch <- v
	}
}

// Feeds counts the subscribers of feed.
func (r *Resolver) Feeds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.feeds)
}

// Query implements ResolverRoot.
func (r *Resolver) Query() QueryResolver { return query{r} }

// Mutation implements ResolverRoot.
func (r *Resolver) Mutation() MutationResolver { return mutation{r} }

// Subscription implements ResolverRoot.
func (r *Resolver) Subscription() SubscriptionResolver { return subscription{r} }

type query struct{ *Resolver }

func (query) Hello(_ context.Context, name string) (string, error) { return "hello " + name, nil }
func (query) Fail(context.Context) (*string, error)                { return nil, errors.New("failed") }
func (query) Panics(context.Context) (*string, error)              { panic("a resolver's secret") }

func (q query) Slow(ctx context.Context) (string, error) {
	q.Started <- struct{}{}
	select {
	case <-q.Release:
		return "done", nil
	case <-ctx.Done():
		q.Ended.Add(1)
		return "", ctx.Err()
	}
}

type mutation struct{ *Resolver }

func (m mutation) Pay(_ context.Context, amount int) (int, error) {
	m.Started <- struct{}{}
	<-m.Release
	return amount, nil
}

type subscription struct{ *Resolver }

// stream sends what each makes of 1, 2, 3 … to, without a buffer.
func stream[T any](ctx context.Context, r *Resolver, to int, each func(int) T) (<-chan T, error) {
	ch := make(chan T)
	r.Live.Add(1)
	go func() {
		defer r.Live.Add(-1)
		defer close(ch)
		for i := range to {
			select {
			case ch <- each(i + 1):
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, nil
}

func (s subscription) Count(ctx context.Context, to int) (<-chan int, error) {
	return stream(ctx, s.Resolver, to, func(i int) int { return i })
}

func (s subscription) Blobs(ctx context.Context, to, bytes int) (<-chan string, error) {
	blob := strings.Repeat("x", bytes)
	return stream(ctx, s.Resolver, to, func(int) string { return blob })
}

func (s subscription) Feed(ctx context.Context) (<-chan int, error) {
	ch := make(chan int, 16)
	s.Live.Add(1)
	s.mu.Lock()
	s.feeds[ch] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		delete(s.feeds, ch)
		s.mu.Unlock()
		s.Live.Add(-1)
	})
	return ch, nil
}

func (subscription) Refused(context.Context) (<-chan int, error) { return nil, ErrRefused }

func (subscription) Panics(context.Context) (<-chan int, error) { panic("a resolver's secret") }

func (subscription) Fails(ctx context.Context) (<-chan int, error) {
	ch := make(chan int, 1)
	ch <- 1
	ws.Fail(ctx, ErrOverflow)
	close(ch)
	return ch, nil
}
