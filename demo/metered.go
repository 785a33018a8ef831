package demo

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Beside what it sells by x402, the service has two routes that take no payment and want a key, as most paid APIs do: the
// server calls them as services of its catalogue, and bills by use.

// APIKey is what the metered routes want in X-Api-Key. It is the demo's, and no secret.
const APIKey = "demo-service-key"

// Bounds of the writer.
const (
	maxPrompt   = 64 << 10 // bytes
	tokenLetter = 4        // letters of a token, about
)

func (s *service) keyed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("X-Api-Key") != APIKey {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"X-Api-Key is missing or wrong"}`+"\n")
			return
		}
		next(w, r)
	}
}

// complete writes something about a prompt, and counts tokens as language models do.
func (s *service) complete(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Prompt string `json:"prompt"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPrompt)).Decode(&in); err != nil || strings.TrimSpace(in.Prompt) == "" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"a prompt is required"}`+"\n")
		return
	}
	text := "There is much to say about " + in.Prompt + ", and little of it is known."
	asked, written := len(in.Prompt)/tokenLetter+1, len(text)/tokenLetter+1
	s.answer(w, map[string]any{"text": text, "usage": map[string]int{
		"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written,
	}})
}

func (s *service) proverb(w http.ResponseWriter, r *http.Request) {
	s.answer(w, joke(r, s.Clock()))
}

func (s *service) answer(w http.ResponseWriter, v any) {
	text, err := encode(v)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, text)
}
