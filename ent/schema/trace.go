package schema

import (
	"encoding/json"

	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// Trace is why a call was allowed to pay, was refused, or was held for a person's yes; or that its wallet signed in. It is
// written with the payment's hold, or by itself, and never changes, but that what came of a login is added. That of a payment
// has the payment's id; a refusal and a login are forgotten in the end.
type Trace struct{ ent.Schema }

// Mixin of the Trace entity.
func (Trace) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Trace entity.
func (Trace) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.UUID("credential_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.UUID("session_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		// login: the wallet signed in, and no payment has been judged yet.
		field.Enum("outcome").Values("allowed", "refused", "held", "login").Immutable(),
		field.String("code").Optional().Immutable().MaxLen(40),    // of the refusal's error
		field.String("reason").Optional().Immutable().MaxLen(500), // of a login: what came of it
		field.String("method").Immutable().MaxLen(10),
		field.String("service").Immutable().MaxLen(255),
		field.String("host").Immutable().MaxLen(260),
		field.String("endpoint").Immutable().MaxLen(2048),
		// amount is the price of the offer that was chosen; zero when it did not come to a choice.
		amount("amount"),
		field.JSON("detail", json.RawMessage{}).Immutable(), // core.TraceDetail
	}
}

// Indexes of the Trace entity.
func (Trace) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("org_id", "created_at"), index.Fields("agent_id", "created_at"),
		index.Fields("created_at").Annotations(entsql.IndexWhere("outcome <> 'allowed'")), // those are forgotten
	}
}
