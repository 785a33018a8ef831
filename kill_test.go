package main

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bursar/core"
	"bursar/core/coretest"
)

// Bounds of a run of kills.
const (
	groupSize    = 24               // kills, after each of which the program starts again; then all must come to its end
	finalWithin  = 60 * time.Second // of a start without a command
	stepPatience = 60 * time.Second
	maxPass      = 4               // passes of a step that are survived
	latestKill   = 3 * time.Second // of a random kill after the start
	shortKills   = 4
	randomKills  = 3 // beside one at each step
)

// TestKill kills the real program with SIGKILL at every named step of calls, logins, metered calls, opening, closing, draining, funding, topping up
// and deactivating, and at random moments. After each start the books balance; after each group of kills everything comes to its end within a
// minute without a command, and what the chain shows is exactly what the history says. BURSAR_KILL_ROUNDS is how often on
// each database; without it every step has its turn. On SQLite the chain dies with the program; on PostgreSQL it goes on
// beside it, and BURSAR_KILL_CHAIN=inside or outside chooses.
func TestKill(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel() // most of it is waiting for proofs to die
		runKills(t, inside("inside"))
	})
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		runKills(t, inside("outside"), append(secrets(), "--database-url="+coretest.EmptyPostgres(t))...)
	})
}

// inside reports whether the chain runs inside the program.
func inside(usual string) bool {
	where := os.Getenv("BURSAR_KILL_CHAIN")
	if where == "" {
		where = usual
	}
	return where == "inside"
}

// secrets are what a program over PostgreSQL must be given.
func secrets() []string {
	const digits = "1111111111111111111111111111111111111111111111111111111111111111"
	return []string{
		"--master-key=" + digits, "--jwt-secret=" + digits,
		"--platform-key=2222222222222222222222222222222222222222222222222222222222222222",
		"--relayer-key=3333333333333333333333333333333333333333333333333333333333333333",
	}
}

func runKills(t *testing.T, inside bool, args ...string) {
	k := newKillRun(t, inside, args...)
	deaths := plan(k.dice)
	for group := range slices.Chunk(deaths, groupSize) {
		k.prepare()
		for _, d := range group {
			k.kill(d)
		}
		k.settle()
		t.Logf("%d kills, %d of them before the program listened; everything final at most %s after the start, the last was %q; %s",
			k.kills, k.early, k.slowest.Round(time.Second), k.slowestOf, k.figures())
	}
	k.closeAll()
	t.Logf("how many kills met an operation of a kind in a state: %v", k.met)
}

// plan deals the deaths: every step with every action that leads past it, in random order, and random moments.
func plan(dice *rand.Rand) []death {
	var all []death
	for _, step := range core.Steps() {
		for _, action := range leadsTo[step] {
			all = append(all, death{step: step, action: action, pass: 1 + dice.IntN(maxPass)})
		}
	}
	rounds, err := strconv.Atoi(os.Getenv("BURSAR_KILL_ROUNDS"))
	if err == nil {
		for len(all) < rounds {
			d := all[dice.IntN(len(all))]
			d.pass = 1 + dice.IntN(maxPass)
			if dice.IntN(5) == 0 {
				d = death{}
			}
			all = append(all, d)
		}
		return all[:rounds]
	}
	dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	once, seen := make([]death, randomKills), map[string]bool{}
	for _, d := range all {
		if !seen[d.step] {
			seen[d.step] = true
			once = append(once, d)
		}
	}
	dice.Shuffle(len(once), func(i, j int) { once[i], once[j] = once[j], once[i] })
	if testing.Short() {
		return once[:shortKills]
	}
	return once
}

