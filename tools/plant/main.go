// Command plant shows that the tests of this program catch bugs that lose money. It plants each bug of its table, one at a
// time, builds the test that must notice it, and demands that the test fails. The tree itself stays as it is: a bug is an
// overlay of the build.
//
//	go run ./tools/plant              all of them
//	go run ./tools/plant -list        what there is
//	go run ./tools/plant -only NAME   one of them; -keep leaves its files, with the command to build them
//
// Bugs that only PostgreSQL can show, such as a missing row lock, need TEST_POSTGRES_URL; ./test -plant starts such a server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// bug is one way to lose money.
type bug struct {
	name  string
	costs string // who loses what by it
	edits []edit
	proof proof
}

// edit is a replacement of a text that occurs once in its file.
type edit struct{ file, old, new string }

// proof is the test that must fail while the bug is planted.
type proof struct {
	folder, test string
	postgres     bool // run on PostgreSQL; else on SQLite
}

// outcome is how one bug fared.
type outcome struct {
	bug
	by   string // the tests that failed, and the first thing that they said
	took time.Duration
	err  error // it was not caught, or could not be planted
}

func main() {
	list := flag.Bool("list", false, "list the bugs")
	only := flag.String("only", "", "plant the bug of this name alone")
	keep := flag.Bool("keep", false, "leave the planted files and the tests' output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	chosen := choose(*only)
	if *list {
		for _, b := range chosen {
			_, _ = fmt.Fprintf(os.Stdout, "%-28s %s\n%28s %s\n", b.name, b.costs, "", b.proof)
		}
		return
	}
	if err := run(ctx, chosen, *keep); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "plant:", err)
		stop()
		os.Exit(1)
	}
}

func choose(only string) []bug {
	var out []bug
	for _, b := range bugs() {
		if only == "" || b.name == only {
			out = append(out, b)
		}
	}
	return out
}

func (p proof) String() string {
	database := "SQLite"
	if p.postgres {
		database = "PostgreSQL"
	}
	return fmt.Sprintf("%s in ./%s on %s", p.test, p.folder, database)
}

func run(ctx context.Context, chosen []bug, keep bool) error {
	if len(chosen) == 0 {
		return errors.New("there is no bug of that name")
	}
	g, err := newGarden(ctx, keep)
	if err != nil {
		return err
	}
	defer g.close()
	// A test that fails without the bug proves nothing.
	if err := g.healthy(ctx, chosen); err != nil {
		return err
	}
	var all []outcome
	missed := 0
	for i, b := range chosen {
		o := g.grow(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.err != nil {
			missed++
		}
		_, _ = fmt.Fprintf(os.Stdout, "%d/%d %s: %s\n", i+1, len(chosen), b.name, o.verdict())
		all = append(all, o)
	}
	_, _ = fmt.Fprintln(os.Stdout)
	for _, o := range all {
		by, _, _ := strings.Cut(o.verdict(), "\n")
		_, _ = fmt.Fprintf(os.Stdout, "%-28s %4.0f s  %s\n", o.name, o.took.Seconds(), by)
	}
	_, _ = fmt.Fprintf(os.Stdout, "%d bugs planted, %d caught\n", len(all), len(all)-missed)
	if missed > 0 {
		return fmt.Errorf("%d bugs were not caught", missed)
	}
	return nil
}

func (o outcome) verdict() string {
	if o.err != nil {
		return "NOT CAUGHT: " + o.err.Error()
	}
	return o.by
}
