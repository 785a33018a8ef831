package core

import (
	"context"

	"github.com/google/uuid"

	"bursar/ent/session"
)

// Watch streams sessions: the named one as it is first, then each new state of it; with id nil, each new state
// of every session of the organisation. A slow reader gets the newest state only.
func (s *Sessions) Watch(ctx context.Context, p Principal, id *uuid.UUID) (<-chan *SessionView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	if id != nil {
		if _, err := of(p, s.db.readEnt).sessions().Where(session.ID(*id)).OnlyID(ctx); err != nil {
			return nil, missing(err, "Session")
		}
	}
	news := s.bus.latest(ctx, func(n News) bool {
		return n.Kind == SessionChanged && n.OrgID == p.OrgID && (id == nil || n.SubjectID == *id)
	})
	out := make(chan *SessionView)
	go func() {
		defer close(out)
		told := map[uuid.UUID]string{}
		if id != nil {
			s.tell(ctx, p, out, told, *id)
		}
		for batch := news.take(ctx); batch != nil; batch = news.take(ctx) {
			for _, n := range batch {
				s.tell(ctx, p, out, told, n.SubjectID)
			}
		}
	}()
	return out, nil
}

// tell reads a session and passes it on unless this very state was told.
func (s *Sessions) tell(ctx context.Context, p Principal, out chan<- *SessionView, told map[uuid.UUID]string, id uuid.UUID) {
	v, err := s.Get(ctx, p, id)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "could not read a changed session", "session_id", id, "error", err)
		}
		return
	}
	mark := v.mark()
	if told[id] == mark {
		return
	}
	select {
	case out <- v:
		told[id] = mark
	case <-ctx.Done():
	}
}

// mark is equal for two readings of one state.
func (v *SessionView) mark() string {
	text := func(p *string) string {
		if p == nil {
			return "-"
		}
		return *p
	}
	return string(v.Status) + "|" + v.Used.String() + "|" + v.Remaining.String() + "|" + v.Refunded.String() + "|" +
		text(v.DepositTxHash) + "|" + text(v.RefundTxHash)
}
