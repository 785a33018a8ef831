package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bursar/core"
)

// killVariable is "<step>:<n>": the program kills itself when it passes the step for the n-th time.
const killVariable = "BURSAR_TEST_KILL"

// killer is a core.Deps.Step that ends the process as kill -9 does, in the middle of the step.
func killer(spec string) func(string) {
	at := strings.LastIndex(spec, ":") // the steps' names have colons
	if at < 0 {
		return nil
	}
	left, err := strconv.Atoi(spec[at+1:])
	if err != nil {
		panic(killVariable + ": " + err.Error())
	}
	passes := make(chan int, 1)
	passes <- left
	return func(step string) {
		if step != spec[:at] {
			return
		}
		n := <-passes
		if n == 1 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way: nothing more may happen here
		}
		passes <- n - 1
	}
}

// actions are what makes the program pass steps; each is one attempt by one caller, whose errors are the killing's.
var actions = map[string]func(*killRun){
	"call":          func(k *killRun) { k.pay(openSession{agent: k.agent}) },
	"session call":  func(k *killRun) { k.pay(k.anySession()) },
	"meter":         func(k *killRun) { k.meter(openSession{agent: k.agent}) },
	"session meter": func(k *killRun) { k.meter(k.anySession()) },
	"open":          (*killRun).open,
	"close":         (*killRun).closeSession,
	"drain":         (*killRun).drain,
	"first fund":    (*killRun).newWallet,
	"top up":        (*killRun).topUp,
	"deactivate":    (*killRun).deactivate,
	"send ahead":    (*killRun).sendAhead,
	"permit2":       (*killRun).payByPermit2,
	"sign in":       (*killRun).signIn,
}

// leadsTo names the actions that lead past each step.
var leadsTo = map[string][]string{
	core.StepLogin:      {"sign in"},
	core.StepGreeted:    {"sign in"},
	core.StepHeld:       {"call", "session call", "meter", "session meter", "send ahead", "permit2"},
	core.StepSigned:     {"call", "session call"},
	core.StepMined:      {"send ahead"},
	core.StepPaid:       {"call", "session call", "meter", "session meter", "send ahead", "permit2"},
	core.StepBooked:     {"call", "session call", "meter", "session meter", "send ahead", "permit2"},
	core.StepQueued:     {"meter", "open", "close", "drain", "first fund", "top up", "deactivate", "send ahead", "permit2"},
	core.StepAuthorized: {"meter", "open", "close", "drain", "first fund", "top up", "deactivate", "send ahead", "permit2"},
	core.StepStored:     {"meter", "open", "close", "drain", "first fund", "top up", "deactivate", "send ahead", "permit2"},
	core.StepSent:       {"meter", "open", "close", "drain", "first fund", "top up", "deactivate", "send ahead", "permit2"},
	core.StepIncluded:   {"meter", "open", "close", "drain", "first fund", "top up", "deactivate", "send ahead", "permit2"},
	core.StepLog:        {"call", "session call", "open", "close", "drain", "first fund", "top up", "deactivate"},
	core.StepRange:      {"call", "session call", "open", "close", "drain", "first fund", "top up", "deactivate"},
	core.StepClosing:    {"close", "deactivate"},
	core.StepConsented:  {"top up"},
	core.StepPull:       {"top up"},
	core.StepInactive:   {"deactivate"},
	core.StepEnded:      {"deactivate"},
}

// TestEveryStepHasAnAction fails when a step is added that no kill would reach.
func TestEveryStepHasAnAction(t *testing.T) {
	for _, step := range core.Steps() {
		if len(leadsTo[step]) == 0 {
			t.Errorf("no action leads past %q", step)
		}
		for _, name := range leadsTo[step] {
			if actions[name] == nil {
				t.Errorf("%q: there is no action %q", step, name)
			}
		}
	}
	for step := range leadsTo {
		if !slices.Contains(core.Steps(), step) {
			t.Errorf("%q is not a step", step)
		}
	}
}

// death is one planned kill: at the n-th pass of a step while callers do the action, or at a random moment.
type death struct {
	step   string // "": at random
	action string
	pass   int
}

func (d death) String() string {
	if d.step == "" {
		return "at random"
	}
	return fmt.Sprintf("%s:%d during %q", d.step, d.pass, d.action)
}

// spec is the value of killVariable.
func (d death) spec() string {
	if d.step == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", d.step, d.pass)
}
