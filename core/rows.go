package core

import (
	"database/sql"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/event"
)

// The rows that a paid call writes with its moves. They are statements by hand because ent writes one row at a time,
// and every caller of a busy batch waits for all of them.
var (
	// addPaymentRow is missed by a price that has become a jump since it was judged: above c21 percent of the usual one of
	// the route c20. The holds of an organisation follow one another by the lock on its counter; those of one batch are all
	// compared with the price before it, as if the highest had come first.
	addPaymentRow = &ledger.Statement{
		Name:  "add payment",
		Table: "transactions",
		Columns: []string{
			"uuid", "timestamptz", "uuid", "uuid", "uuid", "uuid", "bigint", "text", "text", "text", "text", "text", "text", "text", "text", "text", "bigint", "uuid",
			"uuid", "uuid", "bigint", "boolean", "uuid",
		},
		Postgres: `INSERT INTO transactions (id, created_at, org_id, agent_id, session_id, credential_id, kind, status, quoted, amount,
			from_address, to_address, service, endpoint, method, protocol, scheme, network, auth_nonce, valid_before_unix, hold_id, service_id, permit2, price_id)
			SELECT c1, c2, c3, c4, c5, c6, 'payment', 'pending', c7, 0, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c22, c23 FROM v
			WHERE c7 <= COALESCE((SELECT COALESCE(p.usual, p.amount) * v.c21 / 100 FROM prices p WHERE p.id = v.c20), c7)`,
		SQLite: `INSERT INTO transactions (id, created_at, org_id, agent_id, session_id, credential_id, kind, status, quoted, amount,
			from_address, to_address, service, endpoint, method, protocol, scheme, network, auth_nonce, valid_before_unix, hold_id, service_id, permit2, price_id)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'payment', 'pending', ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?22, ?23
			WHERE ?7 <= COALESCE((SELECT COALESCE(usual, amount) * ?21 / 100 FROM prices WHERE id = ?20), ?7)`,
	}
	endPaymentRow = &ledger.Statement{
		Name:    "end payment",
		Table:   "transactions",
		Columns: []string{"uuid", "text", "bigint", "bigint", "text", "timestamptz", "text"},
		Postgres: `UPDATE transactions t SET status = v.c2, amount = v.c3, upstream_status = COALESCE(v.c4, t.upstream_status),
			reason = COALESCE(v.c5, t.reason), settled_at = v.c6, receipt = COALESCE(v.c7, t.receipt) FROM v WHERE t.id = v.c1`,
		SQLite: `UPDATE transactions SET status = ?2, amount = ?3, upstream_status = COALESCE(?4, upstream_status),
			reason = COALESCE(?5, reason), settled_at = ?6, receipt = COALESCE(?7, receipt) WHERE id = ?1`,
	}
	// answeredRow and unknownRow note how the service answered; the chain may have been faster.
	answeredRow = &ledger.Statement{
		Name: "note an answer", Table: "transactions", Columns: []string{"uuid", "bigint", "text"}, MayMiss: true,
		Postgres: `UPDATE transactions t SET upstream_status = v.c2, receipt = COALESCE(v.c3, t.receipt) FROM v WHERE t.id = v.c1`,
		SQLite:   `UPDATE transactions SET upstream_status = ?2, receipt = COALESCE(?3, receipt) WHERE id = ?1`,
	}
	unknownRow = &ledger.Statement{
		Name: "note an unknown outcome", Table: "transactions", Columns: []string{"uuid", "bigint", "text", "text"}, MayMiss: true,
		Postgres: `UPDATE transactions t SET upstream_status = COALESCE(NULLIF(v.c2, 0), t.upstream_status), receipt = COALESCE(v.c4, t.receipt),
			reason = CASE WHEN t.status = 'pending' THEN v.c3 ELSE t.reason END,
			status = CASE WHEN t.status = 'pending' THEN 'unknown' ELSE t.status END FROM v WHERE t.id = v.c1`,
		SQLite: `UPDATE transactions SET upstream_status = COALESCE(NULLIF(?2, 0), upstream_status), receipt = COALESCE(?4, receipt),
			reason = CASE WHEN status = 'pending' THEN ?3 ELSE reason END,
			status = CASE WHEN status = 'pending' THEN 'unknown' ELSE status END WHERE id = ?1`,
	}
	addTransferRow = &ledger.Statement{
		Name:    "add operation",
		Table:   "operations",
		Columns: []string{"uuid", "timestamptz", "text", "bigint", "uuid", "uuid", "uuid", "uuid", "uuid", "text", "text", "bigint", "uuid", "bigint"},
		Postgres: `INSERT INTO operations (id, created_at, key, chain_id, org_id, agent_id, session_id, transaction_id, hold_id, from_address, to_address, amount,
			holder, held_until_unix, kind, status) SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, 'transfer', 'queued' FROM v`,
		SQLite: `INSERT INTO operations (id, created_at, key, chain_id, org_id, agent_id, session_id, transaction_id, hold_id, from_address, to_address, amount,
			holder, held_until_unix, kind, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 'transfer', 'queued')`,
	}
	addTraceRow = &ledger.Statement{
		Name:    "add trace",
		Table:   "traces",
		Columns: []string{"uuid", "timestamptz", "uuid", "uuid", "uuid", "uuid", "text", "text", "text", "text", "text", "text", "text", "bigint", "jsonb"},
		Postgres: `INSERT INTO traces (id, created_at, org_id, agent_id, credential_id, session_id, outcome, code, reason, method, service, host,
			endpoint, amount, detail) SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15 FROM v`,
		SQLite: `INSERT INTO traces (id, created_at, org_id, agent_id, credential_id, session_id, outcome, code, reason, method, service, host,
			endpoint, amount, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)`,
	}
	loginRow = &ledger.Statement{ // what came of a login
		Name: "note what came of a login", Table: "traces", Columns: []string{"uuid", "text"}, MayMiss: true,
		Postgres: `UPDATE traces t SET reason = v.c2 FROM v WHERE t.id = v.c1 AND t.outcome = 'login'`,
		SQLite:   `UPDATE traces SET reason = ?2 WHERE id = ?1 AND outcome = 'login'`,
	}
	begunRow = &ledger.Statement{
		Name: "note what a key has begun", Table: "idempotency_keys", Columns: []string{"uuid", "uuid", "uuid"},
		Postgres: `UPDATE idempotency_keys k SET subject_id = v.c2 FROM v WHERE k.id = v.c1 AND k.owner = v.c3 AND k.subject_id IS NULL`,
		SQLite:   `UPDATE idempotency_keys SET subject_id = ?2 WHERE id = ?1 AND owner = ?3 AND subject_id IS NULL`,
	}
	addApprovalRow = &ledger.Statement{ // missed when another asks for the same
		Name:  "ask for approval",
		Table: "approvals",
		Columns: []string{
			"uuid", "timestamptz", "uuid", "uuid", "uuid", "text", "text", "text", "text", "bigint", "text", "text", "text", "text", "text", "bigint",
		},
		Postgres: `INSERT INTO approvals (id, created_at, org_id, agent_id, credential_id, host, payee, network, asset, ceiling, method, endpoint,
			protocol, rule, reason, expires_unix, status)
			SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, 'pending' FROM v ON CONFLICT DO NOTHING`,
		SQLite: `INSERT INTO approvals (id, created_at, org_id, agent_id, credential_id, host, payee, network, asset, ceiling, method, endpoint,
			protocol, rule, reason, expires_unix, status)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 'pending') ON CONFLICT DO NOTHING`,
	}
	useApprovalRow = &ledger.Statement{ // once, in time, and for no more than was approved
		Name: "use an approval", Table: "approvals", Columns: []string{"uuid", "uuid", "bigint", "bigint"},
		Postgres: `UPDATE approvals a SET status = 'used', payment_id = v.c2 FROM v
			WHERE a.id = v.c1 AND a.status = 'approved' AND a.ceiling >= v.c3 AND a.expires_unix > v.c4`,
		SQLite: `UPDATE approvals SET status = 'used', payment_id = ?2 WHERE id = ?1 AND status = 'approved' AND ceiling >= ?3 AND expires_unix > ?4`,
	}
	addEventRow = &ledger.Statement{
		Name: "add event", Table: "events", Columns: []string{"uuid", "timestamptz", "uuid", "text", "uuid", "uuid"},
		Postgres: `INSERT INTO events (id, created_at, org_id, kind, agent_id, subject_id) SELECT c1, c2, c3, c4, c5, c6 FROM v`,
		SQLite:   `INSERT INTO events (id, created_at, org_id, kind, agent_id, subject_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
	}
)

// addPayment writes a payment down. route and percent hold its price to the route's usual one; nil: nothing does.
func addPayment(t *ent.Transaction, route *uuid.UUID, percent int64) ledger.Row {
	var nonce sql.NullString // a metered payment has no proof
	if t.AuthNonce != nil {
		nonce = written(*t.AuthNonce)
	}
	end := sql.NullInt64{Int64: t.ValidBeforeUnix, Valid: t.ValidBeforeUnix != 0}
	return ledger.Row{Into: addPaymentRow, Values: []any{
		t.ID.String(), t.CreatedAt, t.OrgID.String(), t.AgentID.String(), optional(t.SessionID), optional(t.CredentialID), int64(t.Quoted),
		t.FromAddress, t.ToAddress, t.Service, t.Endpoint, t.Method, t.Protocol, t.Scheme, t.Network, nonce, end,
		optional(t.HoldID), optional(t.ServiceID), optional(route), percent, t.Permit2, optional(t.PriceID),
	}}
}

// ended is how a payment ends: the row of it, and the row by which subscribers hear of it, whose id is mark.
func ended(t *ent.Transaction, mark uuid.UUID, now time.Time) []ledger.Row {
	return []ledger.Row{
		{Into: endPaymentRow, Values: []any{
			t.ID.String(), t.Status.String(), int64(t.Amount),
			sql.NullInt64{Int64: int64(t.UpstreamStatus), Valid: t.UpstreamStatus != 0},
			written(t.Reason),
			now,
			written(t.Receipt),
		}},
		{Into: addEventRow, Values: []any{
			mark.String(), now, t.OrgID.String(), event.KindPaymentSettled.String(), t.AgentID.String(), t.ID.String(),
		}},
	}
}

func answeredBy(t *ent.Transaction, status int) ledger.Row {
	return ledger.Row{Into: answeredRow, Values: []any{t.ID.String(), int64(status), written(t.Receipt)}}
}

// written is a text that leaves the column as it is when it is empty.
func written(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

func settledNews(t *ent.Transaction) News {
	return News{Kind: PaymentSettled, OrgID: t.OrgID, AgentID: t.AgentID, SubjectID: t.ID}
}

func optional(id *uuid.UUID) sql.NullString {
	if id == nil {
		return sql.NullString{}
	}
	return sql.NullString{String: id.String(), Valid: true}
}
