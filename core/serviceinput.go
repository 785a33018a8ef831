package core

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/net/http/httpguts"

	"bursar/core/pricing"
	"bursar/ent/service"
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
	case len(base.url.String()) > maxBaseURL:
		return target{}, E(InvalidRequest, "The base URL is longer than %d characters", maxBaseURL)
	case base.url.RawQuery != "" || base.url.ForceQuery || climbs(base.url.EscapedPath()):
		return target{}, E(InvalidRequest, "The base URL must be a plain one, without a query")
	case base.url.Scheme != "https" && !testnet:
		return target{}, E(InvalidRequest, "A service is called over https only: its credential goes with each call")
	}
	return base, in.Credential.validate()
}

// callable refuses a business that nobody could ever call, at its address or at its price: its name would be taken for good.
// The operator's own list is the operator's to judge.
func (s *store) callable(base target, price pricing.Price) error {
	if err := s.guard.judgeTarget(base); err != nil {
		return &Error{Code: InvalidRequest, Message: "The base URL points at a private or reserved address, which is never called", Err: err}
	}
	if least := price.Least(); least > s.maxPay {
		return E(InvalidRequest, "A call would cost %s or more, and this server pays %s at most for one", least.ExactUSD(), s.maxPay.ExactUSD())
	}
	return nil
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
