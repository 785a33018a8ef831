package ledger

import (
	"database/sql"
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

// guards is what the units' guards name, read without a lock: a change counts for the holds that are judged after its
// commit.
type guards struct {
	rules       map[uuid.UUID]Rules
	credentials map[uuid.UUID]credential
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
