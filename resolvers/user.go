package resolvers

import (
	"context"
	"time"

	"bursar/core"
	"bursar/ent"
	"bursar/ent/apikey"
	"bursar/graph"
)

func (r query) Me(ctx context.Context) (*graph.Me, error) {
	p := caller(ctx)
	u, err := r.Auth.User(ctx, p)
	if err != nil {
		return nil, err
	}
	o, err := r.Orgs.Get(ctx, p)
	if err != nil {
		return nil, err
	}
	return &graph.Me{User: u, Org: o, Role: p.Role, Credential: p.Credential}, nil
}

func (r mutation) Register(ctx context.Context, in core.PasswordInput) (*core.Login, error) {
	return r.Auth.Register(ctx, in)
}

func (r mutation) Login(ctx context.Context, in core.PasswordInput) (*core.Login, error) {
	return r.Auth.Login(ctx, in)
}

func (r mutation) SetWalletAddress(ctx context.Context, in graph.SetWalletAddressInput) (*ent.User, error) {
	return r.Auth.SetWallet(ctx, caller(ctx), in.Address)
}

func (r query) Org(ctx context.Context) (*core.OrgView, error) { return r.Orgs.Get(ctx, caller(ctx)) }

func (r mutation) UpdateOrgLimits(ctx context.Context, in graph.UpdateOrgLimitsInput) (*core.OrgView, error) {
	return r.Orgs.UpdateLimits(ctx, caller(ctx), core.OrgLimitsInput{
		DailyLimit: optional(in.DailyLimit), MonthlyLimit: optional(in.MonthlyLimit), SpendingCap: optional(in.SpendingCap),
	})
}

func (r query) Audit(ctx context.Context) (*core.Audit, error) {
	return r.Books.AuditOrg(ctx, caller(ctx))
}

func (r query) Departments(ctx context.Context) ([]*core.DepartmentView, error) {
	return r.Core.Departments.List(ctx, caller(ctx))
}

func (r mutation) CreateDepartment(ctx context.Context, in graph.CreateDepartmentInput) (*core.DepartmentView, error) {
	return r.Departments.Create(ctx, caller(ctx), in.Name, in.BudgetLimit)
}

func (r query) APIKeys(ctx context.Context, kind apikey.Kind) ([]*ent.APIKey, error) {
	return r.Core.APIKeys.List(ctx, caller(ctx), kind)
}

func (r mutation) CreateAPIKey(ctx context.Context, in graph.CreateAPIKeyInput) (*core.IssuedKey, error) {
	return r.APIKeys.Create(ctx, caller(ctx), in.Name)
}

func (r mutation) CreateToken(ctx context.Context, in graph.CreateTokenInput) (*core.IssuedKey, error) {
	t := core.TokenInput{
		Label: in.Name, MaxPerTransaction: in.MaxPerTransaction, DailyLimit: in.DailyLimit, MonthlyLimit: in.MonthlyLimit, Networks: in.Networks,
	}
	if in.ExpiresInSeconds != nil {
		t.ExpiresIn = time.Duration(*in.ExpiresInSeconds) * time.Second
	}
	return r.APIKeys.CreateToken(ctx, caller(ctx), t)
}

func (r mutation) RevokeAPIKey(ctx context.Context, in graph.RevokeAPIKeyInput) (bool, error) {
	err := r.APIKeys.Revoke(ctx, caller(ctx), in.Kind, in.ID)
	return err == nil, err
}

func (r query) Network(context.Context) (*graph.Network, error) {
	n := r.Core.Network()
	out := &graph.Network{
		ChainID: int32(n.ChainID), Name: n.Name, Caip2: n.CAIP2(), Testnet: n.Testnet, Usdc: n.USDC.Hex(), Confirmations: int32(n.Confirmations),
	}
	if n.ExplorerTx != "" {
		out.ExplorerTx = &n.ExplorerTx
	}
	return out, nil
}
