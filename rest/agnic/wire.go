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

// The wire structs of the dialect: USD numbers and six-place texts, RFC 3339 times.

type balanceWire struct {
	USDCBalance   string  `json:"usdcBalance"`
	CreditBalance string  `json:"creditBalance"`
	TotalBalance  string  `json:"totalBalance"`
	Address       *string `json:"address"`
	HasWallet     bool    `json:"hasWallet"`
	Network       string  `json:"network"`
	ChainType     string  `json:"chainType"`
}

func balanceBody(v *core.AgentView, asked, own string) balanceWire {
	b := balanceWire{USDCBalance: money.USDC(0).Decimal(), CreditBalance: "0", Network: asked, ChainType: "ethereum"}
	switch asked {
	case "solana", "solana-devnet":
		b.ChainType = "solana"
	case own:
		b.USDCBalance = max(v.Wallet.Posted, 0).Decimal()
		fallthrough
	default:
		b.Address, b.HasWallet = &v.Address, true
	}
	b.TotalBalance = b.USDCBalance
	return b
}

type transactionWire struct {
	ID        string      `json:"id"`
	AmountUSD json.Number `json:"amount_usd"`
	Network   string      `json:"network"`
	Endpoint  string      `json:"endpoint"`
	Timestamp string      `json:"timestamp"`
	Date      string      `json:"date"`
	Status    string      `json:"status"`
	Scheme    string      `json:"scheme"`
	TxHash    *string     `json:"tx_hash"`
}

type historyWire struct {
	Transactions []transactionWire `json:"transactions"`
	Pagination   struct {
		CurrentPage int  `json:"currentPage"`
		TotalPages  int  `json:"totalPages"`
		TotalCount  int  `json:"totalCount"`
		Limit       int  `json:"limit"`
		HasNextPage bool `json:"hasNextPage"`
	} `json:"pagination"`
	Stats struct {
		TotalSpent        json.Number `json:"totalSpent"`
		SuccessRate       json.Number `json:"successRate"`
		TransactionCount  int         `json:"transactionCount"`
		TotalTransactions int         `json:"totalTransactions"`
	} `json:"stats"`
}

func historyBody(p *core.TransactionPage, page, limit int) historyWire {
	h := historyWire{Transactions: make([]transactionWire, len(p.Items))}
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

func transactionBody(t *ent.Transaction) transactionWire {
	w := transactionWire{
		ID: transactionID(t), AmountUSD: t.Amount.Dollars(), Network: t.Network, Endpoint: t.Endpoint, Timestamp: stamp(t.CreatedAt),
		Date: stamp(t.CreatedAt), Status: t.Status.String(), Scheme: t.Scheme, TxHash: t.TxHash,
	}
	if t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown {
		w.AmountUSD, w.Status = t.Quoted.Dollars(), "pending" // what is reserved
	}
	return w
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

type tokenWire struct {
	TokenID           string       `json:"tokenId"`
	ID                string       `json:"id"`
	Label             string       `json:"label"`
	Prefix            string       `json:"prefix"`
	MaxPerTransaction *json.Number `json:"maxPerTransaction"`
	DailyLimit        *json.Number `json:"dailyLimit"`
	MonthlyLimit      *json.Number `json:"monthlyLimit"`
	Networks          []string     `json:"networks"`
	CreatedAt         string       `json:"createdAt"`
	ExpiresAt         *string      `json:"expiresAt"`
	LastUsedAt        *string      `json:"lastUsedAt"`
	Revoked           bool         `json:"revoked"`
}

func tokenBody(k *ent.APIKey) tokenWire {
	w := tokenWire{
		TokenID: k.ID.String(), ID: k.ID.String(), Label: k.Name, Prefix: k.Prefix, MaxPerTransaction: dollars(k.MaxPerTransaction),
		DailyLimit: dollars(k.DailyLimit), MonthlyLimit: dollars(k.MonthlyLimit), Networks: k.Networks, CreatedAt: stamp(k.CreatedAt),
		ExpiresAt: maybe(k.ExpiresAt), LastUsedAt: maybe(k.LastUsedAt), Revoked: k.RevokedAt != nil,
	}
	if w.Networks == nil {
		w.Networks = []string{}
	}
	return w
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

func tokensBody(keys []*ent.APIKey) map[string][]tokenWire {
	out := make([]tokenWire, len(keys))
	for i, k := range keys {
		out[i] = tokenBody(k)
	}
	return map[string][]tokenWire{"tokens": out}
}

type issuedWire struct {
	Success bool   `json:"success"`
	Token   string `json:"token"`
	UserID  string `json:"userId"`
	tokenWire
}

func issuedBody(k *core.IssuedKey) issuedWire {
	return issuedWire{Success: true, Token: k.Secret, UserID: k.UserID.String(), tokenWire: tokenBody(k.APIKey)}
}
