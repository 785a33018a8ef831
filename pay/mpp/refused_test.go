package mpp_test

import (
	"net/http"
	"strings"
	"testing"

	"bursar/evm"
	"bursar/pay"
	"bursar/pay/mpp"
	"bursar/pay/paytest"
)

// request parameters that a seller may send in place of the honest ones.
func sending(key string, value any) string {
	return challenge(map[string]string{"request": encode(terms(func(r, _ map[string]any) { r[key] = value }))})
}

func detailing(key string, value any) string {
	return challenge(map[string]string{"request": encode(terms(func(_, d map[string]any) { d[key] = value }))})
}

func writing(json string) string { return challenge(map[string]string{"request": encode(json)}) }

func param(key, value string) string { return challenge(map[string]string{key: value}) }

func TestChargeRefused(t *testing.T) {
	base, _ := evm.NetworkByID(evm.BaseID)
	split := func(amounts ...string) (all []map[string]string) {
		for _, a := range amounts {
			all = append(all, map[string]string{"recipient": "0x0000000000000000000000000000000000000002", "amount": a})
		}
		return all
	}
	for name, c := range map[string]struct {
		line   string
		cause  pay.Cause
		reason string
	}{
		"amount as number":     {sending("amount", 10000), pay.Malformed, "number"},
		"amount as float":      {sending("amount", 0.01), pay.Malformed, "number"},
		"amount with point":    {sending("amount", "0.01"), pay.BadAmount, "amount"},
		"amount in hex":        {sending("amount", "0x2710"), pay.BadAmount, "amount"},
		"amount huge":          {sending("amount", strings.Repeat("9", 30)), pay.BadAmount, "range"},
		"amount of uint256":    {sending("amount", strings.Repeat("9", 78)), pay.BadAmount, "digits"},
		"amount negative":      {sending("amount", "-10000"), pay.BadAmount, "negative"},
		"amount with exponent": {sending("amount", "1e4"), pay.BadAmount, "amount"},
		"amount with space":    {sending("amount", " 1"), pay.BadAmount, "amount"},
		"amount in full width": {sending("amount", "１００"), pay.BadAmount, "amount"},
		"amount empty":         {sending("amount", ""), pay.BadAmount, "amount"},
		"amount zero":          {sending("amount", "0"), pay.BadAmount, "range"},
		"amount null":          {sending("amount", nil), pay.BadAmount, "amount"},
		"amount a list":        {sending("amount", []string{"1"}), pay.Malformed, "array"},
		"payee zero":           {sending("recipient", "0x0000000000000000000000000000000000000000"), pay.BadPayee, "zero"},
		"payee token":          {sending("recipient", strings.ToLower(sepolia.USDC.Hex())), pay.BadPayee, "token"},
		"payee payer":          {sending("recipient", payer.Hex()), pay.BadPayee, "payer"},
		"payee a name":         {sending("recipient", "vitalik.eth"), pay.Malformed, "recipient"},
		"payee too long":       {sending("recipient", seller.Hex()+"00"), pay.Malformed, "recipient"},
		"other token":          {sending("currency", base.USDC.Hex()), pay.BadAsset, "not USDC"},
		"token by name":        {sending("currency", "usdc"), pay.Malformed, "currency"},
		"other network":        {detailing("chainId", 8453), pay.BadNetwork, "the wallet on"},
		"unknown network":      {detailing("chainId", 1), pay.BadNetwork, "eip155:1"},
		"network as text":      {detailing("chainId", "84532"), pay.Malformed, "string"},
		"network negative":     {detailing("chainId", -84532), pay.Malformed, "number"},
		"network a fraction":   {detailing("chainId", 84532.5), pay.Malformed, "number"},
		"18 decimals":          {detailing("decimals", 18), pay.BadAsset, "18 decimals"},
		"no credential types":  {detailing("credentialTypes", nil), pay.Unsupported, "does not list"},
		"empty types":          {detailing("credentialTypes", []string{}), pay.Unsupported, "does not list"},
		"permit2 only":         {detailing("credentialTypes", []string{"permit2"}), pay.Unsupported, "permit2"},
		"transaction only":     {detailing("credentialTypes", []string{"transaction"}), pay.Unsupported, "transaction"},
		"types as text":        {detailing("credentialTypes", "authorization"), pay.Malformed, "string"},
		"a split":              {detailing("splits", split("5000")), pay.Unsupported, "split"},
		"split of all":         {detailing("splits", split("10000")), pay.BadAmount, "splits reach"},
		"splits above all":     {detailing("splits", split("6000", "6000")), pay.BadAmount, "splits reach"},
		"huge splits":          {detailing("splits", split(strings.Repeat("9", 15), strings.Repeat("9", 15))), pay.BadAmount, "split"},
		"split as number":      {writing(`{"amount":"10","methodDetails":{"splits":[{"amount":5}]}}`), pay.Malformed, "number"},
		"duplicate amount":     {writing(`{"amount":"1","amount":"10000"}`), pay.Malformed, "comes twice"},
		"duplicate in details": {writing(`{"amount":"1","methodDetails":{"chainId":84532,"chainId":8453}}`), pay.Malformed, "comes twice"},
		"two values":           {writing(terms(nil) + terms(nil)), pay.Malformed, "more than one"},
		"cut off":              {writing(`{"amount":"1"`), pay.Malformed, "not JSON"},
		"a list":               {writing(`[{"amount":"1"}]`), pay.Malformed, "not a JSON object"},
		"null":                 {writing(`null`), pay.Malformed, "not a JSON object"},
		"deep":                 {writing(strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)), pay.Malformed, "nested deeper"},
		"invalid base64":       {param("request", "***"), pay.Malformed, "base64url"},
		"padded base64":        {param("request", encode(terms(nil))+"="), pay.Malformed, "base64url"},
		"standard base64":      {param("request", "+/+/"), pay.Malformed, "base64url"},
		"no id":                {param("id", ""), pay.Malformed, "no id"},
		"no realm":             {param("realm", ""), pay.Malformed, "no realm"},
		"no request":           {param("request", ""), pay.Malformed, "no request"},
		"no method":            {param("method", ""), pay.Malformed, "no method"},
		"id not of ASCII":      {strings.Replace(challenge(nil), `id="id1"`, `id="é"`, 1), pay.Malformed, "ASCII"},
		"method tempo":         {param("method", "tempo"), pay.Unsupported, "tempo"},
		"method stripe":        {param("method", "stripe"), pay.Unsupported, "stripe"},
		"method EVM":           {param("method", "EVM"), pay.Unsupported, "EVM"},
		"intent session":       {param("intent", "session"), pay.Unsupported, "session"},
		"intent subscription":  {param("intent", "subscription"), pay.Unsupported, "subscription"},
		"expired":              {param("expires", "2025-10-09T08:53:19Z"), pay.BadWindow, "ends in"},
		"expires at once":      {param("expires", "2025-10-09T08:53:30Z"), pay.BadWindow, "ends in 10 s"},
		"hash in half a minute": {challenge(map[string]string{"expires": "2025-10-09T08:53:50Z", "request": encode(terms(func(_, d map[string]any) {
			d["credentialTypes"] = []string{"hash"}
		}))}), pay.BadWindow, "ends in 30 s"},
		"expires in 1970":      {param("expires", "1970-01-01T00:00:00Z"), pay.BadWindow, "ends in"},
		"expires no time":      {param("expires", "tomorrow"), pay.Malformed, "expires"},
		"expires as number":    {param("expires", "1760000300"), pay.Malformed, "expires"},
		"digest of another":    {param("digest", "sha-256=:AAAA:"), pay.BadOrigin, "another body"},
		"credential elsewhere": {param("header", "X-Api-Key"), pay.Unsupported, "X-Api-Key"},
		"usdc with flat terms": {param("method", "usdc"), pay.Unsupported, `type ""`},
		"usdc of solana":       {challenge(map[string]string{"method": "usdc", "request": encode(`{"amount":"1","methodDetails":{"type":"solana"}}`)}), pay.Unsupported, "solana"},
		"usdc by hash": {challenge(map[string]string{"method": "usdc", "request": encode(terms(func(r, d map[string]any) {
			usdc(r, d)
			d["credentialTypes"] = []string{"hash"}
		}))}), pay.Unsupported, "hash"},
		"parameter twice":  {challenge(nil) + `, id="id2"`, "", "comes twice"},
		"case twice":       {challenge(nil) + `, REQUEST="x"`, "", "comes twice"},
		"quote left open":  {challenge(nil) + `, opaque="x`, "", "does not end"},
		"no equals sign":   {"Payment id", pay.Malformed, "no id"},
		"nothing at all":   {"Payment", pay.Malformed, "no id"},
		"oversized header": {challenge(map[string]string{"opaque": strings.Repeat("x", pay.MaxHeader)}), "", "longer than"},
		"5000 challenges":  {strings.Repeat("Payment a=1,", 1000), "", "more than 32"},
	} {
		t.Run(name, func(t *testing.T) {
			paytest.Refused(t, []pay.Protocol{mpp.Charge{}}, everything, request(), paytest.Refusal{Response: asked(c.line), Cause: c.cause, Reason: c.reason})
		})
	}
}

