package agnic

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent/apikey"
	"bursar/money"
	"bursar/rest"
)

// maxTokenLife bounds expiresIn, in seconds: ten years.
const maxTokenLife = 10 * 365 * 24 * 3600

// tokens is GET /api/tokens.
func (a *api) tokens(w http.ResponseWriter, r *http.Request) {
	keys, err := a.app.APIKeys.List(r.Context(), rest.Principal(r.Context()), apikey.KindAgnicToken)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, tokensBody(keys))
}

// generateToken is POST /api/generate-n8n-token: a token on the caller's default wallet, shown once.
func (a *api) generateToken(w http.ResponseWriter, r *http.Request) {
	in, err := tokenInput(w, r)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	k, err := a.app.APIKeys.CreateToken(r.Context(), rest.Principal(r.Context()), in)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, issuedBody(k))
}

func tokenInput(w http.ResponseWriter, r *http.Request) (core.TokenInput, error) {
	var in core.TokenInput
	body, err := rest.ReadBody(w, r)
	if err != nil {
		return in, err
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	var raw struct {
		Label             string          `json:"label"`
		MaxPerTransaction json.RawMessage `json:"maxPerTransaction"`
		DailyLimit        json.RawMessage `json:"dailyLimit"`
		MonthlyLimit      json.RawMessage `json:"monthlyLimit"`
		Networks          []string        `json:"networks"`
		ExpiresIn         json.RawMessage `json:"expiresIn"`
	}
	if err := rest.Decode(body, &raw); err != nil {
		return in, err
	}
	in.Label, in.Networks = raw.Label, raw.Networks
	if in.Label == "" {
		in.Label = "API token"
	}
	for _, l := range []struct {
		name string
		raw  json.RawMessage
		to   **money.USDC
	}{
		{"maxPerTransaction", raw.MaxPerTransaction, &in.MaxPerTransaction},
		{"dailyLimit", raw.DailyLimit, &in.DailyLimit},
		{"monthlyLimit", raw.MonthlyLimit, &in.MonthlyLimit},
	} {
		if string(l.raw) == "null" { // the documents: null means none
			continue
		}
		if *l.to, err = rest.Dollars(l.name, l.raw); err != nil {
			return in, err
		}
	}
	seconds, err := rest.Integer("expiresIn", raw.ExpiresIn, 1, maxTokenLife)
	if seconds != nil {
		in.ExpiresIn = time.Duration(*seconds) * time.Second
	}
	return in, err
}

// revokeToken is POST /api/revoke-token. Again is the same answer.
func (a *api) revokeToken(w http.ResponseWriter, r *http.Request) {
	body, err := rest.ReadBody(w, r)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	var raw struct {
		TokenID string `json:"tokenId"`
	}
	if err := rest.Decode(body, &raw); err != nil {
		a.door.Fail(w, r, err)
		return
	}
	id, err := uuid.Parse(raw.TokenID)
	if err != nil {
		a.door.Fail(w, r, core.E(core.NotFound, "Token not found"))
		return
	}
	if err := a.app.APIKeys.Revoke(r.Context(), rest.Principal(r.Context()), apikey.KindAgnicToken, id); err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, map[string]bool{"success": true})
}
