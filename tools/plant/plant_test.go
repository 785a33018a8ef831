package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The table follows the code: every bug can still be planted, and its test is still there.
func TestEveryBugCanBePlanted(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range bugs() {
		if seen[b.name] || b.name == "" || b.costs == "" || len(b.edits) == 0 {
			t.Errorf("%q: twice, or incomplete", b.name)
		}
		seen[b.name] = true
		files, err := planted(root, b)
		if err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
		for name := range files {
			if strings.HasSuffix(name, "_test.go") {
				t.Errorf("%s changes a test", b.name)
			}
		}
		if !hasTest(t, filepath.Join(root, b.proof.folder), b.proof.test) {
			t.Errorf("%s: no %s in ./%s", b.name, b.proof.test, b.proof.folder)
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d bugs", len(seen))
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
