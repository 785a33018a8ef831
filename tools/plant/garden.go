package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// garden is where bugs are planted: a folder of changed files that lie over the tree while a test is built.
type garden struct {
	root   string // of the module
	folder string
	keep   bool
}

// postgresVariable names the server that the tests may make databases on.
const postgresVariable = "TEST_POSTGRES_URL"

// patience is for the run of one test; what hangs is not caught.
const patience = 10 * time.Minute

func newGarden(ctx context.Context, keep bool) (*garden, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "plant")
	return &garden{root, folder, keep}, err
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(out)), err
}

func (g *garden) close() {
	if !g.keep {
		_ = os.RemoveAll(g.folder)
	}
}

// planted reads the files of a bug and returns them changed, by their names.
func planted(root string, b bug) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range b.edits {
		text, read := files[e.file]
		if !read {
			raw, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s: %q occurs %d times: the table must follow the code", e.file, e.old, n)
		}
		files[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return files, nil
}

// overlay writes the changed files beside the tree, and the list of them that go build reads.
func (g *garden) overlay(b bug) (string, error) {
	files, err := planted(g.root, b)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, text := range files {
		path := filepath.Join(g.folder, b.name, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(g.root, filepath.FromSlash(name))] = path
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(g.folder, b.name+".json")
	return path, os.WriteFile(path, text, 0o644)
}

// build compiles the tests of a folder; that they do not compile is no proof of anything.
func (g *garden) build(ctx context.Context, folder, overlay string) (string, error) {
	binary := filepath.Join(g.folder, "test")
	args := []string{"test", "-c", "-ldflags=-w", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	c := exec.CommandContext(ctx, "go", append(args, "./"+folder)...)
	c.Dir = g.root
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	return binary, nil
}

// try runs tests by name and returns their output. The error is that of a test that failed, or of a program that could
// not run it.
func (g *garden) try(ctx context.Context, binary string, p proof, tests ...string) (string, error) {
	run := "^(" + strings.Join(tests, "|") + ")$"
	args := []string{"-test.timeout=" + patience.String(), "-test.count=1", "-test.v", "-test.failfast"}
	if p.postgres {
		if os.Getenv(postgresVariable) == "" {
			return "", fmt.Errorf("%s is not set: run ./test -plant, which starts a PostgreSQL of its own", postgresVariable)
		}
		run += "/^postgres$"
	} else {
		args = append(args, "-test.short")
	}
	if g.rapid(p.folder) {
		args = append(args, "-rapid.nofailfile") // it would leave a file in the tree
	}
	c := exec.CommandContext(ctx, binary, append(args, "-test.run="+run)...)
	c.Dir = filepath.Join(g.root, filepath.FromSlash(p.folder))
	out, err := c.CombinedOutput()
	return string(out), err
}

// rapid reports whether the tests of a folder draw from rapid, which has flags of its own.
func (g *garden) rapid(folder string) bool {
	files, err := filepath.Glob(filepath.Join(g.root, filepath.FromSlash(folder), "*_test.go"))
	return err == nil && slices.ContainsFunc(files, func(name string) bool {
		text, err := os.ReadFile(name)
		return err == nil && bytes.Contains(text, []byte(`"pgregory.net/rapid"`))
	})
}

var errNoTest = errors.New("no such test ran")

// healthy runs every test without any bug.
func (g *garden) healthy(ctx context.Context, chosen []bug) error {
	tests := map[proof][]string{}
	for _, b := range chosen {
		key := proof{folder: b.proof.folder, postgres: b.proof.postgres}
		if !slices.Contains(tests[key], b.proof.test) {
			tests[key] = append(tests[key], b.proof.test)
		}
	}
	for key, names := range tests {
		begin := time.Now()
		binary, err := g.build(ctx, key.folder, "")
		if err != nil {
			return err
		}
		out, err := g.try(ctx, binary, key, names...)
		if err != nil {
			return fmt.Errorf("./%s fails without any bug: %w\n%s", key.folder, err, out)
		}
		for _, name := range names {
			if !strings.Contains(out, "--- PASS: "+name+" ") {
				return fmt.Errorf("%s in ./%s: %w", name, key.folder, errNoTest)
			}
		}
		key.test = strings.Join(names, ", ")
		_, _ = fmt.Fprintf(os.Stdout, "without a bug: %s: pass (%.0f s)\n", key, time.Since(begin).Seconds())
	}
	return nil
}

// grow plants one bug and runs the test that must notice it.
func (g *garden) grow(ctx context.Context, b bug) outcome {
	begin := time.Now()
	o := outcome{bug: b}
	o.by, o.err = g.caught(ctx, b)
	o.took = time.Since(begin)
	return o
}

func (g *garden) caught(ctx context.Context, b bug) (string, error) {
	overlay, err := g.overlay(b)
	if err != nil {
		return "", err
	}
	if g.keep {
		_, _ = fmt.Fprintf(os.Stdout, "go test -overlay=%s -run '^%s$' ./%s\n", overlay, b.proof.test, b.proof.folder)
	}
	binary, err := g.build(ctx, b.proof.folder, overlay)
	if err != nil {
		return "", err
	}
	out, err := g.try(ctx, binary, b.proof, b.proof.test)
	if g.keep {
		err = errors.Join(err, os.WriteFile(filepath.Join(g.folder, b.name+".log"), []byte(out), 0o644))
	}
	var ended *exec.ExitError
	switch {
	case err == nil:
		return "", fmt.Errorf("%s passes", b.proof)
	case !errors.As(err, &ended):
		return "", err
	}
	failed := failedTest.FindString(out)
	if failed == "" {
		return "", fmt.Errorf("%s ends without a verdict: %w\n%s", b.proof, err, tail(out))
	}
	return fmt.Sprintf("%s: %s", b.proof, said.FindString(out)), nil
}

var (
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: \S+`)
	said       = regexp.MustCompile(`(?m)\w+_test\.go:\d+: .{0,100}|panic: .{0,100}`)
)

func tail(out string) string {
	lines := bytes.Split([]byte(out), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}
