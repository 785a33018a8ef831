package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"

	"bursar/config"
	"bursar/core"
	"bursar/core/pricing"
	"bursar/demo"
	"bursar/ent/service"
	"bursar/money"
)

// installServices brings the operator's part of the catalogue to what the settings list: the file's services, and the demo's.
func installServices(ctx context.Context, cfg config.Config, log *slog.Logger, app *core.Core) error {
	var list []core.ServiceInput
	if cfg.Services != "" {
		var err error
		if list, err = readServices(ctx, cfg.Services, log); err != nil {
			return fmt.Errorf("--services: %w", err)
		}
	}
	if cfg.DemoOn() {
		list = append(list, demoServices(cfg.DemoAddr)...)
	}
	if err := app.Services.Install(ctx, list); err != nil {
		return fmt.Errorf("--services: %w", err)
	}
	return nil
}

// readServices reads the operator's list.
func readServices(ctx context.Context, path string, log *slog.Logger) ([]core.ServiceInput, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		log.WarnContext(ctx, "the file of --services may hold credentials, and others than its owner may read it: chmod 600", "file", path, "mode", info.Mode().Perm())
	}
	list, err := parseServices(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseServices tells what is wrong by entry and field.
func parseServices(text []byte) ([]core.ServiceInput, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, inWords(err, "it")
	}
	list := make([]core.ServiceInput, len(entries))
	for i, entry := range entries {
		var name struct{ Slug, Name string }
		_ = json.Unmarshal(entry, &name) // for the message only
		d := json.NewDecoder(bytes.NewReader(entry))
		d.DisallowUnknownFields()
		if err := d.Decode(&list[i]); err != nil {
			return nil, fmt.Errorf("entry %d (%q): %w", i+1, cmp.Or(name.Slug, name.Name), inWords(err, "an entry"))
		}
	}
	return list, nil
}

// inWords is an error of encoding/json for people who do not read Go; whole names what has no field.
func inWords(err error, whole string) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	want := map[reflect.Kind]string{
		reflect.String: "a text", reflect.Int64: "a whole number (amounts are atomic USDC: 1000000 is a dollar)", reflect.Struct: "an object", reflect.Slice: "a list",
	}[wrong.Type.Kind()]
	return fmt.Errorf("%s must be %s, not %s", cmp.Or(wrong.Field, whole), want, wrong.Value)
}

// demoServices are those of the demo service: one at a price for a call, and one at a price for a token.
func demoServices(address string) []core.ServiceInput {
	key := &core.ServiceCredential{In: service.CredentialInHeader, Name: "X-Api-Key", Secret: demo.APIKey}
	base := "http://" + address
	return []core.ServiceInput{
		{
			Slug: "demo-proverbs", Name: "Demo proverbs", Description: "A joke for a tenth of a cent.", BaseURL: base + "/proverbs",
			Price: pricing.Price{PerCall: money.One / 1000}, Credential: key,
		},
		{
			Slug: "demo-writer", Name: "Demo writer", Description: "Writes about a prompt; billed by the tokens that it counts.", BaseURL: base + "/writer",
			Price: pricing.Price{By: pricing.AnswerField, Field: "usage.total_tokens", Unit: 200 * money.One, Per: 1_000_000, Maximum: money.One / 20}, Credential: key,
		},
	}
}
