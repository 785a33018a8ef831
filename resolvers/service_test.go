package resolvers_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"bursar/money"
)

const (
	addService    = `mutation($in: AddServiceInput!) { addService(input: $in) { ` + serviceFields + ` } }`
	updateService = `mutation($in: UpdateServiceInput!) { updateService(input: $in) { ` + serviceFields + ` } }`
	serviceFields = `id slug name description host known own active walletAddress baseUrl credential { place name prefix } price { perCall by field unit per default maximum text } createdAt`
)

// TestServices: an organisation puts a business into the catalogue, others see and call it, and see nothing that is between
// it and its server.
func TestServices(t *testing.T) {
	d := open(t)
	seller, buyer := d.user("seller@example.com"), d.user("buyer@example.com")
	const secret = "sk-the-sellers-own-secret"
	url := d.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer "+secret || r.URL.Path != "/v1/write" || string(b) != `{"n":3}` {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"usage":{"tokens":30}}`)
	}))
	in := map[string]any{
		"name": "The Writer", "baseUrl": url + "/v1", "walletAddress": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
		"price":      map[string]any{"perCall": "100", "by": "RESPONSE_FIELD", "field": "usage.tokens", "unit": "50", "per": 1, "maximum": "10000"},
		"credential": map[string]any{"place": "HEADER", "name": "Authorization", "prefix": "Bearer ", "secret": secret},
	}
	a := d.do(seller, addService, map[string]any{"in": in})
	id := a.str("addService.id")
	if a.str("addService.slug") != "the-writer" || a.at("addService.own") != true || a.str("addService.credential.prefix") != "Bearer " || a.str("addService.known") != "gateway/the-writer" ||
		a.str("addService.price.by") != "RESPONSE_FIELD" || a.str("addService.price.perCall") != "100" || a.str("addService.baseUrl") != url+"/v1" || strings.Contains(a.text, secret) {
		t.Error(a.text)
	}
	d.ask(seller, addService, map[string]any{"in": in}).refused("CONFLICT")
	in["price"] = map[string]any{"perCall": "100", "by": "RESPONSE_FIELD"}
	d.ask(seller, addService, map[string]any{"in": in}).refused("INVALID_REQUEST")

	a = d.do(buyer, `{ services { `+serviceFields+` } service(slug: "the-writer") { `+serviceFields+` } businesses { calls } }`, nil)
	if a.at("service.own") != false || a.at("service.baseUrl") != nil || a.at("service.credential") != nil || a.str("service.price.maximum") != "10000" ||
		a.str("services.0.slug") != "the-writer" || strings.Contains(a.text, "/v1") {
		t.Error(a.text)
	}
	d.ask(buyer, updateService, map[string]any{"in": map[string]any{"id": id, "name": "mine"}}).refused("NOT_FOUND")
	d.ask(buyer, `mutation($in: RemoveServiceInput!) { removeService(input: $in) { id } }`, map[string]any{"in": map[string]any{"id": id}}).refused("NOT_FOUND")
	d.ask(buyer, `{ service(slug: "nobody") { id } }`, nil).refused("NOT_FOUND")

	agent := d.agent(buyer, "bot", 5*money.One)
	session := d.do(buyer, openSession, map[string]any{"in": map[string]any{"agentId": agent, "deposit": "1000000", "durationSeconds": 600}}).str("openSession.id")
	call := map[string]any{"agent": agent, "sessionId": session, "service": "the-writer", "url": "write", "method": "POST", "body": `{"n":3}`}
	const metered = `mutation($in: FetchInput!) { fetch(input: $in) { status body cost paid paidBy sessionRemaining transaction { status amount service trace { offers { protocol scheme } } } verdict { allowed price } } }`
	a = d.do(buyer, metered, map[string]any{"in": call})
	if a.str("fetch.cost") != "1600" || a.str("fetch.paidBy") != "session" || a.str("fetch.sessionRemaining") != "998400" || a.str("fetch.transaction.service") != "gateway/the-writer" {
		t.Error(a.text)
	}
	call["dryRun"] = true
	if a = d.do(buyer, metered, map[string]any{"in": call}); a.str("fetch.verdict.price") != "10000" || a.at("fetch.transaction") != nil {
		t.Error(a.text)
	}
	delete(call, "dryRun")

	// Another host gets the credential only from who knows it.
	d.ask(seller, updateService, map[string]any{"in": map[string]any{"id": id, "baseUrl": "https://example.com/"}}).refused("INVALID_REQUEST")
	a = d.do(seller, updateService, map[string]any{"in": map[string]any{"id": id, "price": map[string]any{"perCall": "7"}, "credential": map[string]any{"place": "NONE"}}})
	if a.str("updateService.price.by") != "NOTHING" || a.at("updateService.credential") != nil {
		t.Error(a.text)
	}
	if a = d.do(buyer, metered, map[string]any{"in": call}); a.at("fetch.status") != 401.0 || a.str("fetch.cost") != "0" || a.str("fetch.transaction.status") != "FAILED" {
		t.Error(a.text)
	}
	if a = d.do(seller, `{ businesses { calls revenue owed sending sent verified service { slug } } }`, nil); a.at("businesses.0.calls") != 1.0 || a.str("businesses.0.owed") != "1600" {
		t.Error(a.text)
	}
	d.do(seller, updateService, map[string]any{"in": map[string]any{"id": id, "active": false}})
	d.ask(buyer, metered, map[string]any{"in": call}).refused("NOT_FOUND")
	d.ask(buyer, `{ service(slug: "the-writer") { id } }`, nil).refused("NOT_FOUND")
	if a = d.do(seller, `{ service(slug: "the-writer") { active } }`, nil); a.at("service.active") != false {
		t.Error(a.text)
	}
	d.do(seller, `mutation($in: RemoveServiceInput!) { removeService(input: $in) { active } }`, map[string]any{"in": map[string]any{"id": id}})
	d.Settle()
	d.Balanced()
}
