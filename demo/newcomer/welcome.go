package newcomer

import (
	"io"
	"text/template"
)

// Addresses are what a newcomer opens.
type Addresses struct {
	API, Demo, RPC string // base URLs
	GraphiQL       bool
}

var welcome = template.Must(template.New("welcome").Parse(`
Bursar is ready.

  API         {{.API}}            IndieGent at /, AgnicPay at /api, GraphQL at /graphql
{{- if .GraphiQL}}
  GraphiQL    {{.API}}/graphiql   paste the API key into its key field
{{- end}}
  Demo shop   {{.Demo}}            sells weather and jokes by x402
  Chain RPC   {{.RPC}}            a development chain; any Ethereum tool connects

  Demo user   {{.Email}} / {{.Password}}
  Agent       {{.Agent}}  {{.AgentAddress}}
  Keys        API key {{.APIKey}}
              Agnic token {{.AgnicToken}}

Try it: paste any of these.

# A paid call, from the agent's own wallet (IndieGent)
curl -s {{.API}}/external/fetch -H "X-API-Key: {{.APIKey}}" -H "X-Agent-Wallet: {{.Agent}}" \
  -H "Content-Type: application/json" -d '{"url":"{{.Demo}}/v1/weather?city=Paris","max_cost":0.05}'

# Open a session with 5.00 USDC, and pay from it
SID=$(curl -s {{.API}}/sessions -H "X-API-Key: {{.APIKey}}" -H "Content-Type: application/json" \
  -d '{"agent_wallet_id":"{{.AgentID}}","deposit_amount":5.00}' | grep -o '"id":"[^"]*"' | head -n 1 | cut -d'"' -f4)
curl -s {{.API}}/external/fetch -H "X-API-Key: {{.APIKey}}" -H "X-Agent-Wallet: {{.Agent}}" -H "X-Session-Id: $SID" \
  -H "Content-Type: application/json" -d '{"url":"{{.Demo}}/v2/weather?city=Paris","max_cost":0.05}'

# A service that bills by use: what its answer counts is what the call costs, from the session or from the wallet
curl -s {{.API}}/services/demo-writer/complete -H "X-API-Key: {{.APIKey}}" -H "X-Agent-Wallet: {{.Agent}}" -H "X-Session-Id: $SID" \
  -H "Content-Type: application/json" -d '{"prompt":"the weather in Paris"}'
curl -s {{.API}}/services/demo-proverbs/today -H "X-API-Key: {{.APIKey}}" -H "X-Agent-Wallet: {{.Agent}}"

# A paid call in the other dialect (AgnicPay), and one from a session of its wallet
curl -si -X POST "{{.API}}/api/x402/fetch?url={{.Demo}}/v2/weather&maxValue=50000" -H "X-Agnic-Token: {{.AgnicToken}}"
ASID=$(curl -s {{.API}}/sessions -H "X-API-Key: {{.APIKey}}" -H "Content-Type: application/json" \
  -d '{"agent_wallet_id":"{{.WalletID}}","deposit_amount":1.00}' | grep -o '"id":"[^"]*"' | head -n 1 | cut -d'"' -f4)
curl -si -X POST "{{.API}}/api/x402/fetch?url={{.Demo}}/v1/joke" -H "X-Agnic-Token: {{.AgnicToken}}" -H "X-Session-Id: $ASID"

# Close the session: what is left goes back on chain
curl -s -X POST {{.API}}/sessions/$SID/close -H "X-API-Key: {{.APIKey}}"

`))

// Print writes the addresses, the credentials and the commands to try.
func (n *Newcomer) Print(w io.Writer, a Addresses) error {
	return welcome.Execute(w, struct {
		*Newcomer
		Addresses
	}{n, a})
}
