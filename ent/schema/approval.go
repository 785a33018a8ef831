package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// Approval asks a person whether an agent may pay somebody, once, at most so much. It reserves nothing.
type Approval struct{ ent.Schema }

// Mixin of the Approval entity.
func (Approval) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Approval entity.
func (Approval) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.UUID("credential_id", uuid.UUID{}).Optional().Nillable().Immutable(), // of the call that asked; none: a login
		// What it is good for. A call whose host, payee, network or asset is another, or whose price is above the ceiling, is not
		// what was approved.
		field.String("host").Immutable().MaxLen(260),
		field.String("payee").Immutable().MaxLen(42),
		field.String("network").Immutable().MaxLen(40),
		field.String("asset").Immutable().MaxLen(42),
		amount("ceiling"),
		// What it was asked for.
		field.String("method").Immutable().MaxLen(10),
		field.String("endpoint").Immutable().MaxLen(2048),
		field.String("protocol").Immutable().MaxLen(20),
		field.String("rule").Immutable().MaxLen(80), // of the policy; several with a comma between them
		field.String("reason").Immutable().MaxLen(500),
		// pending → approved → used, or → denied, or → expired. What is approved is used in the commit of the hold.
		field.Enum("status").Values("pending", "approved", "denied", "expired", "used").Default("pending"),
		field.Int64("expires_unix"),
		moment("decided_at"),
		field.UUID("decided_by", uuid.UUID{}).Optional().Nillable(), // the user
		field.String("decision_reason").Optional().MaxRuneLen(500),
		field.UUID("payment_id", uuid.UUID{}).Optional().Nillable(), // that used it
	}
}

// Indexes of the Approval entity.
func (Approval) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("org_id", "created_at"), index.Fields("status", "expires_unix"),
		index.Fields("agent_id", "host", "payee", "network", "asset", "status"),
		// One request at a time for the same thing: whoever asks again joins it.
		index.Fields("agent_id", "host", "payee", "network", "asset").Unique().StorageKey("approval_pending").
			Annotations(entsql.IndexWhere("status = 'pending'")),
	}
}
