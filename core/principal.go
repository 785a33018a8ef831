package core

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"bursar/core/policy"
)

// CredentialKind says how the caller proved who they are.
type CredentialKind string

// The kinds of credential.
const (
	ByLogin      CredentialKind = "login"       // a JWT: a person
	ByAPIKey     CredentialKind = "api_key"     // ig_live_, ig_test_: a program of that person
	ByAgnicToken CredentialKind = "agnic_token" // agnic_tok_: a program on the person's default wallet
)

// Role is what the caller may do in the organisation.
type Role string

// The roles, as the published organisation routes spell them.
const (
	Owner  Role = "owner"
	Admin  Role = "admin"
	Member Role = "member"
	Viewer Role = "viewer"
)

// Scope is what a credential was given leave for.
type Scope string

// The scopes; a login and an API key have all of them.
const (
	ScopePay          Scope = "payments:sign"
	ScopeBalance      Scope = "balance:read"
	ScopeTransactions Scope = "transactions:read"
)

// Principal is the authenticated caller: who, in which organisation, by which credential, and within which
// limits. Every method of core that acts for somebody takes one.
type Principal struct {
	UserID, OrgID uuid.UUID
	Role          Role
	Credential    CredentialKind
	CredentialID  uuid.UUID // uuid.Nil for a login
	Scopes        []Scope
	Limits        policy.TokenLimits
	Networks      []string // networks that the credential may pay on; empty: all

	caller  caller
	payer   *payer // what limits the agent that the request probably pays for, read with the key; nil: it was not
	payerAt time.Time
}

// need reports an error unless the principal has the scope.
func (p Principal) need(s Scope) error {
	if p.UserID == uuid.Nil {
		return E(Unauthorized, "Authentication required")
	}
	if !slices.Contains(p.Scopes, s) {
		return E(Forbidden, "The credential lacks the scope %s", s)
	}
	return nil
}

// needPerson refuses every credential but a login: keys and tokens must not make or read secrets.
func (p Principal) needPerson() error {
	if p.UserID == uuid.Nil {
		return E(Unauthorized, "Authentication required")
	}
	if p.Credential != ByLogin {
		return E(Forbidden, "This needs a login, not an API key")
	}
	return nil
}

// needManager refuses everybody but owners and admins with a login.
func (p Principal) needManager() error {
	if err := p.needPerson(); err != nil {
		return err
	}
	if p.Role != Owner && p.Role != Admin {
		return E(Forbidden, "Only owners and admins may do this")
	}
	return nil
}

// needPayer refuses viewers, and tokens that reach beyond the wallet that they were made for.
func (p Principal) needPayer(defaultWallet bool) error {
	if err := p.need(ScopePay); err != nil {
		return err
	}
	if p.Credential == ByAgnicToken && defaultWallet && p.Role != Viewer {
		return nil
	}
	return p.needWrite()
}

// needWrite refuses viewers, and tokens that are for paying only.
func (p Principal) needWrite() error {
	if p.UserID == uuid.Nil {
		return E(Unauthorized, "Authentication required")
	}
	if p.Credential == ByAgnicToken {
		return E(Forbidden, "An Agnic token reads, and pays from its own wallet; it changes nothing else")
	}
	if p.Role == Viewer {
		return E(Forbidden, "A viewer may only read")
	}
	return nil
}
