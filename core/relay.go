package core

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"
	"github.com/lib/pq"
)

// The relay carries news between processes that share one PostgreSQL. It runs beside the money, never in its
// transactions (a NOTIFY there serialises commits), and may lose news: readers of state look again, and history
// is in the database.
const (
	relayChannel    = "bursar_news"
	relayQueue      = 4096
	relayPayload    = 7000 // bytes; PostgreSQL takes 8000
	relayGather     = 30 * time.Millisecond
	relayMinBackoff = 100 * time.Millisecond
	relayMaxBackoff = 10 * time.Second
)

type relayed struct {
	From uuid.UUID `json:"f"`
	News []News    `json:"n"`
}

// Relay runs until ctx ends. On SQLite, which has one process, it only waits.
func (c *Core) Relay(ctx context.Context) error {
	s := c.Auth.store
	if s.db.Dialect != dialect.Postgres {
		<-ctx.Done()
		return nil
	}
	me := uuid.New()
	own := `{"f":"` + me.String() + `"` // how every notification of this process begins
	out := make(chan News, relayQueue)
	s.bus.setRelay(func(news []News) {
		for _, n := range news {
			n.Account = nil // others read the newest state themselves
			select {
			case out <- n:
			default: // lossy by design, see above
			}
		}
	})
	defer s.bus.setRelay(nil)
	l := pq.NewListener(s.db.URL, relayMinBackoff, relayMaxBackoff, func(_ pq.ListenerEventType, err error) {
		if err != nil {
			s.log.WarnContext(ctx, "relay of news lost its connection", "error", err)
		}
	})
	defer func() { _ = l.Close() }() // the process is stopping
	if err := l.Listen(relayChannel); err != nil {
		return err
	}
	go s.notify(ctx, me, out)
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-l.Notify:
			if n == nil {
				continue // reconnected
			}
			if strings.HasPrefix(n.Extra, own) {
				continue
			}
			var r relayed
			if err := json.Unmarshal([]byte(n.Extra), &r); err == nil {
				s.bus.deliver(r.News)
			}
		}
	}
}

// notify gathers news for a moment and sends it in as few notifications as fit.
func (s *store) notify(ctx context.Context, me uuid.UUID, out <-chan News) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-out:
			batch := []News{first}
			if pause(ctx, relayGather) != nil {
				return
			}
		drain:
			for {
				select {
				case n := <-out:
					batch = append(batch, n)
				default:
					break drain
				}
			}
			for batch = newest(batch); len(batch) > 0; {
				batch = s.notifySome(ctx, me, batch)
			}
		}
	}
}

// newest drops what a later piece of the same kind about the same subject has overtaken: those who hear of a state look
// it up. A payment is told once anyway.
func newest(batch []News) []News {
	type about struct {
		kind    NewsKind
		subject uuid.UUID
	}
	seen := make(map[about]bool, len(batch))
	return slices.DeleteFunc(batch, func(n News) bool {
		key := about{n.Kind, n.SubjectID}
		again := seen[key]
		seen[key] = true
		return again
	})
}

// notifySome sends what fits into one notification and returns the rest.
func (s *store) notifySome(ctx context.Context, me uuid.UUID, batch []News) []News {
	n := len(batch)
	text, err := json.Marshal(relayed{me, batch})
	for err == nil && len(text) > relayPayload && n > 1 {
		n /= 2
		text, err = json.Marshal(relayed{me, batch[:n]})
	}
	if err == nil {
		_, err = s.db.write.ExecContext(ctx, "SELECT pg_notify($1, $2)", relayChannel, string(text))
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not relay news", "error", err)
	}
	return batch[n:]
}
