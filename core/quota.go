package core

import (
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Quota counts what each credential has under way in this process.
type Quota struct {
	Max int // of one credential; zero: there is no bound

	mu   sync.Mutex
	open map[holder]int
}

// holder is a credential; a person's logins count together.
type holder struct{ user, credential uuid.UUID }

// Take counts one more of a credential until done is called, which may be repeated; or reports that there are too many.
func (q *Quota) Take(p Principal) (done func(), ok bool) {
	who := holder{p.UserID, p.CredentialID}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.Max > 0 && q.open[who] >= q.Max {
		return nil, false
	}
	if q.open == nil {
		q.open = map[holder]int{}
	}
	q.open[who]++
	return sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.open[who]--; q.open[who] == 0 {
			delete(q.open, who)
		}
	}), true
}

// begin counts a call until it has ended, with the stream of its answer.
func (f *Payments) begin(p Principal) (done func(), err error) {
	done, ok := f.calls.Take(p)
	if !ok {
		return nil, &Error{Code: RateLimited, Message: "Too many calls of this credential are under way", RetryAfter: time.Second}
	}
	return done, nil
}

// countedStream is the stream of a call that ends with it.
type countedStream struct {
	io.ReadCloser
	done func()
}

// Close ends the stream, and the call.
func (c countedStream) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}
