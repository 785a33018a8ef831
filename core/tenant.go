package core

import (
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/apikey"
	"bursar/ent/approval"
	"bursar/ent/department"
	"bursar/ent/org"
	"bursar/ent/service"
	"bursar/ent/session"
	"bursar/ent/trace"
	"bursar/ent/transaction"
)

// tenant is the one place where queries are bound to their organisation: every read or change on behalf of a
// principal starts here. What belongs to others is not found.
type tenant struct {
	p Principal
	c *ent.Client
}

func of(p Principal, c *ent.Client) tenant { return tenant{p, c} }

// owns says the same of a row that was read together with those of others: see readers.
func (p Principal) owns(org uuid.UUID) bool { return p.OrgID == org }

func (t tenant) agents() *ent.AgentQuery {
	return t.c.Agent.Query().Where(agent.OrgID(t.p.OrgID))
}

func (t tenant) org() *ent.OrgQuery { return t.c.Org.Query().Where(org.ID(t.p.OrgID)) }

// visibleAgents leaves out the default wallets, which belong to the other surface.
func (t tenant) visibleAgents() *ent.AgentQuery { return t.agents().Where(agent.IsDefault(false)) }

func (t tenant) agent(id uuid.UUID) *ent.AgentQuery { return t.agents().Where(agent.ID(id)) }

func (t tenant) defaultAgent() *ent.AgentQuery {
	return t.agents().Where(agent.IsDefault(true), agent.OwnerID(t.p.UserID))
}

func (t tenant) sessions() *ent.SessionQuery {
	return t.c.Session.Query().Where(session.OrgID(t.p.OrgID))
}

func (t tenant) transactions() *ent.TransactionQuery {
	return t.c.Transaction.Query().Where(transaction.OrgID(t.p.OrgID))
}

func (t tenant) traces() *ent.TraceQuery {
	return t.c.Trace.Query().Where(trace.OrgID(t.p.OrgID))
}

func (t tenant) approvals() *ent.ApprovalQuery {
	return t.c.Approval.Query().Where(approval.OrgID(t.p.OrgID))
}

func (t tenant) departments() *ent.DepartmentQuery {
	return t.c.Department.Query().Where(department.OrgID(t.p.OrgID))
}

// services are those that the caller may know of: all that can be called, and the organisation's own.
func (t tenant) services() *ent.ServiceQuery {
	return t.c.Service.Query().Where(service.Or(service.Active(true), service.OrgID(t.p.OrgID)))
}

func (t tenant) ownServices() *ent.ServiceQuery {
	return t.c.Service.Query().Where(service.OrgID(t.p.OrgID))
}

// keys are the user's own: a colleague's credentials are not the organisation's.
func (t tenant) keys() *ent.APIKeyQuery {
	return t.c.APIKey.Query().Where(apikey.OrgID(t.p.OrgID), apikey.UserID(t.p.UserID))
}
