package core

import (
	"context"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/service"
)

// installed is an entry of the operator's list, and where it is.
type installed struct {
	ServiceInput
	base target
}

// Install brings the operator's own services to what is listed, all of it or nothing: one of a known slug is changed, another
// is made, and one that is not listed cannot be called any more until it is listed again. Its row stays, for history names it,
// and so does its slug. It is for who runs the server, and no door leads to it.
func (s *Services) Install(ctx context.Context, list []ServiceInput) error {
	if len(list) > maxOwnEntries {
		return E(InvalidRequest, "At most %d services can be listed", maxOwnEntries)
	}
	entries := make([]installed, len(list))
	slugs := map[string]bool{}
	for i, in := range list {
		base, err := in.validate(s.chain.Network().Testnet)
		if err != nil {
			return err
		}
		if slugs[in.Slug] {
			return E(InvalidRequest, "The service %q is listed twice", in.Slug)
		}
		slugs[in.Slug], entries[i] = true, installed{in, base}
	}
	err := s.inTx(ctx, func(ctx context.Context, tx *Tx) error { return s.installAll(ctx, tx, entries) })
	s.catalogue.forget()
	return err
}

func (s *Services) installAll(ctx context.Context, tx *Tx, entries []installed) error {
	if tx.raw.Dialect == dialect.Postgres { // processes that start together follow one another; SQLite has one writer anyway
		if _, err := tx.raw.SQL.ExecContext(ctx, "LOCK TABLE services IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
	}
	listed := make([]uuid.UUID, len(entries))
	for i, e := range entries {
		var err error
		if listed[i], err = s.install(ctx, tx, e.ServiceInput, e.base); err != nil {
			return err
		}
	}
	return tx.Service.Update().Where(service.OrgIDIsNil(), service.Active(true), service.IDNotIn(listed...)).SetActive(false).
		SetCredentialIn(service.CredentialInNone).SetCredentialName("").SetCredentialPrefix("").ClearSealedCredential().Exec(ctx)
}

func (s *Services) install(ctx context.Context, tx *Tx, in ServiceInput, base target) (uuid.UUID, error) {
	found, err := tx.Service.Query().Where(service.Slug(in.Slug)).Only(ctx)
	if ent.IsNotFound(err) {
		made, err := s.create(ctx, tx, nil, in, base)
		if err != nil {
			return uuid.Nil, err
		}
		return made.ID, nil
	}
	if err != nil {
		return uuid.Nil, err
	}
	if found.OrgID != nil {
		return uuid.Nil, E(Conflict, "The name %q is a business's: give the entry another slug", in.Slug)
	}
	active := true
	if in.Credential == nil {
		in.Credential = &ServiceCredential{In: service.CredentialInNone}
	}
	_, err = s.change(ctx, tx, found, ServiceUpdate{
		Name: &in.Name, Description: &in.Description, BaseURL: &in.BaseURL, Price: &in.Price, Credential: in.Credential, Active: &active,
	})
	return found.ID, err
}
