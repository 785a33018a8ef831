package resolvers

import (
	"context"

	"bursar/core"
	"bursar/graph"
)

func (r query) Services(ctx context.Context, limit, offset int32) ([]*core.ServiceView, error) {
	return r.Core.Services.List(ctx, caller(ctx), int(limit), int(offset))
}

func (r query) Service(ctx context.Context, slug string) (*core.ServiceView, error) {
	return r.Core.Services.Get(ctx, caller(ctx), slug)
}

func (r query) Businesses(ctx context.Context) ([]*core.BusinessFigures, error) {
	return r.Gateway.Stats(ctx, caller(ctx))
}

func (r mutation) AddService(ctx context.Context, in graph.AddServiceInput) (*core.ServiceView, error) {
	add := core.ServiceInput{
		Name: in.Name, Description: in.Description, BaseURL: in.BaseURL, Price: *in.Price, Credential: in.Credential, Wallet: in.WalletAddress,
	}
	if in.Slug != nil {
		add.Slug = *in.Slug
	}
	return r.Services.Add(ctx, caller(ctx), add)
}

func (r mutation) UpdateService(ctx context.Context, in graph.UpdateServiceInput) (*core.ServiceView, error) {
	return r.Services.Update(ctx, caller(ctx), in.ID, core.ServiceUpdate{
		Name: in.Name, Description: in.Description, BaseURL: in.BaseURL, Wallet: in.WalletAddress, Price: in.Price, Credential: in.Credential,
		Active: in.Active,
	})
}

func (r mutation) RemoveService(ctx context.Context, in graph.RemoveServiceInput) (*core.ServiceView, error) {
	return r.Services.Remove(ctx, caller(ctx), in.ID)
}
