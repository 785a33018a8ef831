package core

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/idempotencykey"
	"bursar/ent/predicate"
)

// Idempotency is callers' own names for requests that move money: the same key is the same request. A row is there
// before anything moves; what the request begins is noted in the very commit that reserves the money, and only while
// the request still owns the row. So of two that run under one key, through whatever clock or lease, one moves money.
type Idempotency struct{ *store }

// Bounds of idempotency keys.
const (
	maxIdempotencyKey = 255              // characters
	keyLife           = 24 * time.Hour   // an answer is kept for so long
	leaseLife         = 10 * time.Second // a process that died keeps its request from others for so long
	leaseRenewal      = 3 * time.Second  // two renewals may fail
	longestRun        = 10 * time.Minute // no lease is renewed for longer
	firstWait         = 5 * time.Second  // how long a repeat waits for the first
	retryAfter        = 5 * time.Second  // what it is told then; with firstWait, a lease
	lookFirst         = 10 * time.Millisecond
	lookMost          = 250 * time.Millisecond
	keepTimeout       = 5 * time.Second
	maxAnswer         = 3 << 19  // bytes of JSON, in which a body of 1 MiB is a third longer
	maxKeptBody       = 1 << 20  // bytes of an answer that is gathered while it goes by
	maxFreeAnswer     = 96 << 10 // the same of 64 KiB, where nothing was begun: what costs nothing must not fill the disk
	forgetBatch       = 500      // rows forgotten in one statement
	forgetBatches     = 100      // and statements in one run of the job
)

// ask is a request that may carry a caller's key.
type ask struct {
	key   *string // nil: none
	what  string  // the kind of request
	input []string
}

// hash tells requests apart: the kind, the organisation and each input, with their lengths so that they cannot run
// into each other.
func (a ask) hash(p Principal) []byte {
	h := sha256.New()
	for _, part := range append([]string{a.what, p.OrgID.String()}, a.input...) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

func checkKey(key string) error {
	unprintable := func(c rune) bool { return c < ' ' || c > '~' }
	if key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, unprintable) {
		return E(InvalidRequest, "An idempotency key has 1 to %d printable ASCII characters", maxIdempotencyKey)
	}
	return nil
}

// once answers a request under its caller's key: the first runs do, a repeat gets the first answer. do notes with its
// run what it begins (run.began); if the answer to that is lost, lost answers from the record and moves nothing.
// Without a key it is do. The caller must have been authorised: who may not ask may not have the answer either.
func once[T any](ctx context.Context, s *store, p Principal, a ask, lost func(context.Context, uuid.UUID) (T, error), do func(*run) (T, error)) (T, error) {
	var none T
	if a.key == nil {
		return do(nil)
	}
	if err := checkKey(*a.key); err != nil {
		return none, err
	}
	r, answered, err := s.claim(ctx, p, *a.key, a.hash(p))
	if err != nil {
		return none, err
	}
	if r == nil {
		return repeat(ctx, s, answered, lost)
	}
	stop := r.keepLease(ctx)
	defer func() {
		if !r.goesOn {
			stop()
		}
	}()
	r.finish = func(ctx context.Context, v any, cause error) {
		r.end(ctx, v, cause)
		stop()
	}
	v, err := do(r)
	if !r.goesOn {
		r.end(ctx, v, err)
	}
	return v, err
}

// run is a request under way that carries a key; nil is one without.
type run struct {
	*store
	id, owner uuid.UUID // the row, and this run of it
	begun     bool

	goesOn bool                                        // its answer is still under way when do returns: finish is called at its end
	finish func(ctx context.Context, v any, err error) // keeps the answer, and ends the run
}

func (r *run) mine() predicate.IdempotencyKey {
	return idempotencykey.And(idempotencykey.ID(r.id), idempotencykey.Owner(r.owner))
}

var errRuns = &Error{Code: Conflict, Message: "A request with this idempotency key is still running", RetryAfter: retryAfter}

// claim makes the key this caller's to run, or returns the row of a request that has had its run. It waits a little
// for one that runs.
func (s *store) claim(ctx context.Context, p Principal, key string, hash []byte) (*run, *ent.IdempotencyKey, error) {
	waiting, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for wait := lookFirst; ; wait = min(2*wait, lookMost) {
		r, answered, err := s.look(ctx, p, key, hash)
		if r != nil || answered != nil || err != nil {
			return r, answered, err
		}
		if pause(waiting, wait) == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		return nil, nil, errRuns
	}
}

