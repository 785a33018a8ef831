package indiegent

import (
	"bursar/core"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/money"
)

// The renderers: from records to the wire structs that openapi.yaml describes. Amounts as docs/wire.md says, times in
// unix seconds.

// each renders a list; an empty one is [], never null.
func each[T, W any](in []T, f func(T) W) []W {
	out := make([]W, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

func agentBody(v *core.AgentView) Agent {
	return Agent{
		Id: v.ID, Name: v.Name, WalletAddress: v.Address, UsdcBalance: v.Wallet.Posted.String(), SpendingCap: atomic(v.Policy.SpendingCap),
		Active: v.Active, AutoTopupThreshold: atomic(v.AutoTopupThreshold), AutoTopupAmount: atomic(v.AutoTopupAmount),
		AutoTopupSource: v.AutoTopupSource, DepartmentId: v.DepartmentID, CreatedAt: v.CreatedAt.Unix(),
	}
}

func atomic(a *money.USDC) *int64 {
	if a == nil {
		return nil
	}
	n := int64(*a)
	return &n
}

// agentAnswer is a single agent: wrapped as every other object of the reference, and bare besides, since the
// reference does not show which.
func agentAnswer(v *core.AgentView) AgentAnswer {
	a := agentBody(v)
	return AgentAnswer{
		Agent: a,
		Id:    a.Id, Name: a.Name, WalletAddress: a.WalletAddress, UsdcBalance: a.UsdcBalance, SpendingCap: a.SpendingCap, Active: a.Active,
		AutoTopupThreshold: a.AutoTopupThreshold, AutoTopupAmount: a.AutoTopupAmount, AutoTopupSource: a.AutoTopupSource,
		DepartmentId: a.DepartmentId, CreatedAt: a.CreatedAt,
	}
}

func policyBody(p *ent.SpendingPolicy) PolicyAnswer {
	return PolicyAnswer{Policy: Policy{
		SpendingCap: atomic(p.SpendingCap), DailyLimit: atomic(p.DailyLimit), MonthlyLimit: atomic(p.MonthlyLimit), PerCallMax: atomic(p.PerCallMax),
		AllowedServices: append([]string{}, p.AllowedServices...), BlockedServices: append([]string{}, p.BlockedServices...), RequireSession: p.RequireSession,
	}}
}

func sessionBody(v *core.SessionView) Session {
	return Session{
		Id: v.ID, AgentWalletId: v.AgentID, DepositAmount: int64(v.Deposit), UsedAmount: int64(v.Used), Remaining: int64(v.Remaining),
		Refunded: int64(v.Refunded), CallCount: v.CallCount, Status: v.Status.String(), DepositTxHash: v.DepositTxHash, RefundTxHash: v.RefundTxHash,
		CreatedAt: v.CreatedAt.Unix(), ExpiresAt: v.ExpiresUnix, ExpiresIn: v.ExpiresIn,
	}
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

func transactionBody(t *ent.Transaction) Transaction {
	w := Transaction{
		Id: t.ID, TxHash: t.TxHash, Type: typeOf(t.Kind), FromAddress: t.FromAddress, ToAddress: t.ToAddress, Amount: t.Amount.String(),
		Token: "USDC", Timestamp: t.CreatedAt.Unix(), Status: t.Status.String(), AgentId: t.AgentID, SessionId: t.SessionID,
		Reason: t.Reason,
	}
	if t.Status == transaction.StatusPending || t.Status == transaction.StatusUnknown {
		w.Amount = t.Quoted.String() // what is reserved
	}
	if at := core.DecidedBy(t); at != nil {
		seconds := at.Unix()
		w.DecidedBy = &seconds
	}
	if t.Kind == transaction.KindGasSponsor {
		w.Token, w.Amount = "ETH", t.Wei
	}
	return w
}

func keyBody(k *ent.APIKey) APIKey {
	w := APIKey{Id: k.ID, Name: k.Name, Prefix: k.Prefix, CreatedAt: k.CreatedAt.Unix()}
	if k.LastUsedAt != nil {
		at := k.LastUsedAt.Unix()
		w.LastUsedAt = &at
	}
	return w
}

func balanceBody(o *core.Overview) Balance {
	return Balance{TotalUsdc: o.Total.String(), TotalAgents: len(o.Agents), ActiveAgents: o.Active, Agents: each(o.Agents, func(v *core.AgentView) AgentBalance {
		return AgentBalance{Id: v.ID, Name: v.Name, UsdcBalance: v.Wallet.Posted.String()}
	})}
}

func departmentBody(d *core.DepartmentView) Department {
	return Department{
		Id: d.ID, Name: d.Name, BudgetLimit: atomic(d.BudgetLimit), AgentCount: d.AgentCount, Spend: int64(d.Spend), CreatedAt: d.CreatedAt.Unix(),
	}
}
