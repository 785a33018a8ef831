package core

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
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
	prices   gather[uuid.UUID, *ent.Price]
}

func newReaders(s *store) *readers {
	r := &readers{}
	r.payers.load, r.sessions.load, r.keys.load, r.prices.load = s.loadPayers, s.loadPrepaid, s.loadKeys, s.loadPrices
	return r
}

const selPayers = `SELECT a.id, a.org_id, a.owner_id, a.name, a.slug, a.address, a.sealed_key, a.active, a.is_default, a.department_id,
	p.id, p.spending_cap, p.daily_limit, p.monthly_limit, p.per_call_max, p.allowed_services, p.blocked_services, p.require_session, p.version,
	p.new_payee, p.changed_payee, p.price_jump, p.price_jump_percent, p.approve_above, p.sign_in,
	d.budget_limit, COALESCE(d.version, 0), o.daily_limit, o.monthly_limit, o.spending_cap, o.version,
	(SELECT w.id FROM accounts w WHERE w.kind = 'wallet' AND w.chain_id = $2 AND w.owner_id = a.id)
	FROM agents a JOIN spending_policies p ON p.agent_id = a.id JOIN orgs o ON o.id = a.org_id
	LEFT JOIN departments d ON d.id = a.department_id
	WHERE a.id `

func (s *store) loadPayers(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*payer, error) {
	found := make(map[uuid.UUID]*payer, len(ids))
	err := s.db.list(ctx, selPayers, "uuid", texts(ids), func(rows *sql.Rows) error {
		v := &payer{agent: &ent.Agent{}}
		a, p := v.agent, &ent.SpendingPolicy{}
		var department uuid.NullUUID
		var allowed, blocked []byte
		var version int64
		err := rows.Scan(&a.ID, &a.OrgID, &a.OwnerID, &a.Name, &a.Slug, &a.Address, &a.SealedKey, &a.Active, &a.IsDefault, &department,
			&p.ID, &p.SpendingCap, &p.DailyLimit, &p.MonthlyLimit, &p.PerCallMax, &allowed, &blocked, &p.RequireSession, &version,
			&p.NewPayee, &p.ChangedPayee, &p.PriceJump, &p.PriceJumpPercent, &p.ApproveAbove, &p.SignIn,
			&v.department, &v.rules.DepartmentVersion, &v.org.DailyLimit, &v.org.MonthlyLimit, &v.org.SpendingCap, &v.rules.OrgVersion, &v.wallet)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(allowed, &p.AllowedServices); err != nil {
			return fmt.Errorf("core: policy %s: %w", p.ID, err)
		}
		if err := json.Unmarshal(blocked, &p.BlockedServices); err != nil {
			return fmt.Errorf("core: policy %s: %w", p.ID, err)
		}
		if department.Valid {
			a.DepartmentID = &department.UUID
		}
		p.Version, p.AgentID, a.Edges.Policy = int(version), a.ID, p
		v.rules.Active, v.rules.Department, v.rules.PolicyVersion = a.Active, department.UUID, version
		found[a.ID] = v
		return nil
	}, int64(s.chainID()))
	return found, err
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
	id, org, user uuid.UUID
	agnic         bool
	role          Role
	limits        policy.TokenLimits
	networks      []string
	expires       sql.NullTime
	revoked       bool
	lastUsed      sql.NullTime
	joined        time.Time
}

const selKeys = `SELECT k.hash, k.id, k.org_id, k.user_id, k.kind, k.max_per_transaction, k.daily_limit, k.monthly_limit, k.networks,
	k.expires_at, k.revoked_at IS NOT NULL, k.last_used_at, m.role, m.created_at
	FROM api_keys k JOIN memberships m ON m.user_id = k.user_id WHERE k.hash `

func (s *store) loadKeys(ctx context.Context, hashes [][32]byte) (map[[32]byte]*keyRow, error) {
	found := make(map[[32]byte]*keyRow, len(hashes))
	err := s.db.listBytes(ctx, selKeys, hashes, func(rows *sql.Rows) error {
		k := &keyRow{}
		var hash, networks []byte
		var kind, role string
		err := rows.Scan(&hash, &k.id, &k.org, &k.user, &kind, &k.limits.PerCallMax, &k.limits.Rolling24h, &k.limits.Rolling30d, &networks,
			&k.expires, &k.revoked, &k.lastUsed, &role, &k.joined)
		if err != nil {
			return err
		}
		if len(networks) > 0 {
			if err := json.Unmarshal(networks, &k.networks); err != nil {
				return fmt.Errorf("core: key %s: %w", k.id, err)
			}
		}
		k.agnic, k.role = kind == "agnic_token", Role(role)
		if old := found[[32]byte(hash)]; old == nil || k.joined.Before(old.joined) { // one user has one organisation for now
			found[[32]byte(hash)] = k
		}
		return nil
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
