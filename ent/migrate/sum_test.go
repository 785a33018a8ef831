package migrate_test

import (
	"testing"

	atlas "ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqltool"
)

// TestSums: the files are those that were summed. A changed migration would make databases that differ.
func TestSums(t *testing.T) {
	for _, folder := range []string{"postgres", "sqlite"} {
		dir, err := sqltool.NewGooseDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		if err := atlas.Validate(dir); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
	}
}