func TestPlainRefused(t *testing.T) {
	with := func(from, to string) string { return strings.Replace(plain, from, to, 1) }
	for name, c := range map[string]struct {
		line   string
		cause  pay.Cause
		reason string
	}{
		"amount in dollars":  {with(`"10000"`, `"0.01"`), pay.BadAmount, "amount"},
		"amount in hex":      {with(`"10000"`, `"0x2710"`), pay.BadAmount, "amount"},
		"amount negative":    {with(`"10000"`, `"-1"`), pay.BadAmount, "negative"},
		"amount huge":        {with(`"10000"`, strings.Repeat("9", 40)), pay.BadAmount, "digits"},
		"amount zero":        {with(`"10000"`, `"0"`), pay.BadAmount, "range"},
		"amount empty":       {with(`"10000"`, `""`), pay.BadAmount, "amount"},
		"payee zero":         {with(seller.Hex(), "0x0000000000000000000000000000000000000000"), pay.BadPayee, "zero"},
		"payee token":        {with(seller.Hex(), sepolia.USDC.Hex()), pay.BadPayee, "token"},
		"payee payer":        {with(seller.Hex(), payer.Hex()), pay.BadPayee, "payer"},
		"payee short":        {with(seller.Hex(), "0x01"), pay.Malformed, "address"},
		"other network":      {with("base-sepolia", "base"), pay.BadNetwork, "the wallet on"},
		"unknown network":    {with("base-sepolia", "solana"), pay.BadNetwork, "solana"},
		"no network":         {with(`chain="base-sepolia", `, ""), pay.BadNetwork, `network ""`},
		"other currency":     {with("USDC", "USDT"), pay.BadAsset, "USDT"},
		"other type":         {with("exact", "upto"), pay.Unsupported, "upto"},
		"short life":         {with("maxAge=300", "maxAge=10"), pay.BadWindow, "too short"},
		"life of 30 s":       {with("maxAge=300", "maxAge=30"), pay.BadWindow, "too short"},
		"negative life":      {with("maxAge=300", "maxAge=-1"), pay.BadWindow, "too short"},
		"endless life":       {with("maxAge=300", "maxAge=99999999999999999999"), pay.Malformed, "maxAge"},
		"both dialects":      {plain + `, id="1", method="evm"`, pay.Malformed, "no realm"},
		"without an address": {with("address=", "recipient="), pay.Malformed, "no id"},
	} {
		t.Run(name, func(t *testing.T) {
			paytest.Refused(t, both, everything, request(), paytest.Refusal{Response: asked(c.line), Cause: c.cause, Reason: c.reason})
		})
	}
}

