package core

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/apikey"
	"bursar/ent/session"
	"bursar/money"
)

// What a paid call must know is read by queries that its neighbours share: the credential, the agent with all that limits
// it, the session, and what is remembered of its route (memory.go). They are by hand because ent reads one row at a time. An
// account is a subquery's, which needs its owner: PostgreSQL plans a join while the tables are small, and would begin with
// all accounts of the kind.

// payer is an agent with what limits it, as of one query.
type payer struct {
	agent      *ent.Agent // with its policy
	wallet     uuid.UUID  // its account
	department *money.USDC
	org        policy.OrgLimits
	rules      ledger.Rules
}

// prepaid is a session with its account, as of one query.
type prepaid struct {
	session *ent.Session
	account ledger.State
}

// readers are the shared readings.
type readers struct {
	payers   gather[uuid.UUID, *payer]
	sessions gather[uuid.UUID, *prepaid]
	keys     gather[[32]byte, *keyRow]
	seats    gather[seat, *seated]
	prices   gather[uuid.UUID, *ent.Price]
}

func newReaders(s *store) *readers {
	r := &readers{}
	r.payers.load, r.sessions.load, r.prices.load = s.loadPayers, s.loadPrepaid, s.loadPrices
	r.keys.load, r.seats.load = s.loadKeys, s.loadSeats
	return r
}

const (
	payerColumns = `a.id, a.org_id, a.owner_id, a.name, a.slug, a.address, a.sealed_key, a.active, a.is_default, a.department_id,
	p.id, p.spending_cap, p.daily_limit, p.monthly_limit, p.per_call_max, p.allowed_services, p.blocked_services, p.require_session, p.version,
	p.new_payee, p.changed_payee, p.price_jump, p.price_jump_percent, p.approve_above, p.sign_in,
	d.budget_limit, COALESCE(d.version, 0), o.daily_limit, o.monthly_limit, o.spending_cap, o.version,
	(SELECT w.id FROM accounts w WHERE w.kind = 'wallet' AND w.chain_id = $2 AND w.owner_id = a.id)`
	payerLimits = `JOIN spending_policies p ON p.agent_id = a.id JOIN orgs o ON o.id = a.org_id LEFT JOIN departments d ON d.id = a.department_id`

	selPayers = `SELECT ` + payerColumns + ` FROM agents a ` + payerLimits + ` WHERE a.id `
)

func (s *store) loadPayers(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*payer, error) {
	found := make(map[uuid.UUID]*payer, len(ids))
	err := s.db.list(ctx, selPayers, "uuid", texts(ids), func(rows *sql.Rows) error {
		row := newPayerRow()
		if err := rows.Scan(row.columns()...); err != nil {
			return err
		}
		v, err := row.payer()
		found[v.agent.ID] = v
		return err
	}, int64(s.chainID()))
	return found, err
}

// payerRow is a row of payerColumns.
type payerRow struct {
	to               *payer
	policy           *ent.SpendingPolicy
	department       uuid.NullUUID
	allowed, blocked []byte
	version          int64
}

func newPayerRow() *payerRow {
	return &payerRow{to: &payer{agent: &ent.Agent{}}, policy: &ent.SpendingPolicy{}}
}

func (r *payerRow) columns() []any {
	v, a, p := r.to, r.to.agent, r.policy
	return []any{
		&a.ID, &a.OrgID, &a.OwnerID, &a.Name, &a.Slug, &a.Address, &a.SealedKey, &a.Active, &a.IsDefault, &r.department,
		&p.ID, &p.SpendingCap, &p.DailyLimit, &p.MonthlyLimit, &p.PerCallMax, &r.allowed, &r.blocked, &p.RequireSession, &r.version,
		&p.NewPayee, &p.ChangedPayee, &p.PriceJump, &p.PriceJumpPercent, &p.ApproveAbove, &p.SignIn,
		&v.department, &v.rules.DepartmentVersion, &v.org.DailyLimit, &v.org.MonthlyLimit, &v.org.SpendingCap, &v.rules.OrgVersion, &v.wallet,
	}
}

func (r *payerRow) payer() (*payer, error) {
	v, a, p := r.to, r.to.agent, r.policy
	if err := json.Unmarshal(r.allowed, &p.AllowedServices); err != nil {
		return v, fmt.Errorf("core: policy %s: %w", p.ID, err)
	}
	if err := json.Unmarshal(r.blocked, &p.BlockedServices); err != nil {
		return v, fmt.Errorf("core: policy %s: %w", p.ID, err)
	}
	if r.department.Valid {
		a.DepartmentID = &r.department.UUID
	}
	p.Version, p.AgentID, a.Edges.Policy = int(r.version), a.ID, p
	v.rules.Active, v.rules.Department, v.rules.PolicyVersion = a.Active, r.department.UUID, r.version
	return v, nil
}

const selPrepaid = `SELECT s.id, s.org_id, s.agent_id, s.status, s.expires_unix,
	a.id, a.debits_pending, a.debits_posted, a.credits_posted, a.holds_until, a.version
	FROM sessions s JOIN accounts a ON a.id = (SELECT x.id FROM accounts x WHERE x.kind = 'session' AND x.chain_id = $2 AND x.owner_id = s.id)
	WHERE s.id `

