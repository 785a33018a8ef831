package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// IdempotencyKey remembers a caller's request that moves money, so that the same key is the same request. The row is
// there before anything moves; what was begun for it is noted in the commit that reserves the money.
type IdempotencyKey struct{ ent.Schema }

// Mixin of the IdempotencyKey entity.
func (IdempotencyKey) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the IdempotencyKey entity.
func (IdempotencyKey) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("user_id", uuid.UUID{}).Immutable(),
		field.String("key").Immutable().MaxLen(255),
		field.Bytes("input_hash").Immutable(), // SHA-256 of what was asked, the kind of request included
		field.Enum("status").Values("running", "done").Default("running"),
		// owner is the process that runs it, until lease_until_unix; after that it has died, and another may look.
		field.UUID("owner", uuid.UUID{}),
		field.Int64("lease_until_unix"),
		// subject_id is what the request has begun: a payment, a session, an operation.
		field.UUID("subject_id", uuid.UUID{}).Optional().Nillable(),
		field.Bytes("answer").Optional().Nillable().Sensitive(),
		field.Int64("expires_unix").Immutable(),
	}
}

// Indexes of the IdempotencyKey entity.
func (IdempotencyKey) Indexes() []ent.Index {
	return []ent.Index{index.Fields("user_id", "key").Unique(), index.Fields("expires_unix")}
}
