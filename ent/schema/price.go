package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"

	"bursar/money"
)

// Price is the offer of a route of a host that was taken last, by any agent of an organisation: it is written with the hold
// and says nothing of what came of it. Its id follows from organisation, chain, host and route (core/memory.go).
type Price struct{ ent.Schema }

// Mixin of the Price entity.
func (Price) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Price entity.
func (Price) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		// host_id names the host for the organisation on this chain, as Payee does.
		field.UUID("host_id", uuid.UUID{}).Immutable(),
		field.String("host").Immutable().MaxLen(260),   // without its port
		field.String("route").Immutable().MaxLen(6200), // method and path, without the query
		field.String("protocol").MaxLen(20),
		field.String("scheme").MaxLen(20),
		field.String("network").MaxLen(40),
		field.String("asset").MaxLen(42),
		field.String("payee").MaxLen(42),
		amount("amount"),
		// usual is what the next price is compared with: what was charged last, and until then what was promised first. Nil:
		// amount, in a row of a version that had no such column.
		field.Int64("usual").GoType(money.USDC(0)).Optional().Nillable(),
		// offer is the whole offer as JSON of pay.Offer; empty when it is too large to keep.
		field.Text("offer"),
		// same counts the payments in a row that took this very offer; 0 when it is not kept.
		field.Int64("same"),
		// since_unix is when this very offer was first taken, seen_unix when it was last, to some minutes.
		field.Int64("since_unix"), field.Int64("seen_unix"),
	}
}

// Indexes of the Price entity.
func (Price) Indexes() []ent.Index { return []ent.Index{index.Fields("host_id", "seen_unix")} }

// Payee is somebody whom an organisation has paid for calls of a host. Rows are only added: the number of a host's next
// payee is taken once, so that of two holds that were judged by the same payees, one adds another.
type Payee struct{ ent.Schema }

// Mixin of the Payee entity.
func (Payee) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Payee entity.
func (Payee) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("host_id", uuid.UUID{}).Immutable(),
		field.String("host").Immutable().MaxLen(260), // without its port
		field.String("address").Immutable().MaxLen(42),
		field.Int64("number").Immutable(), // of the host's payees, from 1, in the order of their first payment
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.UUID("payment_id", uuid.UUID{}).Immutable(), // the first
	}
}

// Indexes of the Payee entity.
func (Payee) Indexes() []ent.Index {
	return []ent.Index{index.Fields("host_id", "address").Unique(), index.Fields("host_id", "number").Unique()}
}
