package indiegent_test

import (
	"net/http"
	"testing"

	"bursar/money"
	"bursar/pay/paytest"
	"bursar/rest"
)

// TestDryRun: the envelope with a verdict, and nothing paid; a refusal of the real call names its trace.
func TestDryRun(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("dev@example.com")
	l.agent(p, "Research Bot", money.One)
	s := l.World.Seller(10_000)
	link := s.Link(2, paytest.Serve, 0)
	a := l.fetch(p, `{"url":"`+link+`","dry_run":true}`)
	if a.Status != http.StatusOK || a.at("verdict", "allowed") != true || a.text("verdict", "price") != "0.010000" || a.text("_indiegent", "payment_method") != "none" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	a = l.fetch(p, `{"url":"`+link+`","dry_run":true,"max_cost":0.001}`)
	if a.Status != http.StatusOK || a.at("verdict", "allowed") != false || a.text("verdict", "code") != "cost_exceeds_max" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	a = l.fetch(p, `{"url":"`+link+`","max_cost":0.001}`)
	if a.Status != http.StatusUnprocessableEntity || len(a.text("trace_id")) != 36 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a = l.fetch(p, `{"url":"`+link+`","dry_run":"yes"}`); a.Status != http.StatusBadRequest {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if n := len(s.Seen()); n != 0 {
		t.Errorf("%d proofs were sent", n)
	}
}
