package core

import (
	"context"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/pricing"
	"bursar/ent"
	"bursar/ent/predicate"
	"bursar/ent/service"
)

// Services are the catalogue: services that bill by use, which agents call through this server. The operator's own are for
// everybody and paid to the treasury; an organisation's is its business, and paid to its wallet.
type Services struct{ *store }

// Bounds of the catalogue.
const (
	maxSlug           = 60
	maxNameOfService  = 100 // characters
	maxDescription    = 500 // characters
	maxBaseURL        = 1024
	maxCredential     = 4096 // bytes
	minCredential     = 8    // bytes: a shorter one could not be told from ordinary text when it is kept out of answers
	maxServicesPerOrg = 100
)

// ServiceView is a service as a caller may see it: what is between the service and its organisation is for that alone.
type ServiceView struct {
	*ent.Service
	Own bool // the caller's organisation sells it
}

func (p Principal) view(s *ent.Service) *ServiceView {
	return &ServiceView{s, s.OrgID != nil && p.owns(*s.OrgID)}
}

// Known is the name by which policies and history know it.
func (v *ServiceView) Known() string { return (&entry{Service: v.Service}).known() }

// Base is where calls go; nil for others.
func (v *ServiceView) Base() *string {
	if !v.Own {
		return nil
	}
	return &v.BaseURL
}

// Shown is how the credential is sent, without its secret; nil for others, and when there is none.
func (v *ServiceView) Shown() *ServiceCredential {
	if !v.Own || v.CredentialIn == service.CredentialInNone {
		return nil
	}
	return &ServiceCredential{In: v.CredentialIn, Name: v.CredentialName, Prefix: v.CredentialPrefix}
}

// List returns every service that can be called, and the caller's organisation's own that cannot, by slug.
func (s *Services) List(ctx context.Context, p Principal, limit, offset int) ([]*ServiceView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	rows, err := pageRows(limit, offset)
	if err != nil {
		return nil, err
	}
	found, err := of(p, s.db.readEnt).services().Order(service.BySlug()).Limit(rows).Offset(offset).All(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*ServiceView, len(found))
	for i, v := range found {
		out[i] = p.view(v)
	}
	return out, nil
}

// Get returns one of them by its slug.
func (s *Services) Get(ctx context.Context, p Principal, slug string) (*ServiceView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, s.db.readEnt).services().Where(service.Slug(slug)).Only(ctx)
	if err != nil {
		return nil, missing(err, "Service")
	}
	return p.view(found), nil
}

// Add puts a business of the caller's organisation into the catalogue. Owners and admins may, by a login.
func (s *Services) Add(ctx context.Context, p Principal, in ServiceInput) (*ServiceView, error) {
	if err := p.needManager(); err != nil {
		return nil, err
	}
	wallet, err := s.sellersWallet(in.Wallet)
	if err != nil {
		return nil, err
	}
	in.Wallet = wallet.Hex()
	base, err := in.validate(s.chain.Network().Testnet)
	if err == nil {
		err = s.callable(base, in.Price)
	}
	if err != nil {
		return nil, err
	}
	var made *ent.Service
	err = s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := of(p, tx.Client).ownServices().Count(ctx)
		if err != nil {
			return err
		}
		if n >= maxServicesPerOrg {
			return E(Conflict, "An organisation may have at most %d services", maxServicesPerOrg)
		}
		if made, err = s.create(ctx, tx, &p.OrgID, in, base); err != nil {
			return err
		}
		return tx.audit(ctx, p, "service.add", made.ID)
	})
	if ent.IsConstraintError(err) {
		return nil, E(Conflict, "A service named %q exists already", in.Slug)
	}
	if err != nil {
		return nil, err
	}
	s.catalogue.forget()
	return p.view(made), nil
}

func (s *Services) create(ctx context.Context, tx *Tx, org *uuid.UUID, in ServiceInput, base target) (*ent.Service, error) {
	id := uuid.Must(uuid.NewV7())
	c := tx.Service.Create().SetID(id).SetNillableOrgID(org).SetSlug(in.Slug).SetName(in.Name).SetDescription(in.Description).
		SetBaseURL(base.url.String()).SetHost(base.host).SetPrice(in.Price).SetWebhookURL(in.WebhookURL).SetCreatedAt(tx.Now)
	if in.keyHash != nil {
		c.SetKeyHash(in.keyHash)
	}
	if in.Wallet != "" {
		c.SetWalletAddress(in.Wallet)
	}
	if in.Credential != nil {
		sealed, err := s.keys.sealCredential(id, in.Credential.Secret)
		if err != nil {
			return nil, err
		}
		c.SetCredentialIn(in.Credential.In).SetCredentialName(in.Credential.Name).SetCredentialPrefix(in.Credential.Prefix).SetSealedCredential(sealed)
	}
	if org != nil {
		if _, err := ledger.Open(ctx, tx.Client, tx.Now, ledger.Opening{
			Kind: ledger.Seller, ChainID: s.chainID(), Owner: id, HoldsUntil: ledger.Always,
		}); err != nil {
			return nil, err
		}
	}
	return c.Save(ctx)
}