// Among other schemes, over several lines, and with a broken stranger after it, the challenge is found.
func TestFoundAmongOthers(t *testing.T) {
	for _, lines := range [][]string{
		{`Basic realm="a, Payment id=\"x\"", ` + observed},
		{observed + `, Basic realm="x", charset="UTF-8"`},
		{"Negotiate", "Bearer , ,", observed, "Broken ="},
		{observed + `, Negotiate YWJj==, DPoP`},
		{strings.Replace(observed, "Payment", "PAYMENT", 1) + `, Other a="`},
		{challenge(map[string]string{"method": "tempo"}) + ", " + observed + ", " + plain},
		{`Payment   id = "8Fnj9gx-DOBn9avUPAqrcwIn-WOM3CUHKXMp3K0zAYE"	,realm=127.0.0.1 ,, method=evm,intent="charge", future="ignored", request=` + observedRequest},
	} {
		q, err := pay.Offers([]pay.Protocol{mpp.Charge{}}, everything, request(), asked(lines...))
		if err != nil || len(q.Offers) != 1 || q.Offers[0].Amount != 10_000 {
			t.Errorf("%q: %+v, %v", lines, q, err)
		}
	}
}

// FuzzOffers holds that no header panics, that what is payable may be signed, and that its proof can be made.
func FuzzOffers(f *testing.F) {
	f.Add(observed)
	f.Add(plain)
	f.Add(challenge(map[string]string{"method": "usdc", "request": encode(terms(usdc))}))
	f.Add(`Basic realm="a, \"b", Payment id="x", Negotiate YWJj==`)
	f.Fuzz(func(t *testing.T, line string) {
		q, err := pay.Offers(both, everything, request(), asked(line))
		if err != nil {
			return
		}
		for _, o := range q.Offers {
			p, _ := pay.ByName(both, o.Protocol)
			in, err := p.Instruct(o, payer, now, [32]byte{1})
			if err != nil {
				continue // its time is over
			}
			if o.Asset != sepolia.USDC || o.PayTo == payer || o.Amount <= 0 || o.Network.ChainID != sepolia.ChainID {
				t.Fatalf("offer %+v", o)
			}
			proof := pay.Proof{Authorization: in.Authorization, Signature: make([]byte, 65), TxHash: [32]byte{1}}
			if err := p.Attach(request(), o, proof); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
		}
	})
}

// FuzzReceipt holds that no receipt panics or claims more than was offered.
func FuzzReceipt(f *testing.F) {
	f.Add(`status="success", txHash="0x12"`, 200, `{}`)
	f.Add("eyJzdGF0dXMiOiJzdWNjZXNzIn0", 402, `{"type":"https://paymentauth.org/problems/x"}`)
	f.Fuzz(func(t *testing.T, header string, status int, body string) {
		for _, p := range both {
			o := pay.Offer{Amount: 10}
			resp := &pay.Response{Status: status, Header: http.Header{"Payment-Receipt": {header}}, Body: []byte(body)}
			if r, err := p.Receipt(o, resp); err == nil && (r.Amount > o.Amount || len(r.Reason) > 200) {
				t.Fatalf("receipt %+v", r)
			}
		}
	})
}