// kill starts the program, lets callers work, and sees it die.
func (k *killRun) kill(d death) {
	k.t.Helper()
	if d.action == "top up" {
		k.makeDue()
	}
	k.findTopped()
	k.launch(d)
	p, process := k.p, k.p.cmd
	if d.step == "" {
		moment := time.Duration(k.dice.Int64N(int64(latestKill)))
		timer := time.AfterFunc(moment, func() { _ = process.Process.Kill() })
		defer timer.Stop()
	}
	if p.listening() {
		k.audit()
		var callers sync.WaitGroup
		for caller := range 5 {
			callers.Go(func() { k.work(d, caller, p.ended) })
		}
		select {
		case <-p.ended:
		case <-time.After(stepPatience):
			k.t.Errorf("%s: not passed in %s", d, stepPatience)
		}
		p.kill()
		callers.Wait()
	} else {
		k.early++
		p.kill()
	}
	k.kills++
	if status, ok := process.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		k.t.Errorf("the program was not killed, it ended: %s", process.ProcessState)
	}
	for _, what := range k.column(`SELECT DISTINCT kind || ' ' || status FROM operations WHERE status NOT IN ('final', 'expired', 'failed')`) {
		k.met[what]++
	}
	if k.t.Failed() {
		k.t.Fatalf("kill %d, %s, seed %d, data %s:\n%s", k.kills, d, k.seed, p.Data, tail(p.out.String()))
	}
}

// work repeats the action that the death waits for; some callers do whatever there is, so that it is never alone.
func (k *killRun) work(d death, caller int, ended <-chan struct{}) {
	others := []string{"call", "session call", "meter", "session meter", "open", "close", "drain", "first fund", "top up", "deactivate", "sign in"}
	for {
		select {
		case <-ended:
			return
		default:
		}
		name := d.action
		switch {
		case d.step == "":
			name = others[rand.IntN(len(others))]
		case caller == 3:
			name = "call"
		case caller == 4:
			name = "session call"
		}
		actions[name](k)
	}
}

// settle starts the program and demands that everything comes to its end by itself, and that it is the right one.
func (k *killRun) settle() {
	k.t.Helper()
	begin := time.Now()
	k.launch(death{})
	if !k.p.listening() {
		k.t.Fatalf("the program ended:\n%s", k.p.out)
	}
	if took, last := k.allFinal(begin); took > k.slowest {
		k.slowest, k.slowestOf = took, last
	}
	k.audit()
	k.reckon()
	if k.t.Failed() {
		k.t.Fatalf("after %d kills, seed %d, data %s:\n%s", k.kills, k.seed, k.p.Data, tail(k.p.out.String()))
	}
}

// allFinal waits until nothing is under way, and returns how long that took and what was the last.
func (k *killRun) allFinal(begin time.Time) (took time.Duration, last string) {
	k.t.Helper()
	seen := map[string][2]time.Duration{} // what was under way, from when until when: it tells where the time went
	for {
		open := k.unfinished()
		took = time.Since(begin)
		if len(open) == 0 {
			return took, last
		}
		last = open[0]
		for _, what := range open {
			first := took
			if span, known := seen[what]; known {
				first = span[0]
			}
			seen[what] = [2]time.Duration{first, took}
		}
		if took > finalWithin {
			k.t.Errorf("not final %s after the start:\n%s", took.Round(time.Second), strings.Join(open, "\n"))
			for _, what := range slices.Sorted(maps.Keys(seen)) {
				k.t.Logf("%s to %s: %s", seen[what][0].Round(time.Second/10), seen[what][1].Round(time.Second/10), what)
			}
			return took, last
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// closeAll closes what is open, after which every unit is back in a wallet or with a seller.
func (k *killRun) closeAll() {
	k.t.Helper()
	k.prepare()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for k.sessionsOpen() > 0 {
				k.closeSession()
			}
		})
	}
	callers.Wait()
	k.allFinal(time.Now())
	k.audit()
	if left := k.reckon(); left != 0 {
		k.t.Errorf("%s is left in sessions after all were closed", left)
	}
	if k.t.Failed() {
		k.t.Fatalf("at the end, seed %d:\n%s", k.seed, tail(k.p.out.String()))
	}
}

func tail(s string) string { return s[max(0, len(s)-6000):] }
