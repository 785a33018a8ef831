package agnic

import (
	"encoding/json"
	"strconv"
	"time"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/money"
)

// The renderers: from records to the wire structs that openapi.yaml describes. Amounts are USD numbers or six-place
// texts, times RFC 3339.

// balanceBody shows the wallet on the network asked about. The server works on its own network alone: elsewhere the
// same address has nothing that it could spend, and Solana wallets do not exist here.
func balanceBody(v *core.AgentView, asked, own string) Balance {
	b := Balance{UsdcBalance: money.USDC(0).Decimal(), CreditBalance: "0", Network: asked, ChainType: "ethereum"}
	switch asked {
	case "solana", "solana-devnet":
		b.ChainType = "solana"
	default:
		b.Address, b.HasWallet = &v.Address, true
	}
	if asked == own {
		b.UsdcBalance = max(v.Wallet.Posted, 0).Decimal()
	}
	b.TotalBalance = b.UsdcBalance
	return b
}

func historyBody(p *core.TransactionPage, page, limit int) History {
	var h History
	h.Transactions = make([]Transaction, len(p.Items))
	for i, t := range p.Items {
		h.Transactions[i] = transactionBody(t)
	}
	h.Pagination.CurrentPage, h.Pagination.Limit, h.Pagination.TotalCount = page, limit, p.Total
	h.Pagination.TotalPages = (p.Total + limit - 1) / limit
	h.Pagination.HasNextPage = page < h.Pagination.TotalPages
	h.Stats.TotalSpent, h.Stats.SuccessRate = p.Spent.Dollars(), percent(p.Succeeded, p.Total)
	h.Stats.TransactionCount, h.Stats.TotalTransactions = p.Total, p.Total
	return h
}

// percent is a share with one decimal, rounded down, in integers throughout.
func percent(part, whole int) json.Number {
	if whole == 0 {
		return "0"
	}
	tenths := part * 1000 / whole
	return json.Number(strconv.Itoa(tenths/10) + "." + strconv.Itoa(tenths%10))
}

func transactionBody(t *ent.Transaction) Transaction {
	w := Transaction{
		Id: transactionID(t), AmountUsd: t.Amount.Dollars(), Network: t.Network, Endpoint: t.Endpoint, Timestamp: stamp(t.CreatedAt),
		Date: stamp(t.CreatedAt), Status: t.Status.String(), Scheme: t.Scheme, TxHash: t.TxHash, Reason: t.Reason,
	}
	if t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown {
		w.AmountUsd, w.Status = t.Quoted.Dollars(), string(Pending) // what is reserved
	}
	if at := core.DecidedBy(t); at != nil {
		w.PaymentStatus, w.DecidedBy = t.Status.String(), stamp(*at)
	}
	return w
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func tokensBody(keys []*ent.APIKey) map[string][]Token {
	out := make([]Token, len(keys))
	for i, k := range keys {
		out[i] = tokenBody(k)
	}
	return map[string][]Token{"tokens": out}
}

func tokenBody(k *ent.APIKey) Token {
	w := Token{
		TokenId: k.ID.String(), Id: k.ID.String(), Label: k.Name, Prefix: k.Prefix, MaxPerTransaction: dollars(k.MaxPerTransaction),
		DailyLimit: dollars(k.DailyLimit), MonthlyLimit: dollars(k.MonthlyLimit), Networks: k.Networks, CreatedAt: stamp(k.CreatedAt),
		ExpiresAt: maybe(k.ExpiresAt), LastUsedAt: maybe(k.LastUsedAt), Revoked: k.RevokedAt != nil,
	}
	if w.Networks == nil {
		w.Networks = []string{}
	}
	return w
}

func issuedBody(k *core.IssuedKey) IssuedToken {
	t := tokenBody(k.APIKey)
	return IssuedToken{
		Success: true, Token: k.Secret, UserId: k.UserID.String(), TokenId: t.TokenId, Id: t.Id, Label: t.Label, Prefix: t.Prefix,
		MaxPerTransaction: t.MaxPerTransaction, DailyLimit: t.DailyLimit, MonthlyLimit: t.MonthlyLimit, Networks: t.Networks,
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, LastUsedAt: t.LastUsedAt, Revoked: t.Revoked,
	}
}

func dollars(a *money.USDC) *json.Number {
	if a == nil {
		return nil
	}
	n := a.Dollars()
	return &n
}

func maybe(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := stamp(*t)
	return &s
}
