package core_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/money"
	"bursar/pay"
)

// A seller that insists on a name for each payment is given one, and never the same one twice.
func TestPaymentsAreNamed(t *testing.T) {
	w := coretest.New(t)
	p, _ := w.User("dev@example.com")
	w.Agent(p, "bot", money.One)
	s := w.Seller(cent)
	var names []string
	url := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if proof := r.Header.Get("PAYMENT-SIGNATURE"); proof != "" {
			var paid struct {
				Extensions map[string]struct{ Info struct{ ID string } }
			}
			unpack(t, proof, &paid)
			names = append(names, paid.Extensions["payment-identifier"].Info.ID)
		}
		insistent{rw, t}.serve(s, r)
	}))
	for range 2 {
		r, err := w.Core.Payments.Fetch(w.Ctx, p, core.FetchInput{Agent: "bot", URL: url + "/v2/serve"})
		if err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
		if name := names[len(names)-1]; name != pay.PaymentIdentifier(r.Payment.ID) || len(name) < 16 {
			t.Errorf("payment %s is called %q", r.Payment.ID, name)
		}
	}
	if len(names) != 2 || names[0] == names[1] {
		t.Error(names)
	}
}

// insistent adds to a challenge that payments must have a name.
type insistent struct {
	http.ResponseWriter
	t *testing.T
}

func (w insistent) serve(s http.Handler, r *http.Request) {
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	if asks := answer.Header().Get("PAYMENT-REQUIRED"); asks != "" {
		var challenge map[string]any
		unpack(w.t, asks, &challenge)
		challenge["extensions"] = map[string]any{"payment-identifier": map[string]any{"info": map[string]any{"required": true}, "schema": map[string]any{}}}
		text, _ := json.Marshal(challenge) // it was read from JSON
		w.Header().Set("PAYMENT-REQUIRED", base64.StdEncoding.EncodeToString(text))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func unpack(t *testing.T, text string, into any) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