// look is one try of claim. All nil: look again.
func (s *store) look(ctx context.Context, p Principal, key string, hash []byte) (*run, *ent.IdempotencyKey, error) {
	row, err := s.db.readEnt.IdempotencyKey.Query().Where(idempotencykey.UserID(p.UserID), idempotencykey.Key(key)).Only(ctx)
	now := s.now()
	switch {
	case ent.IsNotFound(err):
		return s.begin(ctx, p, key, hash, now)
	case err != nil:
		return nil, nil, err
	case row.ExpiresUnix <= now.Unix(): // the job has not come by yet
		_, err = s.db.writeEnt.IdempotencyKey.Delete().Where(idempotencykey.ID(row.ID)).Exec(ctx)
		return nil, nil, err
	case !bytes.Equal(row.InputHash, hash):
		return nil, nil, E(Conflict, "The idempotency key has been used for another request")
	case row.Status == idempotencykey.StatusDone:
		return nil, row, nil
	case row.LeaseUntilUnix >= now.Unix():
		return nil, nil, nil
	case row.SubjectID != nil: // it died after the money was reserved
		return nil, row, nil
	}
	return s.takeOver(ctx, row, now)
}

func (s *store) begin(ctx context.Context, p Principal, key string, hash []byte, now time.Time) (*run, *ent.IdempotencyKey, error) {
	r := &run{store: s, id: uuid.Must(uuid.NewV7()), owner: uuid.New()}
	err := s.db.writeEnt.IdempotencyKey.Create().SetID(r.id).SetUserID(p.UserID).SetKey(key).SetInputHash(hash).SetOwner(r.owner).
		SetLeaseUntilUnix(now.Add(leaseLife).Unix()).SetExpiresUnix(now.Add(keyLife).Unix()).SetCreatedAt(now).Exec(ctx)
	if ent.IsConstraintError(err) { // another was first
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return r, nil, nil
}

// takeOver runs again what a process has left that died before it began anything.
func (s *store) takeOver(ctx context.Context, row *ent.IdempotencyKey, now time.Time) (*run, *ent.IdempotencyKey, error) {
	r := &run{store: s, id: row.ID, owner: uuid.New()}
	n, err := s.db.writeEnt.IdempotencyKey.Update().Where(
		idempotencykey.ID(row.ID), idempotencykey.Owner(row.Owner), idempotencykey.StatusEQ(idempotencykey.StatusRunning),
		idempotencykey.SubjectIDIsNil(), idempotencykey.LeaseUntilUnixLT(now.Unix()),
	).SetOwner(r.owner).SetLeaseUntilUnix(now.Add(leaseLife).Unix()).Save(ctx)
	if err != nil || n == 0 {
		return nil, nil, err
	}
	return r, nil, nil
}

// began notes what the request begins, in the commit that reserves the money. It refuses that commit to a run whose
// lease was taken over: another runs the request now.
func (r *run) began(ctx context.Context, tx *Tx, subject uuid.UUID) error {
	if r == nil {
		return nil
	}
	n, err := tx.IdempotencyKey.Update().Where(r.mine(), idempotencykey.SubjectIDIsNil()).SetSubjectID(subject).Save(ctx)
	if err == nil && n == 0 {
		return errRuns
	}
	r.begun = err == nil
	return err
}

// begunRows is began for a unit of the ledger's batch; noted follows its commit. The row must be hit, or the unit fails
// with ledger.ErrMissed.
func (r *run) begunRows(subject uuid.UUID) []ledger.Row {
	if r == nil {
		return nil
	}
	return []ledger.Row{{Into: begunRow, Values: []any{r.id.String(), subject.String(), r.owner.String()}}}
}

// owned says whether a commit of this run was missed for another reason than that another run has the row now.
func (r *run) owned(ctx context.Context) error {
	if r == nil {
		return nil
	}
	mine, err := r.db.writeEnt.IdempotencyKey.Query().Where(r.mine(), idempotencykey.SubjectIDIsNil()).Exist(ctx)
	if err == nil && !mine {
		return errRuns
	}
	return err
}

func (r *run) noted() {
	if r != nil {
		r.begun = true
	}
}

// keepLease renews the lease until the returned function is called.
func (r *run) keepLease(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestRun) // a request outlives its caller once it has paid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for pause(ctx, leaseRenewal) == nil {
			err := r.db.writeEnt.IdempotencyKey.Update().Where(r.mine(), idempotencykey.StatusEQ(idempotencykey.StatusRunning)).
				SetLeaseUntilUnix(r.now().Add(leaseLife).Unix()).Exec(ctx)
			if err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "a lease is not renewed", "error", err)
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// Forget removes the keys whose time has passed.
func (i *Idempotency) Forget(ctx context.Context) error {
	return forgetOld(func() ([]uuid.UUID, error) {
		return i.db.readEnt.IdempotencyKey.Query().Where(idempotencykey.ExpiresUnixLTE(i.clock().Unix())).Limit(forgetBatch).IDs(ctx)
	}, func(old []uuid.UUID) error {
		_, err := i.db.writeEnt.IdempotencyKey.Delete().Where(idempotencykey.IDIn(old...)).Exec(ctx)
		return err
	})
}
