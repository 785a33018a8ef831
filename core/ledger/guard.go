package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Guard names what a hold was judged by before its transaction began: the agent with its rules, and the credential.
// Zero ids are not looked at.
type Guard struct {
	Agent      uuid.UUID
	Rules      Rules
	Credential uuid.UUID // must not be revoked or expired
}

// Rules are the versions of everything that says what an agent may spend.
type Rules struct {
	Active                                       bool
	Department                                   uuid.UUID // uuid.Nil: none
	PolicyVersion, DepartmentVersion, OrgVersion int64
}

type credential struct {
	revoked bool
	expires sql.NullTime
}

type guards struct {
	rules       map[uuid.UUID]Rules
	credentials map[uuid.UUID]credential
}

const (
	selRules = `SELECT a.id, a.active, a.department_id, p.version, COALESCE(d.version, 0), o.version FROM agents a
		JOIN spending_policies p ON p.agent_id = a.id JOIN orgs o ON o.id = a.org_id LEFT JOIN departments d ON d.id = a.department_id
		WHERE a.id %s`
	selCredentials = `SELECT id, revoked_at IS NOT NULL, expires_at FROM api_keys WHERE id %s`
)

// load reads what the units' guards name. It locks nothing: a change counts for the holds that are judged after its
// commit.
func (g *guards) load(ctx context.Context, tx Tx, units []Unit) error {
	agents, keys := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
	for _, u := range units {
		if u.Guard.Agent != uuid.Nil {
			agents[u.Guard.Agent] = true
		}
		if u.Guard.Credential != uuid.Nil {
			keys[u.Guard.Credential] = true
		}
	}
	if err := g.loadRules(ctx, tx, agents); err != nil {
		return err
	}
	return g.loadCredentials(ctx, tx, keys)
}

func (g *guards) loadRules(ctx context.Context, tx Tx, ids map[uuid.UUID]bool) error {
	g.rules = map[uuid.UUID]Rules{}
	if len(ids) == 0 {
		return nil
	}
	q, arg := tx.in(1, "uuid", texts(ids))
	rows, err := tx.query(ctx, fmt.Sprintf(selRules, q), arg)
	if err != nil {
		return fmt.Errorf("ledger: read rules: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var r Rules
		var department uuid.NullUUID
		if err := rows.Scan(&id, &r.Active, &department, &r.PolicyVersion, &r.DepartmentVersion, &r.OrgVersion); err != nil {
			return fmt.Errorf("ledger: read rules: %w", err)
		}
		r.Department = department.UUID
		g.rules[id] = r
	}
	return rows.Err()
}

func (g *guards) loadCredentials(ctx context.Context, tx Tx, ids map[uuid.UUID]bool) error {
	g.credentials = map[uuid.UUID]credential{}
	if len(ids) == 0 {
		return nil
	}
	q, arg := tx.in(1, "uuid", texts(ids))
	rows, err := tx.query(ctx, fmt.Sprintf(selCredentials, q), arg)
	if err != nil {
		return fmt.Errorf("ledger: read credentials: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var c credential
		if err := rows.Scan(&id, &c.revoked, &c.expires); err != nil {
			return fmt.Errorf("ledger: read credentials: %w", err)
		}
		g.credentials[id] = c
	}
	return rows.Err()
}

// hold reports whether what the unit was judged by is still so.
func (g *guards) hold(now time.Time, want Guard) bool {
	if want.Agent != uuid.Nil && g.rules[want.Agent] != want.Rules {
		return false
	}
	if want.Credential == uuid.Nil {
		return true
	}
	c, found := g.credentials[want.Credential]
	return found && !c.revoked && (!c.expires.Valid || now.Before(c.expires.Time))
}
