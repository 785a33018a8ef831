package resolvers_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"

	"bursar/ent/apikey"
	"bursar/ent/approval"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/graph"
)

// TestSchema checks what must hold of every name in it.
func TestSchema(t *testing.T) {
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	secret := regexp.MustCompile(`(?i)hash|sealed|signature|nonce|keyset|password|secret|private`)
	fine := map[string]bool{ // shown once to who made it, given by the caller, or on the chain for everybody
		"IssuedKey.secret": true, "ExportedKey.privateKey": true, "PasswordInput.password": true, "FundAgentInput.txHash": true,
		"Transaction.txHash": true, "Session.depositTxHash": true, "Session.refundTxHash": true, "FundResult.gasTxHash": true, "AuthorizeTopUpInput.signature": true, "PermitInput.signature": true, "ServiceCredentialInput.secret": true, "DrainResult.txHash": true, "TracedLogin.nonce": true,
	}
	amount := regexp.MustCompile(`(?i)amount|cost|limit$|cap$|deposit$|used|remaining|refunded|posted|pending|available|total$|spent|quoted|perCallMax|threshold|maxPerTransaction`)
	none := map[string]bool{
		"TransactionPage.total": true, "ApprovalPage.total": true, "TracePage.total": true, "TracedOffer.refused": true, "PolicyReplay.refused": true, "TracedLogin.refused": true, "ApiKey.lastUsedAt": true,
	}
	for name, def := range schema.Types {
		if strings.HasPrefix(name, "__") {
			continue
		}
		for _, f := range def.Fields {
			full := name + "." + f.Name
			if secret.MatchString(f.Name) && !fine[full] {
				t.Errorf("%s looks like a secret", full)
			}
			if k := f.Type.Name(); amount.MatchString(f.Name) && !none[full] && k != "USDC" {
				t.Errorf("%s is an amount and has the type %s", full, k)
			}
			if f.Type.Name() == "Float" {
				t.Errorf("%s is a float", full)
			}
			if def.Kind == ast.InputObject && f.Type.NonNull && strings.HasSuffix(f.Name, "Key") {
				t.Errorf("%s must be optional", full)
			}
		}
	}
	for _, f := range schema.Mutation.Fields {
		if len(f.Arguments) != 1 || f.Arguments[0].Name != "input" || !f.Arguments[0].Type.NonNull {
			t.Errorf("mutation %s does not take one input object", f.Name)
		}
	}
}

// TestEnums: the schema's names are those of the domain, in capitals.
func TestEnums(t *testing.T) {
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	for name, valid := range map[string]func(string) error{
		"SessionStatus":     func(s string) error { return session.StatusValidator(session.Status(s)) },
		"TransactionStatus": func(s string) error { return transaction.StatusValidator(transaction.Status(s)) },
		"TransactionKind":   func(s string) error { return transaction.KindValidator(transaction.Kind(s)) },
		"ApprovalStatus":    func(s string) error { return approval.StatusValidator(approval.Status(s)) },
		"ApiKeyKind":        func(s string) error { return apikey.KindValidator(apikey.Kind(s)) },
	} {
		for _, v := range schema.Types[name].EnumValues {
			if err := valid(strings.ToLower(v.Name)); err != nil {
				t.Errorf("%s.%s: %v", name, v.Name, err)
			}
		}
	}
}

// TestIntrospection runs the query of graphql-js 16, which GraphiQL and code generators send: the limits must let
// it through, without a credential.
func TestIntrospection(t *testing.T) {
	query, err := os.ReadFile("testdata/introspection.graphql")
	if err != nil {
		t.Fatal(err)
	}
	d := open(t)
	a := d.do(nil, string(query), nil)
	if a.str("__schema.queryType.name") != "Query" {
		t.Errorf("%.300s", a.text)
	}
	for _, word := range []string{"passwordHash", "sealedKey", "password_hash", "sealed_key", `"hash"`} {
		if strings.Contains(a.text, word) {
			t.Errorf("the schema knows %s", word)
		}
	}
}
