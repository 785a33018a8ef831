package core

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"golang.org/x/net/http/httpguts"

	"bursar/core/ledger"
	"bursar/core/pricing"
	"bursar/ent"
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

// ServiceCredential is what the service is called with. It is sealed as soon as it is here and never shown again.
type ServiceCredential struct {
	In     service.CredentialIn `json:"in"`     // header or query
	Name   string               `json:"name"`   // of it
	Prefix string               `json:"prefix"` // before the secret, in a header: "Bearer "
	Secret string               `json:"secret"`
}

// ServiceInput describes a service of the catalogue.
type ServiceInput struct {
	Slug        string             `json:"slug"` // as in /services/:slug; empty: made of the name
	Name        string             `json:"name"`
	Description string             `json:"description"`
	BaseURL     string             `json:"base_url"` // https; http on networks for trying out
	Price       pricing.Price      `json:"price"`
	Credential  *ServiceCredential `json:"credential"` // nil: none
	Wallet      string             `json:"-"`          // where an organisation's business is paid; the operator's has none
	WebhookURL  string             `json:"-"`          // kept for the business

	keyHash []byte
}

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
	if limit < 0 || offset < 0 {
		return nil, E(InvalidRequest, "limit and offset must not be negative")
	}
	if limit == 0 {
		limit = defaultPage
	}
	found, err := of(p, s.db.readEnt).services().Order(service.BySlug()).Limit(min(limit, maxPage)).Offset(offset).All(ctx)
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
	u := tx.Service.UpdateOneID(found.ID)
	if c := in.Credential; c != nil && c.In != service.CredentialInNone {
		full.Credential = c
	} else if c != nil {
		u.SetCredentialIn(service.CredentialInNone).SetCredentialName("").SetCredentialPrefix("").ClearSealedCredential()
	}
	base, err := full.validate(s.chain.Network().Testnet)
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
	return u.Save(ctx)
}

func orElse(v *string, old string) string {
	if v == nil {
		return old
	}
	return *v
}

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
		out, err = tx.Service.UpdateOneID(id).SetActive(false).SetCredentialIn(service.CredentialInNone).SetCredentialName("").
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

// Install brings the operator's own services to what is listed: one of a known slug is changed, another is made. It is for
// who runs the server, and no door leads to it.
func (s *Services) Install(ctx context.Context, list []ServiceInput) error {
	for _, in := range list {
		base, err := in.validate(s.chain.Network().Testnet)
		if err != nil {
			return err
		}
		put := func() error {
			return s.inTx(ctx, func(ctx context.Context, tx *Tx) error { return s.install(ctx, tx, in, base) })
		}
		err = put()
		if ent.IsConstraintError(err) { // another process that starts has just made it
			err = put()
		}
		if err != nil {
			return err
		}
	}
	s.catalogue.forget()
	return nil
}

func (s *Services) install(ctx context.Context, tx *Tx, in ServiceInput, base target) error {
	found, err := tx.Service.Query().Where(service.Slug(in.Slug)).Only(ctx)
	if ent.IsNotFound(err) {
		_, err := s.create(ctx, tx, nil, in, base)
		return err
	}
	if err != nil {
		return err
	}
	if found.OrgID != nil {
		return E(Conflict, "The service name %q belongs to an organisation", in.Slug)
	}
	active := true
	if in.Credential == nil {
		in.Credential = &ServiceCredential{In: service.CredentialInNone}
	}
	_, err = s.change(ctx, tx, found, ServiceUpdate{
		Name: &in.Name, Description: &in.Description, BaseURL: &in.BaseURL, Price: &in.Price, Credential: in.Credential, Active: &active,
	})
	return err
}

// sellersWallet is where a business is paid. Money that came back to the platform's own address would be nobody's.
func (s *store) sellersWallet(text string) (common.Address, error) {
	a, err := parseAddress(text)
	if err != nil {
		return a, err
	}
	if a == s.keys.platformAddress() || a == s.chain.Network().USDC {
		return a, E(InvalidRequest, "This address cannot be paid as a seller")
	}
	return a, nil
}

// validate brings the texts into shape and returns where the service is.
func (in *ServiceInput) validate(testnet bool) (target, error) {
	in.Name, in.Description, in.Slug = strings.TrimSpace(in.Name), strings.TrimSpace(in.Description), strings.TrimSpace(in.Slug)
	if in.Slug == "" {
		in.Slug = serviceSlug(in.Name)
	}
	switch {
	case in.Name == "" || utf8.RuneCountInString(in.Name) > maxNameOfService || strings.ContainsFunc(in.Name, isControl):
		return target{}, E(InvalidRequest, "A name of 1 to %d characters is required", maxNameOfService)
	case in.Slug == "" || len(in.Slug) > maxSlug || in.Slug != serviceSlug(in.Slug):
		return target{}, E(InvalidRequest, "A service's short name has 1 to %d of a-z, 0-9 and dashes", maxSlug)
	case utf8.RuneCountInString(in.Description) > maxDescription || strings.ContainsFunc(in.Description, isControl):
		return target{}, E(InvalidRequest, "A description has at most %d characters", maxDescription)
	case len(in.BaseURL) > maxBaseURL:
		return target{}, E(InvalidRequest, "The base URL is longer than %d characters", maxBaseURL)
	}
	if err := in.Price.Validate(); err != nil {
		return target{}, E(InvalidRequest, "price: %s", err)
	}
	base, err := parseTarget(in.BaseURL)
	if err != nil {
		return target{}, err
	}
	switch {
	case base.url.RawQuery != "" || base.url.ForceQuery || climbs(base.url.EscapedPath()):
		return target{}, E(InvalidRequest, "The base URL must be a plain one, without a query")
	case base.url.Scheme != "https" && !testnet:
		return target{}, E(InvalidRequest, "A service is called over https only: its credential goes with each call")
	}
	return base, in.Credential.validate()
}

func (c *ServiceCredential) validate() error {
	if c == nil {
		return nil
	}
	value := c.Prefix + c.Secret
	switch {
	case c.In != service.CredentialInHeader && c.In != service.CredentialInQuery:
		return E(InvalidRequest, "A credential goes in a header or in a query parameter")
	case len(c.Secret) < minCredential || len(c.Secret) > maxCredential || !utf8.ValidString(c.Secret) || strings.ContainsFunc(value, isControl):
		return E(InvalidRequest, "A credential has %d to %d characters", minCredential, maxCredential)
	case c.Name == "" || len(c.Name) > 100 || len(c.Prefix) > 40:
		return E(InvalidRequest, "A credential's name has 1 to 100 characters, and its prefix 40 at most")
	case c.In == service.CredentialInQuery && c.Prefix != "":
		return E(InvalidRequest, "A query parameter has no prefix")
	case c.In == service.CredentialInQuery:
		return nil
	case !httpguts.ValidHeaderFieldName(c.Name) || !httpguts.ValidHeaderFieldValue(value):
		return E(InvalidRequest, "The credential's header cannot be sent")
	case slices.Contains(hopByHop, http.CanonicalHeaderKey(c.Name)):
		return E(InvalidRequest, "The header %s is the connection's own", c.Name)
	}
	return nil
}

// serviceSlug is a name in lower-case letters and digits, with single dashes for everything else.
func serviceSlug(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }), "-")
}
