package indiegent

import (
	"context"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
)

// The wire structs of the dialect; amounts as docs/wire.md says, times in unix seconds.

type sessionFunc func(context.Context, core.Principal, uuid.UUID) (*core.SessionView, error)

// each renders a list; an empty one is [], never null.
func each[T, W any](in []T, f func(T) W) []W {
	out := make([]W, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

type userWire struct {
	ID            string  `json:"id"`
	Email         *string `json:"email"`
	WalletAddress *string `json:"wallet_address"`
}

type loginWire struct {
	Token string   `json:"token"`
	User  userWire `json:"user"`
}

type agentWire struct {
	ID                 string  `json:"id"`
	Name               string  `json:"name"`
	WalletAddress      string  `json:"wallet_address"`
	USDCBalance        string  `json:"usdc_balance"`
	SpendingCap        *int64  `json:"spending_cap"`
	Active             bool    `json:"active"`
	AutoTopupThreshold *int64  `json:"auto_topup_threshold"`
	AutoTopupAmount    *int64  `json:"auto_topup_amount"`
	AutoTopupSource    *string `json:"auto_topup_source"`
	DepartmentID       *string `json:"department_id"`
	CreatedAt          int64   `json:"created_at"`
}

func agentBody(v *core.AgentView) agentWire {
	w := agentWire{
		ID: v.ID.String(), Name: v.Name, WalletAddress: v.Address, USDCBalance: v.Wallet.Posted.String(), SpendingCap: atomic(v.Policy.SpendingCap),
		Active: v.Active, AutoTopupThreshold: atomic(v.AutoTopupThreshold), AutoTopupAmount: atomic(v.AutoTopupAmount),
		AutoTopupSource: v.AutoTopupSource, CreatedAt: v.CreatedAt.Unix(),
	}
	if v.DepartmentID != nil {
		id := v.DepartmentID.String()
		w.DepartmentID = &id
	}
	return w
}

func atomic(a *money.USDC) *int64 {
	if a == nil {
		return nil
	}
	n := int64(*a)
	return &n
}

// wrappedWire is a single agent: wrapped as every other object of the reference, and bare besides, since the
// reference does not show which.
type wrappedWire struct {
	Agent agentWire `json:"agent"`
	agentWire
}

func wrapped(v *core.AgentView) wrappedWire {
	b := agentBody(v)
	return wrappedWire{Agent: b, agentWire: b}
}

type policyWire struct {
	SpendingCap     *int64   `json:"spending_cap"`
	DailyLimit      *int64   `json:"daily_limit"`
	MonthlyLimit    *int64   `json:"monthly_limit"`
	PerCallMax      *int64   `json:"per_call_max"`
	AllowedServices []string `json:"allowed_services"`
	BlockedServices []string `json:"blocked_services"`
	RequireSession  bool     `json:"require_session"`
}

func policyBody(p *ent.SpendingPolicy) map[string]policyWire {
	return map[string]policyWire{"policy": {
		SpendingCap: atomic(p.SpendingCap), DailyLimit: atomic(p.DailyLimit), MonthlyLimit: atomic(p.MonthlyLimit), PerCallMax: atomic(p.PerCallMax),
		AllowedServices: append([]string{}, p.AllowedServices...), BlockedServices: append([]string{}, p.BlockedServices...), RequireSession: p.RequireSession,
	}}
}

type sessionWire struct {
	ID            string  `json:"id"`
	AgentWalletID string  `json:"agent_wallet_id"`
	DepositAmount int64   `json:"deposit_amount"`
	UsedAmount    int64   `json:"used_amount"`
	Remaining     int64   `json:"remaining"`
	Refunded      int64   `json:"refunded"`
	CallCount     int64   `json:"call_count"`
	Status        string  `json:"status"`
	DepositTxHash *string `json:"deposit_tx_hash"`
	RefundTxHash  *string `json:"refund_tx_hash"`
	CreatedAt     int64   `json:"created_at"`
	ExpiresAt     int64   `json:"expires_at"`
	ExpiresIn     int64   `json:"expires_in"`
}

func sessionBody(v *core.SessionView) sessionWire {
	w := sessionWire{
		ID: v.ID.String(), AgentWalletID: v.AgentID.String(), DepositAmount: int64(v.Deposit), UsedAmount: int64(v.Used), Remaining: int64(v.Remaining),
		Refunded: int64(v.Refunded), CallCount: v.CallCount, Status: v.Status.String(), DepositTxHash: v.DepositTxHash, RefundTxHash: v.RefundTxHash,
		CreatedAt: v.CreatedAt.Unix(), ExpiresAt: v.ExpiresUnix, ExpiresIn: v.ExpiresIn,
	}
	// A refund that is signed has a hash, and cannot go anywhere else any more: the reference calls that closed.
	if v.Status == session.StatusClosing && v.RefundTxHash != nil {
		w.Status = session.StatusClosed.String()
	}
	return w
}

type transactionWire struct {
	ID          string  `json:"id"`
	TxHash      *string `json:"tx_hash"`
	Type        string  `json:"type"`
	FromAddress string  `json:"from_address"`
	ToAddress   string  `json:"to_address"`
	Amount      string  `json:"amount"`
	Token       string  `json:"token"`
	Timestamp   int64   `json:"timestamp"`
	Status      string  `json:"status"`
	AgentID     string  `json:"agent_id"`
	SessionID   *string `json:"session_id,omitempty"`
}

// typeOf maps to the reference's closed set: a session's deposit is a payment, its refund a funding.
func typeOf(k transaction.Kind) string {
	switch k {
	case transaction.KindDeposit:
		return transaction.KindPayment.String()
	case transaction.KindRefund:
		return transaction.KindFund.String()
	case transaction.KindPayment, transaction.KindFund, transaction.KindDrain, transaction.KindAutoTopup, transaction.KindGasSponsor, transaction.KindOnramp:
	}
	return k.String()
}

func transactionBody(t *ent.Transaction) transactionWire {
	w := transactionWire{
		ID: t.ID.String(), TxHash: t.TxHash, Type: typeOf(t.Kind), FromAddress: t.FromAddress, ToAddress: t.ToAddress, Amount: t.Amount.String(),
		Token: "USDC", Timestamp: t.CreatedAt.Unix(), Status: t.Status.String(), AgentID: t.AgentID.String(),
	}
	if t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown {
		w.Amount = t.Quoted.String() // what is reserved
	}
	if t.Kind == transaction.KindGasSponsor {
		w.Token, w.Amount = "ETH", t.Wei
	}
	if t.SessionID != nil {
		id := t.SessionID.String()
		w.SessionID = &id
	}
	return w
}

type keyWire struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Prefix     string `json:"prefix"`
	CreatedAt  int64  `json:"created_at"`
	LastUsedAt *int64 `json:"last_used_at"`
}

func keyBody(k *ent.APIKey) keyWire {
	w := keyWire{ID: k.ID.String(), Name: k.Name, Prefix: k.Prefix, CreatedAt: k.CreatedAt.Unix()}
	if k.LastUsedAt != nil {
		at := k.LastUsedAt.Unix()
		w.LastUsedAt = &at
	}
	return w
}

type shareWire struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	USDCBalance string `json:"usdc_balance"`
}

type overviewWire struct {
	TotalUSDC    string      `json:"total_usdc"`
	TotalAgents  int         `json:"total_agents"`
	ActiveAgents int         `json:"active_agents"`
	Agents       []shareWire `json:"agents"`
}

func overviewBody(o *core.Overview) overviewWire {
	return overviewWire{TotalUSDC: o.Total.String(), TotalAgents: len(o.Agents), ActiveAgents: o.Active, Agents: each(o.Agents, func(v *core.AgentView) shareWire {
		return shareWire{ID: v.ID.String(), Name: v.Name, USDCBalance: v.Wallet.Posted.String()}
	})}
}

type departmentWire struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	BudgetLimit *int64 `json:"budget_limit"`
	AgentCount  int    `json:"agent_count"`
	Spend       int64  `json:"spend"`
	CreatedAt   int64  `json:"created_at"`
}

func departmentBody(d *core.DepartmentView) departmentWire {
	return departmentWire{
		ID: d.ID.String(), Name: d.Name, BudgetLimit: atomic(d.BudgetLimit), AgentCount: d.AgentCount, Spend: int64(d.Spend), CreatedAt: d.CreatedAt.Unix(),
	}
}
