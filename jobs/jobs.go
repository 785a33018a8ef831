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
}

// Table lists the jobs. poll is how often the chain is read and operations are advanced.
func Table(app *core.Core, poll time.Duration) []Job {
	return []Job{
		{"settle", poll, app.Operations.AdvanceDue},
		{"watch", poll, app.Funding.ReadChain},
		{"rebroadcast", 5 * time.Second, app.Operations.Rebroadcast},
		{"resolve holds", 5 * time.Second, app.Payments.ResolveHolds},
		{"expire operations", 5 * time.Second, app.Funding.ExpireOperations},
		{"sessions", 2 * time.Second, app.Sessions.ExpireDue},
		{"drain inactive", 30 * time.Second, app.Agents.DrainInactive},
		{"top up", 30 * time.Second, app.TopUps.RunDue},
		{"audit", time.Hour, app.Books.Check},
	}
}

// Run runs the table until ctx ends, and returns when the last run has. Each job runs at once and then on its
// interval, one run at a time; an error is logged and waits for the next tick.
func Run(ctx context.Context, log *slog.Logger, table []Job) {
	var wg sync.WaitGroup
	for _, j := range table {
		wg.Go(func() { loop(ctx, log, j) })
	}
	wg.Wait()
}

func loop(ctx context.Context, log *slog.Logger, j Job) {
	t := time.NewTicker(j.Every)
	defer t.Stop()
	failing := ""
	for {
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
		}
	}
}
