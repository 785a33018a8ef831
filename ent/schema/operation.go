package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"
)

// Operation is an on-chain movement that we send: the intent, written together with its hold.
type Operation struct{ ent.Schema }

// Mixin of the Operation entity.
func (Operation) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Operation entity.
func (Operation) Fields() []ent.Field {
	return []ent.Field{
		field.String("key").Unique().Immutable().MaxLen(120), // names the cause, as a transfer's key does
		field.Int64("chain_id").Immutable(),
		field.UUID("org_id", uuid.UUID{}).Immutable(),
		field.UUID("agent_id", uuid.UUID{}).Immutable(),
		field.UUID("session_id", uuid.UUID{}).Optional().Nillable().Immutable(),
		field.UUID("transaction_id", uuid.UUID{}).Immutable(),    // nil for permits and allowances, which move nothing, and for payouts
		field.UUID("hold_id", uuid.UUID{}).Optional().Nillable(), // the latest: a reorganisation makes another
		field.Enum("kind").Values("deposit", "refund", "drain", "gas", "top_up", "permit", "charge", "payout", "transfer", "allowance").Immutable(),
		field.Enum("status").Values("queued", "authorized", "signed", "sent", "included", "final", "expired", "failed").Default("queued"),
		field.String("from_address").Immutable().MaxLen(42),
		field.String("to_address").Immutable().MaxLen(42),
		amount("amount"),
		field.String("wei").Optional().Immutable().MaxLen(40), // kind gas
		// auth_nonce = keccak256("bursar operation" | chain id | id): the token refuses a repeat of it.
		field.String("auth_nonce").Optional().Nillable().Unique().MaxLen(66),
		field.Int64("valid_before_unix").Optional(),
		field.Bytes("signature").Optional().Sensitive(),
		field.UUID("chain_tx_id", uuid.UUID{}).Optional().Nillable(),
		field.String("tx_hash").Optional().Nillable().MaxLen(66),
		field.Int64("block").Optional().Nillable(), // that made it final, or by which it failed
		field.String("error").Optional().MaxLen(500),
		// kind transfer: the call that is showing its hash, and until when the row is that call's alone.
		field.UUID("holder", uuid.UUID{}).Optional().Nillable(),
		field.Int64("held_until_unix").Optional(),
	}
}

// Indexes of the Operation entity.
func (Operation) Indexes() []ent.Index {
	return []ent.Index{index.Fields("status", "created_at"), index.Fields("session_id"), index.Fields("agent_id", "kind", "created_at"), index.Fields("block")}
}

// ChainTx is one account nonce of one of our senders and the call that it carries for ever.
type ChainTx struct{ ent.Schema }

// Mixin of the ChainTx entity.
func (ChainTx) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the ChainTx entity.
func (ChainTx) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("chain_id").Immutable(),
		field.String("sender").Immutable().MaxLen(42),
		field.Int64("nonce").Immutable(),
		field.String("fee_wei").Optional().MaxLen(40), // what it cost, once it is mined
	}
}

// Indexes of the ChainTx entity.
func (ChainTx) Indexes() []ent.Index {
	return []ent.Index{index.Fields("chain_id", "sender", "nonce").Unique()}
}

// Attempt is one signed form of a ChainTx; its bytes are stored before they are first sent.
type Attempt struct{ ent.Schema }

// Mixin of the Attempt entity.
func (Attempt) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Attempt entity.
func (Attempt) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("chain_tx_id", uuid.UUID{}).Immutable(),
		field.String("hash").Unique().Immutable().MaxLen(66),
		field.Bytes("raw").Immutable(),
		field.Int64("tip_wei").Immutable(),
		field.Int64("cap_wei").Immutable(),
		field.Int64("at_block").Default(0).Immutable(), // the head when it was signed
	}
}

// Indexes of the Attempt entity.
func (Attempt) Indexes() []ent.Index { return []ent.Index{index.Fields("chain_tx_id")} }

// Sender is a wallet of ours that pays gas. Its row is locked while a nonce is taken. The process that has the lease
// sends from it; the others wait until it is given back or has run out.
type Sender struct{ ent.Schema }

// Mixin of the Sender entity.
func (Sender) Mixin() []ent.Mixin { return []ent.Mixin{base{}} }

// Fields of the Sender entity.
func (Sender) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("chain_id").Immutable(),
		field.String("address").Immutable().MaxLen(42),
		field.Int64("next_nonce"),
		field.UUID("lease_owner", uuid.UUID{}).Optional().Nillable(),
		field.Int64("lease_until_unix").Default(0),
	}
}

// Indexes of the Sender entity.
func (Sender) Indexes() []ent.Index {
	return []ent.Index{index.Fields("chain_id", "address").Unique()}
}

// Cursor says how far the watcher has read, once and twice, and on which branch. Its id is the chain id.
type Cursor struct{ ent.Schema }

// Fields of the Cursor entity.
func (Cursor) Fields() []ent.Field {
	return []ent.Field{
		field.Int("id"),
		field.Int64("block"),
		field.String("hash").MaxLen(66),
		field.Int64("time_unix"),
		// The second pass: the last block that was read twice, and its time; 0 before the first run.
		field.Int64("rechecked").Default(0),
		field.Int64("rechecked_unix").Default(0),
	}
}

// Block is one that the watcher has read, kept while a reorganisation can still reach it.
type Block struct{ ent.Schema }

// Fields of the Block entity.
func (Block) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("chain_id").Immutable(),
		field.Int64("number").Immutable(),
		field.String("hash").MaxLen(66),
		field.Int64("time_unix"),
	}
}

// Indexes of the Block entity.
func (Block) Indexes() []ent.Index { return []ent.Index{index.Fields("chain_id", "number").Unique()} }
