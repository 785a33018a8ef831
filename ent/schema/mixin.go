// Package schema describes the stored records. Amounts are money.USDC (atomic units); moments that SQL
// compares are unix seconds, because SQLite keeps times as text; other moments are UTC times.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"
	"github.com/google/uuid"

	"bursar/money"
)

// base gives a record its id (UUIDv7, made before the first write) and its creation time (set by core from
// the transaction's one timestamp).
type base struct{ mixin.Schema }

func (base) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).Default(newID).Immutable(),
		field.Time("created_at").Immutable(),
	}
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func amount(name string) ent.Field { return field.Int64(name).GoType(money.USDC(0)).Default(0) }

func limit(name string) ent.Field {
	return field.Int64(name).GoType(money.USDC(0)).Optional().Nillable()
}

func moment(name string) ent.Field { return field.Time(name).Optional().Nillable() }