func (s *store) loadPrepaid(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*prepaid, error) {
	found := make(map[uuid.UUID]*prepaid, len(ids))
	err := s.db.list(ctx, selPrepaid, "uuid", texts(ids), func(rows *sql.Rows) error {
		v := &prepaid{session: &ent.Session{}}
		var status string
		err := rows.Scan(&v.session.ID, &v.session.OrgID, &v.session.AgentID, &status, &v.session.ExpiresUnix, &v.account.ID,
			&v.account.DebitsPending, &v.account.DebitsPosted, &v.account.CreditsPosted, &v.account.HoldsUntil, &v.account.Version)
		v.session.Status, v.account.Kind, v.account.OwnerID = session.Status(status), ledger.Session, v.session.ID
		found[v.session.ID] = v
		return err
	}, int64(s.chainID()))
	return found, err
}

// keyRow is a stored credential with its user's seat.
type keyRow struct {
	hash          []byte
	id, org, user uuid.UUID
	kind          apikey.Kind
	role          Role
	limits        policy.TokenLimits
	networks      []string
	rawNetworks   []byte
	expires       sql.NullTime
	revoked       bool
	lastUsed      sql.NullTime
	joined        time.Time
}

const (
	keyColumns = `k.hash, k.id, k.org_id, k.user_id, k.kind, k.max_per_transaction, k.daily_limit, k.monthly_limit, k.networks,
	k.expires_at, k.revoked_at IS NOT NULL, k.last_used_at, m.role, m.created_at`
	keyUser = `JOIN memberships m ON m.user_id = k.user_id`

	selKeys = `SELECT ` + keyColumns + ` FROM api_keys k ` + keyUser + ` WHERE k.hash `
)

func (s *store) loadKeys(ctx context.Context, hashes [][32]byte) (map[[32]byte]*keyRow, error) {
	found := make(map[[32]byte]*keyRow, len(hashes))
	err := s.db.listBytes(ctx, selKeys, hashes, func(rows *sql.Rows) error {
		k := &keyRow{}
		if err := rows.Scan(k.columns()...); err != nil {
			return err
		}
		if k.before(found[k.sha256()]) {
			found[k.sha256()] = k
		}
		return k.read()
	})
	return found, err
}

// columns are those of keyColumns.
func (k *keyRow) columns() []any {
	return []any{
		&k.hash, &k.id, &k.org, &k.user, &k.kind, &k.limits.PerCallMax, &k.limits.Rolling24h, &k.limits.Rolling30d, &k.rawNetworks,
		&k.expires, &k.revoked, &k.lastUsed, &k.role, &k.joined,
	}
}

func (k *keyRow) read() error {
	if len(k.rawNetworks) == 0 {
		return nil
	}
	if err := json.Unmarshal(k.rawNetworks, &k.networks); err != nil {
		return fmt.Errorf("core: key %s: %w", k.id, err)
	}
	return nil
}

func (k *keyRow) sha256() [32]byte { return [32]byte(k.hash) }

// before chooses among a user's seats: one user has one organisation for now.
func (k *keyRow) before(other *keyRow) bool { return other == nil || k.joined.Before(other.joined) }

// seat is a credential and the agent that it is likely to pay for.
type seat struct {
	hash  [32]byte
	agent uuid.UUID
}

// seated is what a seat names, as of one query.
type seated struct {
	key   *keyRow
	payer *payer
}

const (
	selSeats = `SELECT ` + keyColumns + `, ` + payerColumns + ` FROM `
	ofSeats  = ` JOIN api_keys k ON k.hash = w.hash ` + keyUser + ` JOIN agents a ON a.id = w.agent ` + payerLimits

	seatsOnPostgres = selSeats + `unnest($1::bytea[], $3::uuid[]) w (hash, agent)` + ofSeats
	seatsOnSQLite   = selSeats + `(SELECT unhex(value ->> 0) hash, value ->> 1 agent FROM json_each($1)) w` + ofSeats
)

func (s *store) loadSeats(ctx context.Context, seats []seat) (map[seat]*seated, error) {
	found := make(map[seat]*seated, len(seats))
	err := s.db.listSeats(ctx, seats, s.chainID(), func(rows *sql.Rows) error {
		k, row := &keyRow{}, newPayerRow()
		if err := rows.Scan(append(k.columns(), row.columns()...)...); err != nil {
			return err
		}
		v, err := row.payer()
		at := seat{k.sha256(), v.agent.ID}
		if old := found[at]; old == nil || k.before(old.key) {
			found[at] = &seated{k, v}
		}
		return errors.Join(err, k.read())
	})
	return found, err
}

func texts(ids []uuid.UUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// allLimits gathers every limit that a call of the principal on the agent's behalf is under.
func (v *payer) allLimits(p Principal) policy.Budget {
	b := policy.Budget{OrgID: v.agent.OrgID.String(), AgentID: v.agent.ID.String(), Agent: rules(v.agent.Edges.Policy), Org: v.org}
	if p.CredentialID != uuid.Nil {
		b.TokenID, b.Token = p.CredentialID.String(), p.Limits
	}
	if v.agent.DepartmentID != nil {
		b.DepartmentID, b.Department = v.agent.DepartmentID.String(), v.department
	}
	return b
}
