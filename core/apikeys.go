package core

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/apikey"
	"bursar/evm"
	"bursar/money"
)

// APIKeys are the credentials of programs. Only a login may make or revoke them.
type APIKeys struct{ *store }

// Prefixes of secrets; they tell people and scanners what they look at.
const (
	prefixLive  = "ig_live_"
	prefixTest  = "ig_test_"
	prefixAgnic = "agnic_tok_"
)

const (
	maxKeysPerUser = 200
	shownOfSecret  = 4 // characters behind the prefix that lists show
)

// IssuedKey is a new credential. Secret is shown once and stored nowhere.
type IssuedKey struct {
	*ent.APIKey
	Secret string
}

// Create makes an IndieGent API key: ig_live_ on Base itself, ig_test_ on every other network.
func (k *APIKeys) Create(ctx context.Context, p Principal, name string) (*IssuedKey, error) {
	prefix := prefixTest
	if k.chain.Network().ChainID == evm.BaseID {
		prefix = prefixLive
	}
	return k.issue(ctx, p, apikey.KindAPIKey, prefix, TokenInput{Label: name})
}

// TokenInput is what an Agnic token may do. Nil limits mean none.
type TokenInput struct {
	Label             string
	MaxPerTransaction *money.USDC
	DailyLimit        *money.USDC // rolling 24 h
	MonthlyLimit      *money.USDC // rolling 30 d
	Networks          []string
	ExpiresIn         time.Duration // zero: never
}

func (in *TokenInput) validate() error {
	in.Label = strings.TrimSpace(in.Label)
	if in.Label == "" || len(in.Label) > 100 {
		return E(InvalidRequest, "A name of 1 to 100 characters is required")
	}
	for _, l := range []*money.USDC{in.MaxPerTransaction, in.DailyLimit, in.MonthlyLimit} {
		if l != nil && *l < 0 {
			return E(InvalidRequest, "Limits must not be negative")
		}
	}
	for _, n := range in.Networks {
		if _, ok := evm.ParseNetwork(n); !ok {
			return E(InvalidRequest, "Unknown network %q", n)
		}
	}
	if in.ExpiresIn < 0 {
		return E(InvalidRequest, "The lifetime must not be negative")
	}
	return nil
}

// CreateToken makes an Agnic token on the user's default wallet.
func (k *APIKeys) CreateToken(ctx context.Context, p Principal, in TokenInput) (*IssuedKey, error) {
	return k.issue(ctx, p, apikey.KindAgnicToken, prefixAgnic, in)
}

func (k *APIKeys) issue(ctx context.Context, p Principal, kind apikey.Kind, prefix string, in TokenInput) (*IssuedKey, error) {
	if err := p.needPerson(); err != nil {
		return nil, err
	}
	if err := in.validate(); err != nil {
		return nil, err
	}
	secret, err := newSecret(prefix)
	if err != nil {
		return nil, err
	}
	issued := &IssuedKey{Secret: secret}
	err = k.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		n, err := of(p, tx.Client).keys().Where(apikey.RevokedAtIsNil()).Count(ctx)
		if err != nil {
			return err
		}
		if n >= maxKeysPerUser {
			return E(Conflict, "A user may have at most %d keys", maxKeysPerUser)
		}
		c := tx.APIKey.Create().SetOrgID(p.OrgID).SetUserID(p.UserID).SetKind(kind).SetName(in.Label).SetHash(hashSecret(secret)).
			SetPrefix(secret[:len(prefix)+shownOfSecret]).SetLast4(secret[len(secret)-4:]).SetNetworks(in.Networks).
			SetNillableMaxPerTransaction(in.MaxPerTransaction).SetNillableDailyLimit(in.DailyLimit).SetNillableMonthlyLimit(in.MonthlyLimit).
			SetCreatedAt(tx.Now)
		if in.ExpiresIn > 0 {
			c.SetExpiresAt(tx.Now.Add(in.ExpiresIn))
		}
		if issued.APIKey, err = c.Save(ctx); err != nil {
			return err
		}
		return tx.audit(ctx, p, "key.create", issued.APIKey.ID)
	})
	if err != nil {
		return nil, err
	}
	return issued, nil
}

// List returns the user's credentials of one kind (apikey.KindAPIKey, apikey.KindAgnicToken), newest first.
// Revoked API keys are left out; revoked tokens stay in the list.
func (k *APIKeys) List(ctx context.Context, p Principal, kind apikey.Kind) ([]*ent.APIKey, error) {
	if err := p.needPerson(); err != nil {
		return nil, err
	}
	q := of(p, k.db.readEnt).keys().Where(apikey.KindEQ(kind)).Order(apikey.ByCreatedAt(desc()), apikey.ByID(desc()))
	if kind == apikey.KindAPIKey {
		q = q.Where(apikey.RevokedAtIsNil())
	}
	return q.All(ctx)
}

// Revoke ends a credential at once. Revoking it again changes nothing.
func (k *APIKeys) Revoke(ctx context.Context, p Principal, kind apikey.Kind, id uuid.UUID) error {
	if err := p.needPerson(); err != nil {
		return err
	}
	return k.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		key, err := of(p, tx.Client).keys().Where(apikey.ID(id), apikey.KindEQ(kind)).Only(ctx)
		if err != nil {
			return missing(err, "API key")
		}
		if key.RevokedAt != nil {
			return nil
		}
		if err := tx.APIKey.UpdateOneID(id).SetRevokedAt(tx.Now).Exec(ctx); err != nil {
			return err
		}
		return tx.audit(ctx, p, "key.revoke", id)
	})
}
