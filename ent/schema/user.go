package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// User is a person who owns agents.
type User struct{ ent.Schema }

// Mixin of the User entity.
func (User) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the User entity.
func (User) Fields() []ent.Field {
	return []ent.Field{
		field.String("email").Optional().Nillable().Unique().MaxLen(254),
		field.String("password_hash").Optional().Sensitive(),
		// wallet_address is where drains go; checksummed hex.
		field.String("wallet_address").Optional().Nillable().MaxLen(42),
	}
}

// Org is a tenant. Every user has a personal one from the first day, so that each record has a tenant.
type Org struct{ ent.Schema }

// Mixin of the Org entity.
func (Org) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Org entity.
func (Org) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").MaxRuneLen(100),
		field.Enum("kind").Values("personal", "team").Default("personal"),
		field.UUID("owner_id", uuid.UUID{}),
		limit("daily_limit"), limit("monthly_limit"), limit("spending_cap"), // over all its agents; UTC day, UTC month, for ever
		field.Int("version").Default(1), // of the limits
	}
}

// Membership says which role a user has in an organisation.
type Membership struct{ ent.Schema }

// Mixin of the Membership entity.
func (Membership) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Membership entity.
func (Membership) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}),
		field.UUID("user_id", uuid.UUID{}),
		field.Enum("role").Values("owner", "admin", "member", "viewer"),
	}
}

// Indexes of the Membership entity.
func (Membership) Indexes() []ent.Index {
	return []ent.Index{index.Fields("org_id", "user_id").Unique(), index.Fields("user_id")}
}

// Department groups agents for budgets and reports.
type Department struct{ ent.Schema }

// Mixin of the Department entity.
func (Department) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Department entity.
func (Department) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}),
		field.String("name").MaxRuneLen(100),
		limit("budget_limit"), // a calendar month's spend of all its agents
		field.Int("version").Default(1),
	}
}

// Indexes of the Department entity.
func (Department) Indexes() []ent.Index { return []ent.Index{index.Fields("org_id", "name").Unique()} }

// APIKey is a credential that acts for its user: an IndieGent key (ig_live_, ig_test_) or an Agnic token
// (agnic_tok_). Only the SHA-256 of the secret is stored.
type APIKey struct{ ent.Schema }

// Mixin of the APIKey entity.
func (APIKey) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the APIKey entity.
func (APIKey) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}),
		field.UUID("user_id", uuid.UUID{}),
		field.Enum("kind").Values("api_key", "agnic_token"),
		field.String("name").MaxRuneLen(100),
		field.Bytes("hash").Unique().Sensitive(),
		field.String("prefix").MaxLen(32),
		field.String("last4").MaxLen(4),
		limit("max_per_transaction"),
		limit("daily_limit"),   // rolling 24 h
		limit("monthly_limit"), // rolling 30 d
		field.Strings("networks").Optional(),
		moment("expires_at"), moment("last_used_at"), moment("revoked_at"),
	}
}

// Indexes of the APIKey entity.
func (APIKey) Indexes() []ent.Index { return []ent.Index{index.Fields("org_id", "user_id")} }

// AuditLog remembers acts on keys and credentials. It is append-only.
type AuditLog struct{ ent.Schema }

// Mixin of the AuditLog entity.
func (AuditLog) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the AuditLog entity.
func (AuditLog) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}),
		field.UUID("user_id", uuid.UUID{}),
		field.String("action").MaxLen(64),
		field.UUID("subject_id", uuid.UUID{}),
	}
}

// Indexes of the AuditLog entity.
func (AuditLog) Indexes() []ent.Index { return []ent.Index{index.Fields("org_id", "created_at")} }

// Keyset is the tink keyset that seals private keys, itself sealed under the operator's master key.
type Keyset struct{ ent.Schema }

// Fields of the Keyset entity.
func (Keyset) Fields() []ent.Field {
	return []ent.Field{field.Int("id"), field.Bytes("sealed").Sensitive()}
}
