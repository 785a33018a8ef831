package agnic_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

func TestTokenLimitsAreExact(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	make := func(body string) *reply {
		return l.send("POST", "/api/generate-n8n-token", body, "Authorization", "Bearer "+p.login)
	}
	for literal, want := range map[string]string{
		"0.1": "0.10", "5": "5.00", "5.00": "5.00", "0.000001": "0.000001", "0": "0.00", "16777217.1": "16777217.10", "123456789.123456": "123456789.123456",
		"1000000000": "1000000000.00", "1.0000000": "1.00", "null": "null",
	} {
		a := make(`{"dailyLimit":` + literal + `}`)
		if a.status != http.StatusOK || !strings.Contains(string(a.body), `"dailyLimit":`+want+`,`) {
			t.Errorf("%s: %d %s", literal, a.status, a.body)
		}
	}
	for _, field := range []string{"maxPerTransaction", "dailyLimit", "monthlyLimit"} {
		for _, literal := range []string{
			"1e3", "1E3", "1.5e0", "0.0000001", "-1", "-0.5", `"5"`, `"NaN"`, `""`, "true", "[]", "{}", "1000000000.000001", "99999999999999999999999999",
		} {
			l.refused(make(fmt.Sprintf(`{"label":"x",%q:%s}`, field, literal)), http.StatusBadRequest, "invalid_request", field)
		}
		for _, literal := range []string{"NaN", "Infinity", "+1", ".5", "5.", "0x10", "1,000", "01", ""} {
			l.refused(make(fmt.Sprintf(`{"label":"x",%q:%s}`, field, literal)), http.StatusBadRequest, "invalid_request", "")
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	for body, want := range map[string]string{
		`[]`:                      "object",
		`"x"`:                     "object",
		`null`:                    "object",
		`{`:                       "not valid JSON",
		`{} {}`:                   "not valid JSON",
		"{\"label\":\"\xff\"}":    "not valid JSON",
		`{"label":5}`:             "label must be a string",
		`{"label":"   "}`:         "name",
		`{"networks":"base"}`:     "networks must be a list",
		`{"networks":["mars"]}`:   "mars",
		`{"networks":[1]}`:        "networks",
		`{"expiresIn":0}`:         "expiresIn must be",
		`{"expiresIn":-1}`:        "expiresIn must be",
		`{"expiresIn":1.5}`:       "expiresIn must be",
		`{"expiresIn":"1h"}`:      "expiresIn must be",
		`{"expiresIn":315360001}`: "expiresIn must be",
		`{"label":"` + strings.Repeat("x", 101) + `"}`: "name",
	} {
		l.refused(l.send("POST", "/api/generate-n8n-token", body, "Authorization", "Bearer "+p.login), http.StatusBadRequest, "invalid_request", want)
	}
	large := `{"label":"` + strings.Repeat("x", rest.MaxBody) + `"}`
	l.refused(l.send("POST", "/api/generate-n8n-token", large, "Authorization", "Bearer "+p.login), http.StatusBadRequest, "invalid_request", "larger")
}

// TestTokenLife: made without a body, used, listed, revoked, revoked again.
func TestTokenLife(t *testing.T) {
	l := newLab(t, rest.Options{})
	p, other := l.person("a@example.com", money.One, core.TokenInput{}), l.person("b@example.com", 0, core.TokenInput{})
	made := l.send("POST", "/api/generate-n8n-token", "", "Authorization", "Bearer "+p.login)
	secret, _ := made.json["token"].(string)
	id, _ := made.json["tokenId"].(string)
	if made.status != http.StatusOK || made.json["label"] != "API token" || made.json["expiresAt"] != nil || len(made.json["networks"].([]any)) != 0 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	use := func() int { return l.send("GET", "/api/balance", "", "X-Agnic-Token", secret).status }
	if use() != http.StatusOK {
		t.Error("a new token does not work")
	}
	list := func() map[string]any {
		a := l.send("GET", "/api/tokens", "", "Authorization", "Bearer "+p.login)
		if strings.Contains(string(a.body), secret) || len(a.json["tokens"].([]any)) != 2 {
			t.Fatalf("%s", a.body)
		}
		return a.json["tokens"].([]any)[0].(map[string]any)
	}
	if got := list(); got["tokenId"] != id || got["lastUsedAt"] == nil || got["revoked"] != false || !strings.HasPrefix(secret, got["prefix"].(string)) {
		t.Errorf("%v", got)
	}
	revoke := func(login, body string) *reply {
		return l.send("POST", "/api/revoke-token", body, "Authorization", "Bearer "+login)
	}
	l.refused(revoke(other.login, `{"tokenId":"`+id+`"}`), http.StatusNotFound, "not_found", "")
	l.refused(revoke(secret, `{"tokenId":"`+id+`"}`), http.StatusForbidden, "insufficient_scope", "")
	for body, want := range map[string]string{`{}`: "tokenId is required", `{"tokenId":null}`: "tokenId is required", `{"tokenId":7}`: "tokenId must be a string", "": "body is required"} {
		l.refused(revoke(p.login, body), http.StatusBadRequest, "invalid_request", want)
	}
	for _, unknown := range []string{"nonsense", "019ab3a0-0000-7000-8000-000000000000", "urn:uuid:" + id, "{" + id + "}"} {
		l.refused(revoke(p.login, `{"tokenId":"`+unknown+`"}`), http.StatusNotFound, "not_found", "")
	}
	for range 2 {
		if a := revoke(p.login, `{"tokenId":"`+id+`"}`); a.status != http.StatusOK || a.json["success"] != true {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if use() != http.StatusUnauthorized || list()["revoked"] != true {
		t.Error("a revoked token works")
	}
}

func TestTokenExpires(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	made := l.send("POST", "/api/generate-n8n-token", `{"expiresIn":60}`, "Authorization", "Bearer "+p.login)
	secret, _ := made.json["token"].(string)
	if a := l.send("GET", "/api/balance", "", "X-Agnic-Token", secret); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	l.Pass(61 * time.Second)
	l.refused(l.send("GET", "/api/balance", "", "X-Agnic-Token", secret), http.StatusUnauthorized, "unauthorized", "")
}

// TestNumbersAreNumbers: no amount is a string, and none has an exponent.
func TestNumbersAreNumbers(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", 0, core.TokenInput{})
	a := l.send("POST", "/api/generate-n8n-token", `{"maxPerTransaction":1000000000,"dailyLimit":0.000001,"monthlyLimit":0}`, "Authorization", "Bearer "+p.login)
	for field, want := range map[string]json.Number{"maxPerTransaction": "1000000000.00", "dailyLimit": "0.000001", "monthlyLimit": "0.00"} {
		if a.json[field] != want {
			t.Errorf("%s: %v, want %v", field, a.json[field], want)
		}
	}
}