// ServiceUpdate is a partial update. A credential replaces what was there; one with In none takes it away.
type ServiceUpdate struct {
	Name, Description, BaseURL, Wallet *string
	Price                              *pricing.Price
	Credential                         *ServiceCredential
	Active                             *bool
}

// Update changes a business of the caller's organisation. What is under way goes on as it began.
func (s *Services) Update(ctx context.Context, p Principal, id uuid.UUID, in ServiceUpdate) (*ServiceView, error) {
	if err := p.needManager(); err != nil {
		return nil, err
	}
	var out *ent.Service
	err := s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		found, err := of(p, tx.Client).ownServices().Where(service.ID(id)).Only(ctx)
		if err != nil {
			return missing(err, "Service")
		}
		if found.BaseURL == noBaseURL {
			return E(NotFound, "Service not found")
		}
		if out, err = s.change(ctx, tx, found, in); err != nil {
			return err
		}
		return tx.audit(ctx, p, "service.update", id)
	})
	if err != nil {
		return nil, err
	}
	s.catalogue.forget()
	return p.view(out), nil
}

func (s *Services) change(ctx context.Context, tx *Tx, found *ent.Service, in ServiceUpdate) (*ent.Service, error) {
	full := ServiceInput{
		Slug: found.Slug, Name: orElse(in.Name, found.Name), Description: orElse(in.Description, found.Description),
		BaseURL: orElse(in.BaseURL, found.BaseURL), Price: found.Price, WebhookURL: found.WebhookURL,
	}
	if in.Price != nil {
		full.Price = *in.Price
	}
	// What is judged below must still stand: a credential that somebody adds meanwhile goes to the host that it was added for.
	u := tx.Service.UpdateOneID(found.ID).Where(service.BaseURL(found.BaseURL), sameCredential(found))
	if c := in.Credential; c != nil && c.In != service.CredentialInNone {
		full.Credential = c
	} else if c != nil {
		u.SetCredentialIn(service.CredentialInNone).SetCredentialName("").SetCredentialPrefix("").ClearSealedCredential()
	}
	base, err := full.validate(s.chain.Network().Testnet)
	if err == nil && found.OrgID != nil && (in.BaseURL != nil || in.Price != nil) { // else one that was let in before could not be taken away
		err = s.callable(base, full.Price)
	}
	if err != nil {
		return nil, err
	}
	if base.host != found.Host && full.Credential == nil && found.CredentialIn != service.CredentialInNone && in.Credential == nil {
		return nil, E(InvalidRequest, "Another host gets the credential only when it is handed in again")
	}
	u.SetName(full.Name).SetDescription(full.Description).SetBaseURL(base.url.String()).SetHost(base.host).SetPrice(full.Price)
	if full.Credential != nil {
		sealed, err := s.keys.sealCredential(found.ID, full.Credential.Secret)
		if err != nil {
			return nil, err
		}
		u.SetCredentialIn(full.Credential.In).SetCredentialName(full.Credential.Name).SetCredentialPrefix(full.Credential.Prefix).SetSealedCredential(sealed)
	}
	if in.Wallet != nil && found.OrgID != nil {
		wallet, err := s.sellersWallet(*in.Wallet)
		if err != nil {
			return nil, err
		}
		u.SetWalletAddress(wallet.Hex())
	}
	if in.Active != nil {
		u.SetActive(*in.Active)
	}
	out, err := u.Save(ctx)
	if ent.IsNotFound(err) {
		err = E(Conflict, "The service has been changed meanwhile")
	}
	return out, err
}

func sameCredential(as *ent.Service) predicate.Service {
	if as.SealedCredential == nil {
		return service.SealedCredentialIsNil()
	}
	return service.SealedCredential(as.SealedCredential)
}

func orElse(v *string, old string) string {
	if v == nil {
		return old
	}
	return *v
}

// noBaseURL is that of a service that was taken out for good.
const noBaseURL = ""

// Remove takes a business out of the catalogue for good: nobody can call it, its credential and its key are gone. Its name
// stays taken, and what it is owed is still paid.
func (s *Services) Remove(ctx context.Context, p Principal, id uuid.UUID) (*ServiceView, error) {
	if err := p.needManager(); err != nil {
		return nil, err
	}
	var out *ent.Service
	err := s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if _, err := of(p, tx.Client).ownServices().Where(service.ID(id)).Only(ctx); err != nil {
			return missing(err, "Service")
		}
		var err error
		out, err = tx.Service.UpdateOneID(id).SetActive(false).SetBaseURL(noBaseURL).SetHost("").SetCredentialIn(service.CredentialInNone).SetCredentialName("").
			SetCredentialPrefix("").ClearSealedCredential().ClearKeyHash().Save(ctx)
		if err != nil {
			return err
		}
		return tx.audit(ctx, p, "service.remove", id)
	})
	if err != nil {
		return nil, err
	}
	s.catalogue.forget()
	return p.view(out), nil
}
