package agnic_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/money"
	"bursar/rest"
)

// cautious makes each payment of the person's wallet need a yes.
func cautious(l *lab, p *person) {
	l.t.Helper()
	wallet, err := l.app.Agents.Default(l.Ctx, p.Principal)
	l.no(err)
	_, err = l.app.Policies.Update(l.Ctx, p.Principal, wallet.ID, core.PolicyInput{ApproveAbove: core.Set(money.USDC(0))})
	l.no(err)
}

// TestApproval: a call that waits for a person is 202, and so is a proof that the caller would send; with a yes both are
// made, once. The id is not told to the service.
func TestApproval(t *testing.T) {
	l := newLab(t, rest.Options{})
	p := l.person("a@example.com", money.One, core.TokenInput{})
	cautious(l, p)
	const data = "/api/x402/fetch?url=https://api.example.com/data"
	asked := func(a *reply) string {
		t.Helper()
		l.refused(a, http.StatusAccepted, "approval_required", "A person must approve")
		id, _ := a.json["approval_id"].(string)
		return id
	}
	approve := func(id string) {
		t.Helper()
		_, err := l.app.Approvals.Approve(l.Ctx, p.Principal, uuid.MustParse(id))
		l.no(err)
	}
	id := asked(l.send("POST", data, "", "X-Agnic-Token", p.token))
	if asked(l.send("POST", data+"&approvalWait=0", "", "X-Agnic-Token", p.token, "X-Approval-Id", id)) != id {
		t.Error("the same call asks twice")
	}
	approve(id)
	if a := l.buy(p, "/data", "X-Approval-Id", id); a.header.Get("X-Agnic-Amount") != "0.25" {
		t.Errorf("%v", a.header)
	}
	if seen := l.seller.Seen(); len(seen) != 1 || seen[0].Header.Get("X-Approval-Id") != "" {
		t.Errorf("%+v", seen)
	}
	sign := func(header ...string) *reply {
		n := l.Net.Client.Network()
		offer := `{"scheme":"exact","network":"` + n.Name + `","maxAmountRequired":"250000","maxTimeoutSeconds":60,"resource":"https://api.example.com/data","asset":"` +
			n.USDC.Hex() + `","payTo":"` + l.seller.PayTo.Hex() + `"}`
		body := `{"paymentRequirements":{"accepts":[` + offer + `]},"requestData":{"url":"https://api.example.com/data"}}`
		return l.send("POST", "/api/sign-payment?approvalWait=0", body, append([]string{"X-Agnic-Token", p.token}, header...)...)
	}
	id = asked(sign())
	approve(id)
	if a := sign("X-Approval-Id", id); a.status != http.StatusOK || a.json["success"] != true {
		t.Errorf("%d %s", a.status, a.body)
	}
	asked(sign())
	l.refused(l.send("POST", data+"&approvalWait=-1", "", "X-Agnic-Token", p.token), http.StatusBadRequest, "invalid_request", "approvalWait")
	l.refused(l.send("POST", data, "", "X-Agnic-Token", p.token, "X-Approval-Id", "x"), http.StatusBadRequest, "invalid_request", "UUID")
	l.Settle()
	l.Balanced()
}
