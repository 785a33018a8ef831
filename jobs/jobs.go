// Package jobs is time as a door: bounded work on a timer, each row one call into core.
package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"bursar/core"
)

// Job is one row of the table.
type Job struct {
	Name  string
	Every time.Duration
	Run   func(context.Context) error // bounded, and safe to repeat and to run in several processes at once
	Woken bool                        // a signal of Run's channel makes it run early
}

// wakeGap is the least time between the starts of two runs when signals come thick, as from a development chain in a
// burst.
const wakeGap = 20 * time.Millisecond

// Table lists the jobs. poll is how often the chain is read and operations are advanced.
func Table(app *core.Core, poll time.Duration) []Job {
	return []Job{
		{Name: "settle", Every: poll, Run: app.Operations.AdvanceDue, Woken: true},
		{Name: "watch", Every: poll, Run: app.Funding.ReadChain, Woken: true},
		{Name: "second pass", Every: time.Minute, Run: app.Funding.Recheck},
		{Name: "rebroadcast", Every: 5 * time.Second, Run: app.Operations.Rebroadcast},
		{Name: "resolve holds", Every: 5 * time.Second, Run: app.Payments.ResolveHolds},
		{Name: "release metered", Every: 5 * time.Second, Run: app.Payments.ReleaseMetered},
		{Name: "pay businesses", Every: 15 * time.Second, Run: app.Gateway.PayOut},
		{Name: "expire operations", Every: 5 * time.Second, Run: app.Funding.ExpireOperations},
		{Name: "note fees", Every: 30 * time.Second, Run: app.Operations.NoteFees},
		{Name: "sessions", Every: 2 * time.Second, Run: app.Sessions.ExpireDue},
		{Name: "top up", Every: 10 * time.Second, Run: app.TopUps.RunDue},
		{Name: "drain inactive", Every: 10 * time.Second, Run: app.Agents.DrainInactive},
		{Name: "expire approvals", Every: 5 * time.Second, Run: app.Approvals.ExpireDue},
		{Name: "forget", Every: time.Minute, Run: app.Idempotency.Forget},
		{Name: "forget traces", Every: time.Hour, Run: app.Traces.Forget},
		{Name: "audit", Every: time.Hour, Run: app.Books.Check},
	}
}

// Run runs the table until ctx ends, and returns when the last run has. Each job runs at once and then on its
// interval, one run at a time; an error is logged and waits for the next tick. A signal of wake, which may be nil,
// makes the jobs that are Woken run early: it saves them waiting, and nothing depends on it.
func Run(ctx context.Context, log *slog.Logger, table []Job, wake <-chan struct{}) {
	var wg sync.WaitGroup
	var woken []chan<- struct{}
	for _, j := range table {
		var early chan struct{}
		if j.Woken {
			early = make(chan struct{}, 1)
			woken = append(woken, early)
		}
		wg.Go(func() { loop(ctx, log, j, early) })
	}
	wg.Go(func() { pass(ctx, wake, woken) })
	wg.Wait()
}

// pass gives each signal to all. One that comes while a job runs makes it run again, and several are as good as one.
func pass(ctx context.Context, wake <-chan struct{}, woken []chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		for _, w := range woken {
			select {
			case w <- struct{}{}:
			default:
			}
		}
	}
}

func loop(ctx context.Context, log *slog.Logger, j Job, early <-chan struct{}) {
	t := time.NewTicker(j.Every)
	defer t.Stop()
	gap := time.NewTimer(wakeGap)
	defer gap.Stop()
	failing := ""
	for {
		gap.Reset(wakeGap)
		err := j.Run(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failing = ""
		case err.Error() != failing: // the same failure each tick is told once
			failing = err.Error()
			log.ErrorContext(ctx, "job failed", "job", j.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-early:
			select {
			case <-ctx.Done():
				return
			case <-gap.C:
			}
		}
	}
}
