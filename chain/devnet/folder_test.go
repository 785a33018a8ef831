package devnet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bursar/evm"
)

// A folder with an earlier version's chain is explained, and nothing is put beside it. One that has ours as well is ours.
func TestFolderOfAnEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, fmt.Sprint("devnet-v1-", evm.DevID))
	if err := os.Mkdir(old, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{DataDir: dir, Clock: time.Now}); err == nil || !strings.Contains(err.Error(), old+" is the chain of an earlier version") {
		t.Fatalf("old folder: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	start(t, Config{DataDir: dir, ChainID: evm.BaseSepoliaID})
	if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("%s-%d", folder, evm.DevID)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := outdated(dir, fmt.Sprintf("%s-%d", folder, evm.DevID)); err != nil {
		t.Errorf("a folder of ours beside it: %v", err)
	}
}
