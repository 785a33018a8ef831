package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bursar/core/coretest"
	"bursar/jobs"
)

func TestTableRuns(t *testing.T) {
	w := coretest.New(t)
	names := map[string]bool{}
	for _, j := range jobs.Table(w.Core, time.Second) {
		if j.Every <= 0 || names[j.Name] {
			t.Errorf("%s: every %s", j.Name, j.Every)
		}
		names[j.Name] = true
		if err := j.Run(w.Ctx); err != nil {
			t.Errorf("%s: %v", j.Name, err)
		}
	}
}

// A job runs at once and then on its interval, survives its errors, never runs twice at once, and stops.
func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs, inside atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			jobs.Run(ctx, slog.New(slog.DiscardHandler), []jobs.Job{{Name: "j", Every: time.Second, Run: func(context.Context) error {
				if inside.Add(1) > 1 {
					t.Error("two runs at once")
				}
				defer inside.Add(-1)
				time.Sleep(300 * time.Millisecond)
				runs.Add(1)
				return errors.New("fails")
			}}})
		}()
		time.Sleep(3500 * time.Millisecond)
		if got := runs.Load(); got != 4 {
			t.Errorf("%d runs in 3.5 s", got)
		}
		cancel()
		<-done
	})
}
