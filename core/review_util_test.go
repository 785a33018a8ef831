package core_test

import (
	"context"
	"time"

	"bursar/core/coretest"
)

func ctxTimeout(w *coretest.World, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.Ctx, d)
}
