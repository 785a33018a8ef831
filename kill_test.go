package main

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"bursar/core/coretest"
)

// killRounds is how often the program is killed on each database; BURSAR_KILL_ROUNDS raises it.
func killRounds() int {
	if n, err := strconv.Atoi(os.Getenv("BURSAR_KILL_ROUNDS")); err == nil {
		return n
	}
	return 5
}

// TestKill kills the program in the middle of calls, deposits and refunds, starts it again, and demands that the
// books balance and everything comes to its end by itself.
func TestKill(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel() // most of it is waiting for proofs to die
		killRun(t)
	})
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		killRun(t, append(secrets(), "--database-url="+coretest.Postgres(t))...)
	})
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

func killRun(t *testing.T, args ...string) {
	p := start(t, args...)
	agent := p.agentID()
	for round := range killRounds() {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for worker := range 6 {
			wg.Go(func() { harass(p, agent, worker, stop) })
		}
		time.Sleep(time.Duration(300+rand.IntN(1200)) * time.Millisecond)
		p.kill()
		close(stop)
		wg.Wait()
		p.start()
		p.audit()
		if t.Failed() {
			t.Fatalf("round %d:\n%s", round, p.out)
		}
	}
	closeAll(t, p)
	p.audit()
}

// harass calls, opens and closes until it is stopped. Errors are the killing's; the books judge.
func harass(p *program, agent string, worker int, stop <-chan struct{}) {
	session := ""
	for {
		select {
		case <-stop:
			return
		default:
		}
		headers := []string{"X-Agent-Wallet", agent}
		if session != "" {
			headers = append(headers, "X-Session-Id", session)
		}
		switch n := rand.IntN(10); {
		case worker%2 == 0 && session == "":
			_, out, _ := p.call("POST", "/sessions", map[string]any{"agent_wallet_id": agent, "deposit_amount": 0.05})
			if id := text(out, "session", "id"); id != "<nil>" {
				session = id
			}
		case n == 0 && session != "":
			_, _, _ = p.call("POST", "/sessions/"+session+"/close", nil)
			session = ""
		default:
			_, _, _ = p.call("POST", "/external/fetch", map[string]any{"url": p.Demo + "/v2/weather"}, headers...)
		}
	}
}

// closeAll closes every session and waits until nothing is pending, without any further command.
func closeAll(t *testing.T, p *program) {
	t.Helper()
	sessions, _ := at(p.must("GET", "/sessions", nil), "sessions").([]any)
	for _, s := range sessions {
		if text(s, "status") != "failed" {
			_, _, _ = p.call("POST", "/sessions/"+text(s, "id")+"/close", nil)
		}
	}
	// A call that was killed after its proof was made is decided when the proof is dead: two minutes here.
	deadline := time.Now().Add(4 * time.Minute)
	for {
		open := 0
		sessions, _ := at(p.must("GET", "/sessions", nil), "sessions").([]any)
		for _, s := range sessions {
			if st := text(s, "status"); st != "closed" && st != "failed" {
				open++
				if st == "open" {
					_, _, _ = p.call("POST", "/sessions/"+text(s, "id")+"/close", nil)
				}
			}
		}
		if open == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d sessions of %d do not end", open, len(sessions))
			return
		}
		time.Sleep(time.Second)
	}
}
