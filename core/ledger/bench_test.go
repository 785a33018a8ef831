package ledger_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"bursar/core/coretest"
	"bursar/core/ledger"
)

// BenchmarkHoldPost is one hold and its post, durable before each answer, on one busy session and on a thousand.
// ns/op is for the pair; 256 callers wait at once.
//
//	go test -run '^$' -bench HoldPost -count 6 ./core/ledger
func BenchmarkHoldPost(b *testing.B) {
	for _, database := range []string{"sqlite", "postgres"} {
		for _, sessions := range []int{1, 1000} {
			for _, callers := range []int{1, 256} {
				b.Run(fmt.Sprintf("%s/sessions=%d/callers=%d", database, sessions, callers), func(b *testing.B) {
					url := filepath.Join(b.TempDir(), "ledger.db")
					if database == "postgres" {
						url = coretest.Postgres(b)
					}
					holdPost(b, newWorld(b, url), sessions, callers)
				})
			}
		}
	}
}

func holdPost(b *testing.B, w *world, sessions, callers int) {
	ids := make([]uuid.UUID, sessions)
	for i := range ids {
		ids[i] = w.open(ledger.Session, ledger.Always)
		w.fund(ids[i], 1_000_000_000)
	}
	var next atomic.Int64
	b.SetParallelism(max(1, callers/2)) // two processors on the machine that the figures are from
	if callers == 1 {
		b.ResetTimer()
		for range b.N {
			pair(b, w, ids[next.Add(1)%int64(sessions)])
		}
		return
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			pair(b, w, ids[next.Add(1)%int64(sessions)])
		}
	})
}

func pair(b testing.TB, w *world, id uuid.UUID) {
	counters := []string{"agent:" + id.String() + ":day", "agent:" + id.String() + ":total", "session:" + id.String()}
	hold := ledger.Move{Verb: ledger.Hold, Key: uuid.NewString(), Debit: id, Credit: w.platform.Clearing, Amount: 1, Code: "bench", Counters: counters}
	r, err := w.batch.Do(b.Context(), ledger.Unit{Moves: []ledger.Move{hold}})
	if err != nil || r.Err != nil {
		b.Error(err, r.Err)
		return
	}
	r, err = w.batch.Do(b.Context(), ledger.Unit{Moves: []ledger.Move{{Verb: ledger.Post, HoldID: r.Transfers[0].ID, Amount: 1}}})
	if err != nil || r.Err != nil {
		b.Error(err, r.Err)
	}
}
