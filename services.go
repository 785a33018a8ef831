package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"bursar/config"
	"bursar/core"
	"bursar/core/pricing"
	"bursar/demo"
	"bursar/ent/service"
	"bursar/money"
)

// installServices brings the operator's part of the catalogue to what the settings list: the file's services, and the demo's.
func installServices(ctx context.Context, cfg config.Config, app *core.Core) error {
	var list []core.ServiceInput
	if cfg.Services != "" {
		text, err := os.ReadFile(cfg.Services)
		if err != nil {
			return fmt.Errorf("--services: %w", err)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&list); err != nil {
			return fmt.Errorf("--services: %s: %w", cfg.Services, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("--services: %s: one list is expected", cfg.Services)
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
