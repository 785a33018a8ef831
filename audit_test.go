package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bursar/core/coretest"
)

// An audit where there are no books says so and leaves nothing behind: an empty book would balance.
func TestAuditNeedsBooks(t *testing.T) {
	t.Parallel()
	refused := func(p *program, want string) {
		t.Helper()
		before := entries(t, p.Data)
		out, err := p.command(append([]string{"audit"}, p.args...)...)
		if err == nil || !strings.Contains(out, want) || strings.Contains(out, "balance") {
			t.Errorf("%v %q", err, out)
		}
		if after := entries(t, p.Data); after != before {
			t.Errorf("before: %q, after: %q", before, after)
		}
	}
	p := newProgram(t, "--demo=off")
	refused(p, "there is no database")
	if err := os.MkdirAll(p.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(p, "there is no database")
	file := filepath.Join(p.Data, "bursar.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(p, "there are no books in "+file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.kill()
	p.audit()
	if err := os.Remove(filepath.Join(p.Data, "secrets", "jwt-secret")); err != nil {
		t.Fatal(err)
	}
	refused(p, "jwt-secret is missing")
}

func TestAuditNeedsBooksInPostgres(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a PostgreSQL")
	}
	p := newProgram(t, append(secrets(), "--database-url="+coretest.EmptyPostgres(t))...)
	for range 2 { // the first has made nothing either
		if out, err := p.command(append([]string{"audit"}, p.args...)...); err == nil || !strings.Contains(out, "there are no books in this database") {
			t.Errorf("%v %q", err, out)
		}
	}
	if made := entries(t, p.Data); made != "" {
		t.Errorf("it made %q", made)
	}
	p.start()
	p.audit()
	p.kill()
	p.audit()
}

// Alone and beside a server an audit says nothing but its outcome, and it does not compare books with the chain of others.
func TestAuditIsCalm(t *testing.T) {
	t.Parallel()
	p, other := start(t, "--demo=off"), start(t, "--demo=off")
	beside := p.audit()
	wrong := append([]string{"audit"}, p.args...)
	if out, err := p.command(append(wrong, "--dev-rpc="+strings.TrimPrefix(other.RPC, "http://"))...); err == nil || !strings.Contains(out, "does not go with the development chain") {
		t.Errorf("another's chain: %v %q", err, out)
	}
	p.kill()
	for _, out := range []string{beside, p.audit()} {
		if strings.Contains(out, "level=") {
			t.Errorf("it said:\n%s", out)
		}
	}
}

// entries names everything below a folder.
func entries(t *testing.T, folder string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}
