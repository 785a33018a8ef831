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
			}}}, nil)
		}()
		time.Sleep(3500 * time.Millisecond)
		if got := runs.Load(); got != 4 {
			t.Errorf("%d runs in 3.5 s", got)
		}
		cancel()
		<-done
	})
}

// A signal makes the jobs that ask for it run early, several signals make one run, and a burst does not make a job
// run all the time.
func TestRunnerIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var woken, timed atomic.Int64
		count := func(n *atomic.Int64) func(context.Context) error {
			return func(context.Context) error { n.Add(1); return nil }
		}
		ctx, cancel := context.WithCancel(t.Context())
		wake, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			jobs.Run(ctx, slog.New(slog.DiscardHandler), []jobs.Job{
				{Name: "a", Every: time.Hour, Run: count(&woken), Woken: true}, {Name: "b", Every: time.Hour, Run: count(&timed)},
			}, wake)
		}()
		time.Sleep(time.Minute)
		for want := int64(2); want < 5; want++ {
			wake <- struct{}{}
			synctest.Wait()
			if got := woken.Load(); got != want {
				t.Errorf("%d runs, want %d", got, want)
			}
			time.Sleep(time.Second)
		}
		before := woken.Load()
		for range 100 {
			wake <- struct{}{}
			time.Sleep(time.Millisecond)
		}
		if got := woken.Load() - before; got < 2 || got > 6 {
			t.Errorf("%d runs in 100 ms", got)
		}
		if got := timed.Load(); got != 1 {
			t.Errorf("a job that is not woken ran %d times", got)
		}
		time.Sleep(2 * time.Hour)
		if got := timed.Load(); got != 3 {
			t.Errorf("%d runs on the interval", got)
		}
		cancel()
		<-done
	})
}
