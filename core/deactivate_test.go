package core_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/money"
)

// The process dies at each step of a deactivation; another over the same database ends the agent without being asked.
func TestDeactivationSurvivesCrashes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		p, _ := w.User("dev@example.com")
		to := common.HexToAddress("0xb0b0000000000000000000000000000000000b0b")
		_, err := w.Core.Auth.SetWallet(w.Ctx, p, to.Hex())
		must(w, err)
		for n, step := range []string{core.StepInactive, core.StepClosing, core.StepEnded, core.StepQueued} {
			a := w.Agent(p, fmt.Sprint("bot ", n), 2*money.One)
			v := w.Session(p, a, money.One)
			dies(t, w, step, func(c *core.Core) { _, _ = c.Agents.Deactivate(w.Ctx, p, a.ID, nil) })
			if got := agentOf(w, p, a.ID); got.Active {
				t.Errorf("%s: it is active", step)
			}
			want := money.USDC(n+1) * 2 * money.One
			for range 12 { // within a minute; the dead process has the right to send for a while
				w.Pass(5 * time.Second)
				w.Jobs()
				w.Settle()
			}
			v, err := w.Core.Sessions.Get(w.Ctx, p, v.ID)
			must(w, err)
			if got := agentOf(w, p, a.ID); v.Status != session.StatusClosed || got.Wallet.Posted != 0 || w.Net.Balance(to) != want {
				t.Errorf("%s: the session is %s, the wallet has %s, its owner %s", step, v.Status, got.Wallet.Posted, w.Net.Balance(to))
			}
		}
		w.Balanced()
	})
}
