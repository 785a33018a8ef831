package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/idempotencykey"
	"bursar/ent/transaction"
)

// What tells one request under an idempotency key from another, what is kept of its answer, and what answers it when that
// is lost.

// passing are headers that tracing and intermediaries write anew for each attempt, and that say nothing of what is
// asked for.
var passing = []string{
	"Accept-Encoding", "Baggage", "Date", "Forwarded", "Traceparent", "Tracestate", "User-Agent", "Via", "X-Amzn-Trace-Id",
	"X-Cloud-Trace-Context", "X-Correlation-Id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
	"X-Real-Ip", "X-Request-Id",
}

// same is everything of a call that makes it this call. How long to wait for the answer is not part of it.
func (in FetchInput) same() []string {
	session, limit := in.SessionID, ""
	if id, err := uuid.Parse(session); err == nil {
		session = id.String()
	}
	if in.MaxCost != nil {
		limit = in.MaxCost.String()
	}
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	out := []string{in.Agent, strconv.FormatBool(in.DefaultWallet), session, in.Method, in.URL, limit, string(in.Body), in.Service}
	header := cleanRequestHeader(in.Header)
	for _, name := range passing {
		header.Del(name)
	}
	lines := make([]string, 0, len(header))
	for name, values := range header {
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { // by name; of one name, in order
		nameA, _, _ := strings.Cut(a, ":")
		nameB, _, _ := strings.Cut(b, ":")
		return strings.Compare(nameA, nameB)
	})
	return append(out, lines...)
}

// keptFetch is a call's answer in a form that JSON keeps byte for byte: a header's value need not be UTF-8.
type keptFetch struct {
	*FetchResult
	Header map[string][][]byte
}

func keepFetch(r *FetchResult) keptFetch {
	k := keptFetch{FetchResult: r, Header: map[string][][]byte{}}
	if r == nil {
		return k
	}
	for name, values := range r.Header {
		for _, v := range values {
			k.Header[name] = append(k.Header[name], []byte(v))
		}
	}
	return k
}

func (k keptFetch) result() *FetchResult {
	if k.FetchResult == nil {
		return nil
	}
	k.FetchResult.Header = make(http.Header, len(k.Header))
	for name, values := range k.Header {
		for _, v := range values {
			k.FetchResult.Header[name] = append(k.FetchResult.Header[name], string(v))
		}
	}
	return k.FetchResult
}

// lostAnswer tells a caller of a payment whose answer is gone. It is never paid again.
func (f *Payments) lostAnswer(ctx context.Context, id uuid.UUID) (keptFetch, error) {
	t, err := f.db.readEnt.Transaction.Get(ctx, id)
	if err != nil {
		return keptFetch{}, err
	}
	state := map[transaction.Status]string{
		transaction.StatusPending: "pending", transaction.StatusUnknown: "not decided yet", transaction.StatusSuccess: "charged",
		transaction.StatusFailed: "failed, nothing was charged",
	}
	return keptFetch{}, &Error{
		Code: Conflict, Payment: id.String(),
		Message: fmt.Sprintf("The answer to this request was not kept, and it is not paid again; its payment is %s", state[t.Status]),
	}
}

// begunDrain is what a drain has sent.
func (f *Funding) begunDrain(ctx context.Context, id uuid.UUID) (*DrainResult, error) {
	op, err := f.db.readEnt.Operation.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &DrainResult{Drained: true, Amount: op.Amount, TxHash: op.TxHash, To: op.ToAddress}, nil
}

// end keeps the answer. The caller has a good answer whether or not that succeeds: without it a repeat is answered
// from the record.
func (r *run) end(ctx context.Context, v any, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout) // also for a caller who has left
	defer cancel()
	if err := r.keep(ctx, v, cause); err != nil {
		r.log.WarnContext(ctx, "the answer under an idempotency key is not kept", "error", err)
	}
}

// keep stores an answer that is to be kept. Without one, a request that has begun nothing is forgotten, so that its
// caller may mend it and send it again under the same key.
func (r *run) keep(ctx context.Context, v any, cause error) error {
	answer, broken := r.seal(v, cause)
	if answer == nil {
		n, err := r.db.writeEnt.IdempotencyKey.Delete().Where(r.mine(), idempotencykey.SubjectIDIsNil()).Exec(ctx)
		if err != nil || n > 0 {
			return errors.Join(broken, err)
		}
	}
	u := r.db.writeEnt.IdempotencyKey.Update().Where(r.mine()).SetStatus(idempotencykey.StatusDone)
	if answer != nil {
		u.SetAnswer(answer)
	}
	return errors.Join(broken, u.Exec(ctx))
}

// kept is an answer as it is stored.
type kept struct {
	Value any    `json:",omitempty"`
	Error *Error `json:",omitempty"`
}

// seal is an answer for the row that keeps it, or nil for one that is not kept: a refusal before any money moved, or
// one that is too large.
func (r *run) seal(v any, cause error) ([]byte, error) {
	k := kept{Value: v}
	if cause != nil {
		if k.Value, k.Error = nil, AsError(cause); k.Error.Payment == "" {
			return nil, nil
		}
	}
	plain, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("core: keep answer: %w", err)
	}
	if len(plain) > maxAnswer || (!r.begun && len(plain) > maxFreeAnswer) {
		return nil, nil
	}
	return r.keys.sealAnswer(r.id, plain)
}

// repeat answers a request that has had its run.
func repeat[T any](ctx context.Context, s *store, row *ent.IdempotencyKey, lost func(context.Context, uuid.UUID) (T, error)) (T, error) {
	var v T
	switch {
	case row.Answer != nil && len(*row.Answer) > 0: // NULL is read as an empty one
		plain, err := s.keys.openAnswer(row.ID, *row.Answer)
		if err != nil {
			return v, err
		}
		k := kept{Value: &v}
		if err := json.Unmarshal(plain, &k); err != nil {
			return v, fmt.Errorf("core: read kept answer: %w", err)
		}
		if k.Error != nil {
			return v, k.Error
		}
		return v, nil
	case row.SubjectID == nil || lost == nil:
		return v, E(Conflict, "The answer to this request was not kept")
	}
	return lost(ctx, *row.SubjectID)
}
