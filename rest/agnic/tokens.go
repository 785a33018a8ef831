package agnic

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent/apikey"
	"bursar/money"
	"bursar/rest"
)

const (
	defaultLabel = "API token"
	maxTokenLife = 10 * 365 * 24 * 3600 // seconds
)

// ListTokens is GET /api/tokens.
func (a *api) ListTokens(w http.ResponseWriter, r *http.Request) {
	keys, err := a.app.APIKeys.List(r.Context(), rest.Principal(r.Context()), apikey.KindAgnicToken)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, tokensBody(keys))
}

// GenerateToken is POST /api/generate-n8n-token: a token on the caller's default wallet, shown once.
func (a *api) GenerateToken(w http.ResponseWriter, r *http.Request) {
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

func tokenInput(w http.ResponseWriter, r *http.Request) (in core.TokenInput, err error) {
	body, err := rest.ReadBody(w, r)
	if err != nil {
		return in, err
	}
	if len(bytes.TrimSpace(body)) == 0 { // every field is optional, so is the body
		body = []byte("{}")
	}
	var raw TokenRequest
	if err := rest.Agnic.Decode(body, &raw); err != nil {
		return in, err
	}
	if in.Label = text(raw.Label); in.Label == "" {
		in.Label = defaultLabel
	}
	if raw.Networks != nil {
		in.Networks = *raw.Networks
	}
	if in.MaxPerTransaction, err = limit("maxPerTransaction", raw.MaxPerTransaction); err != nil {
		return in, err
	}
	if in.DailyLimit, err = limit("dailyLimit", raw.DailyLimit); err != nil {
		return in, err
	}
	if in.MonthlyLimit, err = limit("monthlyLimit", raw.MonthlyLimit); err != nil {
		return in, err
	}
	seconds, err := rest.Integer("expiresIn", raw.ExpiresIn, 1, maxTokenLife)
	if seconds != nil {
		in.ExpiresIn = time.Duration(*seconds) * time.Second
	}
	return in, err
}

// limit reads dollars; absent or null means none.
func limit(field string, raw json.RawMessage) (*money.USDC, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	return rest.Dollars(field, raw)
}

// RevokeToken is POST /api/revoke-token. Again is the same answer.
func (a *api) RevokeToken(w http.ResponseWriter, r *http.Request) {
	id, err := tokenID(w, r)
	if err == nil {
		err = a.app.APIKeys.Revoke(r.Context(), rest.Principal(r.Context()), apikey.KindAgnicToken, id)
	}
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	rest.WriteJSON(w, http.StatusOK, map[string]bool{"success": true})
}

func tokenID(w http.ResponseWriter, r *http.Request) (uuid.UUID, error) {
	body, err := rest.ReadBody(w, r)
	if err != nil {
		return uuid.Nil, err
	}
	var raw RevokeTokenJSONBody
	if err := rest.Agnic.Decode(body, &raw); err != nil {
		return uuid.Nil, err
	}
	if raw.TokenId == "" {
		return uuid.Nil, core.E(core.InvalidRequest, "tokenId is required")
	}
	id, err := uuid.Parse(raw.TokenId)
	if err != nil || len(raw.TokenId) != 36 { // what is no id names nothing
		return uuid.Nil, core.E(core.NotFound, "Token not found")
	}
	return id, nil
}
