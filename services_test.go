package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong in the operator's list is told by entry and field.
func TestServicesFile(t *testing.T) {
	t.Parallel()
	const good = `{"slug": "maps", "name": "Maps", "base_url": "https://maps.example", "price": {"per_call": 5000}}`
	for text, want := range map[string]string{
		good:                "it must be a list, not object",
		"":                  "unexpected end",
		"[" + good + "] []": "after top-level value",
		"[" + good + ", 5]": `entry 2 (""): an entry must be an object, not number`,
		"[" + good + ", {\"slug\": \"writer\", \"price\": {\"per_call\": 0.5}}]": `entry 2 ("writer"): price.per_call must be a whole number (amounts are atomic USDC: 1000000 is a dollar), not number 0.5`,
		`[{"name": "Writer", "price": {"by": 1}}]`:                               `entry 1 ("Writer"): price.by must be a text, not number`,
		`[{"slug": "a", "price": {"default": "none"}}]`:                          `entry 1 ("a"): price.default must be a whole number`,
		`[{"slug": "a", "credential": "key"}]`:                                   `entry 1 ("a"): credential must be an object, not string`,
		`[{"slug": "a", "pirce": {}}]`:                                           `entry 1 ("a"): unknown field "pirce"`,
		`[{"slug": "a", "name": 5}]`:                                             `entry 1 ("a"): name must be a text, not number`,
	} {
		path := filepath.Join(t.TempDir(), "services.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		_, err := readServices(t.Context(), path, slog.New(slog.NewTextHandler(&said, nil)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "json: cannot") || strings.Contains(err.Error(), "json: unknown") || said.Len() > 0 {
			t.Errorf("%s: %v %s", text, err, &said)
		}
	}
}

// The list may hold credentials: a file that others may read is warned of, and used.
func TestServicesFileIsPrivate(t *testing.T) {
	t.Parallel()
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true} {
		path := filepath.Join(t.TempDir(), "services.json")
		if err := os.WriteFile(path, []byte(`[{"slug": "maps", "credential": {"in": "header", "name": "Key", "secret": "hidden"}}]`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		list, err := readServices(t.Context(), path, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil || len(list) != 1 || strings.Contains(said.String(), "level=WARN") != warned || strings.Contains(said.String(), "hidden") {
			t.Errorf("%o: %v %v %s", mode, list, err, &said)
		}
	}
}
