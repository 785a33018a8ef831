package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// Agent is a program with its own wallet and policy.
type Agent struct{ ent.Schema }

// Mixin of the Agent entity.
func (Agent) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Agent entity.
func (Agent) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("owner_id", uuid.UUID{}).Immutable(),
		field.UUID("department_id", uuid.UUID{}).Optional().Nillable(),
		field.String("name").MaxRuneLen(100),
		// slug is the name in lower case with dashes; X-Agent-Wallet may hold it.
		field.String("slug").MaxRuneLen(100),
		field.String("address").MaxLen(42).Unique().Immutable(),
		field.Bytes("sealed_key").Sensitive().Immutable(),
		field.Bool("active").Default(true),
		// is_default marks the user's hidden wallet behind the Agnic surface.
		field.Bool("is_default").Default(false).Immutable(),
		limit("auto_topup_threshold"), limit("auto_topup_amount"), limit("auto_topup_daily_limit"),
		field.String("auto_topup_source").Optional().Nillable().MaxLen(42),
		field.String("auto_topup_error").Optional().MaxLen(500), // why the last one failed; empty after one that did not
		moment("auto_topup_failed_at"),
		field.Int64("auto_topup_retry_unix").Default(0), // after a failure: not before
		// auto_topup_consent is the source's signature under the terms above and its own moment; whoever changes a term
		// takes the consent away.
		field.Bytes("auto_topup_consent").Optional().Sensitive(),
		field.Int64("auto_topup_consent_unix").Default(0),
		field.UUID("auto_topup_consent_by", uuid.UUID{}).Optional().Nillable(), // the user who brought it
	}
}

// Edges of the Agent entity.
func (Agent) Edges() []ent.Edge {
	return []ent.Edge{edge.To("policy", SpendingPolicy.Type).Unique()}
}

// Indexes of the Agent entity.
func (Agent) Indexes() []ent.Index {
	return []ent.Index{index.Fields("owner_id", "slug").Unique(), index.Fields("org_id", "created_at")}
}

// SpendingPolicy is what an agent may spend, where, and how much. (ent reserves the name Policy.)
type SpendingPolicy struct{ ent.Schema }

// Mixin of the SpendingPolicy entity.
func (SpendingPolicy) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the SpendingPolicy entity.
func (SpendingPolicy) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("agent_id", uuid.UUID{}),
		limit("spending_cap"), limit("daily_limit"), limit("monthly_limit"), limit("per_call_max"),
		field.Strings("allowed_services"), field.Strings("blocked_services"),
		field.Bool("require_session").Default(false),
		// What happens when a host asks money for somebody new, for somebody other than before, or far more than last time.
		reaction("new_payee"), reaction("changed_payee"), reaction("price_jump"),
		// price_jump_percent of a route's last price may be asked without being a jump.
		field.Int64("price_jump_percent").Default(150),
		limit("approve_above"), // amounts above it need a person's yes
		// sign_in: the wallet may say who it is to a host that it has paid, and be served without paying again.
		field.Bool("sign_in").Default(false),
		field.Int("version").Default(1),
	}
}

// reaction is noted in the trace, refused, or held for a person's yes.
func reaction(name string) ent.Field {
	return field.Enum(name).Values("note", "refuse", "approve").Default("note")
}

// Edges of the SpendingPolicy entity.
func (SpendingPolicy) Edges() []ent.Edge {
	return []ent.Edge{edge.From("agent", Agent.Type).Ref("policy").Field("agent_id").Unique().Required()}
}

// Session is a prepaid balance for many calls: one deposit, one refund. Its amounts are those of its account.
type Session struct{ ent.Schema }

// Mixin of the Session entity.
func (Session) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Session entity.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.Enum("status").Values("opening", "open", "expired", "closing", "closed", "failed").Default("opening"),
		field.Int64("expires_unix"),
		moment("closed_at"),
	}
}

// Indexes of the Session entity.
func (Session) Indexes() []ent.Index {
	return []ent.Index{index.Fields("org_id", "created_at"), index.Fields("agent_id", "status"), index.Fields("status", "expires_unix")}
}

// Transaction is the product's history record shown to users: a payment, a deposit, a refund, a funding.
type Transaction struct{ ent.Schema }

// Mixin of the Transaction entity.
func (Transaction) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Transaction entity.
func (Transaction) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.UUID("session_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.UUID("credential_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.Enum("kind").Values("payment", "deposit", "refund", "fund", "drain", "auto_topup", "gas_sponsor", "onramp").Immutable(),
		// pending: reserved, outcome open. unknown: the proof left and no good answer came. success and failed are final.
		field.Enum("status").Values("pending", "unknown", "success", "failed").Default("pending"),
		// quoted is what was reserved; amount is what was charged in the end.
		amount("quoted"), amount("amount"),
		field.String("wei").Optional().MaxLen(40), // gas_sponsor only: ether is outside the ledger
		field.String("from_address").Optional().MaxLen(42),
		field.String("to_address").Optional().MaxLen(42),
		field.String("tx_hash").Optional().Nillable().MaxLen(66),
		field.String("service").Optional().MaxLen(255),
		field.String("endpoint").Optional().MaxLen(2048),
		field.String("method").Optional().MaxLen(10),
		field.String("protocol").Optional().MaxLen(20),
		field.String("scheme").Optional().MaxLen(20),
		field.String("network").Optional().MaxLen(40),
		field.Int("upstream_status").Optional(),
		field.String("reason").Optional().MaxLen(500),  // why it failed or is unknown
		field.String("receipt").Optional().MaxLen(600), // what the seller claims to have charged, as JSON: untrusted
		// auth_nonce and valid_before_unix identify the signed proof on chain. A metered payment has no proof: it is decided by
		// valid_before_unix, as its call has ended by then, or its operation.
		field.String("auth_nonce").Optional().Nillable().MaxLen(66).Unique().Immutable(),
		field.Int64("valid_before_unix").Optional(),
		// permit2: the proof is a signature for Permit2, which keeps its own nonces; else the token keeps them.
		field.Bool("permit2").Default(false).Immutable(),
		field.UUID("hold_id", uuid.UUID{}).Optional().Nillable(),
		field.UUID("service_id", uuid.UUID{}).Optional().Nillable().Immutable(), // of the catalogue: a metered payment
		field.UUID("price_id", uuid.UUID{}).Optional().Nillable().Immutable(),   // of the route that its charge teaches a price; nil: of none
		moment("settled_at"),
	}
}

// Indexes of the Transaction entity.
func (Transaction) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("org_id", "created_at"), index.Fields("agent_id", "created_at"),
		index.Fields("session_id"), index.Fields("status", "valid_before_unix"), index.Fields("service_id"),
		index.Fields("from_address", "valid_before_unix").Annotations(entsql.IndexWhere("permit2")),
		// What a wallet itself has paid to a service.
		index.Fields("agent_id", "service").Annotations(entsql.IndexWhere("session_id IS NULL AND service_id IS NULL")),
	}
}
