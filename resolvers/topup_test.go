package resolvers_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"

	"bursar/money"
)

// TestTopUp goes from the draft to the pulled money by GraphQL alone, signing as a browser's wallet does.
func TestTopUp(t *testing.T) {
	d := open(t)
	me := d.user("dev@example.com")
	id := d.agent(me, "bot", 0)
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	source := crypto.PubkeyToAddress(key.PublicKey)
	d.Net.Fund(source, 10*money.One)
	sign := func(digest []byte) string {
		sig, err := crypto.Sign(digest, key)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("0x%x", sig) // v counts from 0, as some wallets have it
	}

	in := map[string]any{"agentId": id, "source": source.Hex(), "threshold": "1000000", "amount": "4000000", "dailyLimit": "8000000", "permitValue": "8000000"}
	const query = `query($in: TopUpTerms!) { topUpDraft(input: $in) { spender issuedAt text dailyLimit allowance permit { value deadline typedData } } }`
	draft := d.do(me, query, map[string]any{"in": in})
	if draft.str("topUpDraft.spender") != d.Relayer.Hex() || draft.str("topUpDraft.dailyLimit") != "8000000" || draft.str("topUpDraft.allowance") != "0" {
		t.Error(draft.text)
	}
	var typed apitypes.TypedData
	if err := json.Unmarshal([]byte(draft.str("topUpDraft.permit.typedData")), &typed); err != nil {
		t.Fatal(err)
	}
	digest, _, err := apitypes.TypedDataAndHash(typed)
	if err != nil {
		t.Fatal(err)
	}
	delete(in, "permitValue")
	in["issuedAt"], in["signature"] = draft.str("topUpDraft.issuedAt"), sign(accounts.TextHash([]byte(draft.str("topUpDraft.text"))))
	in["permit"] = map[string]any{"value": "8000000", "deadline": draft.str("topUpDraft.permit.deadline"), "signature": sign(digest)}
	const authorize = `mutation($in: AuthorizeTopUpInput!) { authorizeTopUp(input: $in) { autoTopupConsentAt autoTopupDailyLimit autoTopupError autoTopupFailedAt } }`
	d.ask(d.user("other@example.com"), authorize, map[string]any{"in": in}).refused("NOT_FOUND")
	in["amount"] = "4000001"
	d.ask(me, authorize, map[string]any{"in": in}).refused("FORBIDDEN")
	in["amount"] = "4000000"
	a := d.do(me, authorize, map[string]any{"in": in})
	if a.str("authorizeTopUp.autoTopupConsentAt") != draft.str("topUpDraft.issuedAt") || a.str("authorizeTopUp.autoTopupDailyLimit") != "8000000" ||
		a.str("authorizeTopUp.autoTopupError") != "" || a.at("authorizeTopUp.autoTopupFailedAt") != nil {
		t.Error(a.text)
	}

	posted := `query($id: ID!) { agent(id: $id) { wallet { posted } autoTopupError } }`
	for give := time.Now().Add(time.Minute); ; { // the permit, then the pull
		d.Settle()
		if err := d.Core.TopUps.RunDue(d.Ctx); err != nil {
			t.Fatal(err)
		}
		a = d.do(me, posted, map[string]any{"id": id})
		if a.str("agent.wallet.posted") == "4000000" {
			break
		}
		if a.str("agent.autoTopupError") != "" || time.Now().After(give) {
			t.Fatal(a.text)
		}
	}
	// Newest first: the gas grant that the arrival has brought, and the top-up.
	a = d.do(me, `query { transactions { items { kind status amount from } } }`, nil)
	if a.str("transactions.items.1.kind") != "AUTO_TOPUP" || a.str("transactions.items.1.status") != "SUCCESS" || a.str("transactions.items.1.from") != source.Hex() {
		t.Error(a.text)
	}
	a = d.do(me, `mutation($id: ID!) { updateAgent(input: {agentId: $id, autoTopupSource: null}) { autoTopupConsentAt autoTopupSource } }`, map[string]any{"id": id})
	if a.at("updateAgent.autoTopupConsentAt") != nil || a.at("updateAgent.autoTopupSource") != nil {
		t.Error(a.text)
	}
	d.Balanced()
}
