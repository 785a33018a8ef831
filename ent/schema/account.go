package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// Account is a place money can be, in the ledger. Only core/ledger writes it.
type Account struct{ ent.Schema }

// Mixin of the Account entity.
func (Account) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Account entity.
func (Account) Fields() []ent.Field {
	return []ent.Field{
		field.Enum("kind").Values("wallet", "session", "clearing", "treasury", "suspense", "seller", "external").Immutable(),
		field.Int64("chain_id").Immutable(),
		// owner_id is the agent of a wallet, the session of a session account, the service of a seller's, and zero for the
		// platform's own.
		field.UUID("owner_id", uuid.UUID{}).Immutable(),
		// org_id and agent_id say whose wallet or session it is; the platform's own accounts have neither.
		field.UUID("org_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		amount("debits_pending"), amount("debits_posted"), amount("credits_posted"),
		// holds_until (unix seconds) is the last moment at which a hold may be made: a session's expiry while it is
		// open, 0 when it is not. The rule stands here so that one locked row decides a hold.
		field.Int64("holds_until").Default(0),
		field.Int64("version").Default(0),
	}
}

// Indexes of the Account entity.
func (Account) Indexes() []ent.Index {
	return []ent.Index{index.Fields("kind", "chain_id", "owner_id").Unique()}
}

// Annotations of the Account entity: the database repeats what may never be below zero. A wallet's available
// balance may be, when its owner spends with an exported key behind a hold.
func (Account) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Annotation{Checks: map[string]string{
		"account_pending_not_negative": "debits_pending >= 0",
		"account_posted_not_negative":  "kind IN ('external', 'suspense') OR credits_posted >= debits_posted",
		"account_available_not_negative": "kind NOT IN ('session', 'treasury') OR " +
			"credits_posted >= debits_posted + debits_pending",
	}}}
}

// Transfer moves one amount from one account to another: at once, or as a hold that is posted or voided later.
type Transfer struct{ ent.Schema }

// Mixin of the Transfer entity.
func (Transfer) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Transfer entity.
func (Transfer) Fields() []ent.Field {
	return []ent.Field{
		// key names the cause; the same cause moves money once.
		field.String("key").Unique().Immutable().MaxLen(200),
		field.UUID("debit_id", uuid.UUID{}).Immutable(),
		field.UUID("credit_id", uuid.UUID{}).Immutable(),
		field.Enum("status").Values("pending", "posted", "voided"),
		amount("amount"), // reserved, or moved at once
		amount("posted"), // moved in the end, at most amount
		field.String("code").MaxLen(20).Immutable(),
		field.UUID("transaction_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.String("counters").Optional().MaxLen(1000).Immutable(), // ids of the usage rows raised with the hold, by space
		// log_key (log:<tx hash>:<index>:<block hash>) is the chain log that posted it; a log posts once. The same
		// transaction in another block, after a reorganisation, is another log.
		field.String("log_key").Optional().Nillable().Unique().MaxLen(160),
		field.Int64("block").Optional().Nillable(), // of that log
		moment("ended_at"),
	}
}

// Indexes of the Transfer entity.
func (Transfer) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("debit_id", "created_at"), index.Fields("credit_id", "created_at"), index.Fields("transaction_id"), index.Fields("block"),
	}
}

// Annotations of the Transfer entity.
func (Transfer) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Annotation{Checks: map[string]string{
		"transfer_amounts":  "amount > 0 AND posted >= 0 AND posted <= amount",
		"transfer_accounts": "debit_id <> credit_id",
		"transfer_ends":     "((status = 'posted') = (posted > 0))",
	}}}
}

// Usage counts what a scope has spent (holds included) in one bucket of time. The id spells both, for example
// "agent:<id>:day:2026-11-23".
type Usage struct{ ent.Schema }

// Fields of the Usage entity.
func (Usage) Fields() []ent.Field {
	return []ent.Field{field.String("id").MaxLen(120), amount("spent"), field.Int64("calls").Default(0)}
}

// Annotations of the Usage entity.
func (Usage) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Annotation{Checks: map[string]string{"usage_not_negative": "spent >= 0 AND calls >= 0"}}}
}

// Event is what subscribers resume from: one row for each change they are told of.
type Event struct{ ent.Schema }

// Mixin of the Event entity.
func (Event) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Event entity.
func (Event) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.Enum("kind").Values("payment_settled", "session_changed", "approval_changed").Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.UUID("subject_id", uuid.UUID{}).Immutable(), // the transaction, the session or the approval
	}
}

// Indexes of the Event entity.
func (Event) Indexes() []ent.Index { return []ent.Index{index.Fields("org_id", "created_at")} }
