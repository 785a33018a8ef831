package core

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"bursar/core/ledger"
)

// NewsKind says what changed.
type NewsKind string

// The kinds of news.
const (
	BalanceChanged  NewsKind = "balance_changed"
	SessionChanged  NewsKind = "session_changed"
	PaymentSettled  NewsKind = "payment_settled"
	ApprovalChanged NewsKind = "approval_changed"
)

// News says that something has changed, after the commit. The database is the truth; news only makes readers look.
type News struct {
	Kind      NewsKind      `json:"k"`
	OrgID     uuid.UUID     `json:"o"`
	AgentID   uuid.UUID     `json:"a"`
	SubjectID uuid.UUID     `json:"s"` // the account, session, transaction or approval
	Account   *ledger.State `json:"-"` // BalanceChanged, when this process made the change
}

// Bus hands news to subscribers inside the process. Publishing never blocks.
type Bus struct {
	mu    sync.Mutex
	subs  map[*subscriber]struct{}
	relay func([]News) // tells other processes; may be nil
}

type subscriber struct {
	want    func(News) bool
	deliver func(News)
}

// NewBus makes a bus without subscribers.
func NewBus() *Bus { return &Bus{subs: map[*subscriber]struct{}{}} }

// Publish delivers news to this process and hands it to the relay.
func (b *Bus) Publish(news ...News) {
	if len(news) == 0 {
		return
	}
	b.deliver(news)
	b.mu.Lock()
	relay := b.relay
	b.mu.Unlock()
	if relay != nil {
		relay(news)
	}
}

func (b *Bus) setRelay(relay func([]News)) {
	b.mu.Lock()
	b.relay = relay
	b.mu.Unlock()
}

func (b *Bus) deliver(news []News) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range news {
		for s := range b.subs {
			if s.want(n) {
				s.deliver(n)
			}
		}
	}
}

func (b *Bus) subscribe(ctx context.Context, s *subscriber) {
	b.mu.Lock()
	b.subs[s] = struct{}{}
	b.mu.Unlock()
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		delete(b.subs, s)
		b.mu.Unlock()
	})
}

// latest gathers news by subject for a reader that wants the newest state only: however slow the reader is,
// one entry a subject waits.
func (b *Bus) latest(ctx context.Context, want func(News) bool) *slot {
	s := &slot{wake: make(chan struct{}, 1), news: map[uuid.UUID]News{}}
	b.subscribe(ctx, &subscriber{want: want, deliver: s.put})
	return s
}

type slot struct {
	mu    sync.Mutex
	order []uuid.UUID
	news  map[uuid.UUID]News
	wake  chan struct{}
}

func (s *slot) put(n News) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, waiting := s.news[n.SubjectID]
	switch {
	case !waiting:
		s.order = append(s.order, n.SubjectID)
	case old.Account != nil && n.Account != nil && old.Account.Version > n.Account.Version:
		return // two commits may be told in the other order
	}
	s.news[n.SubjectID] = n
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take waits for news and returns all that is there, oldest subject first. It returns nil when ctx ends.
func (s *slot) take(ctx context.Context) []News {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		s.mu.Lock()
		out := make([]News, 0, len(s.order))
		for _, id := range s.order {
			out = append(out, s.news[id])
		}
		s.order, s.news = nil, map[uuid.UUID]News{}
		s.mu.Unlock()
		if len(out) > 0 {
			return out
		}
	}
}

// logDepth is how many news a log stream keeps for a slow reader before it is cut off.
const logDepth = 64

// log gathers every news in order. overflow is closed when the reader falls behind; it must then read history.
func (b *Bus) log(ctx context.Context, want func(News) bool) (news <-chan News, overflow <-chan struct{}) {
	ch, over := make(chan News, logDepth), make(chan struct{})
	var once sync.Once
	b.subscribe(ctx, &subscriber{want: want, deliver: func(n News) {
		select {
		case ch <- n:
		default:
			once.Do(func() { close(over) })
		}
	}})
	return ch, over
}
