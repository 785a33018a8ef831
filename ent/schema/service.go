package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"

	"bursar/core/pricing"
)

// Service is an entry of the catalogue: a service that bills by use, called and charged through this server. Without an
// organisation it is the operator's own, for everybody; else it is that organisation's business, which is paid for it.
type Service struct{ ent.Schema }

// Mixin of the Service entity.
func (Service) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Service entity.
func (Service) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.String("slug").Unique().Immutable().MaxLen(60), // as in /services/:slug
		field.String("name").MaxRuneLen(100),
		field.String("description").Optional().MaxRuneLen(500),
		field.String("base_url").MaxLen(1024),
		field.String("host").MaxLen(260), // of base_url, with its port when that is not the scheme's own
		// How the credential is sent: credential_name is a header's name, before whose value credential_prefix stands, or a
		// query parameter's.
		field.Enum("credential_in").Values("none", "header", "query").Default("none"),
		field.String("credential_name").Optional().MaxLen(100),
		field.String("credential_prefix").Optional().MaxLen(40),
		field.Bytes("sealed_credential").Optional().Sensitive(),
		field.Bool("active").Default(true),
		field.JSON("price", pricing.Price{}),
		field.String("wallet_address").Optional().Nillable().MaxLen(42), // where an organisation's business is paid
		field.String("webhook_url").Optional().MaxLen(1024),
		field.Bytes("key_hash").Optional().Nillable().Unique().Sensitive(), // SHA-256 of its ig_gw_ key
	}
}

// Indexes of the Service entity.
func (Service) Indexes() []ent.Index { return []ent.Index{index.Fields("org_id", "created_at")} }

// Verification is a payment that a business has been told of, once, as paid to it.
type Verification struct{ ent.Schema }

// Mixin of the Verification entity.
func (Verification) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Verification entity.
func (Verification) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("service_id", uuid.UUID{}).Immutable(),
		field.String("tx_hash").Immutable().MaxLen(66),
		amount("amount"),
	}
}

// Indexes of the Verification entity.
func (Verification) Indexes() []ent.Index {
	return []ent.Index{index.Fields("service_id", "tx_hash").Unique()}
}
