package core

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/department"
	"bursar/ent/predicate"
	"bursar/ent/usage"
	"bursar/money"
)

// Departments group agents under one budget.
type Departments struct{ *store }

func idIs(id uuid.UUID) predicate.Department { return department.ID(id) }

// DepartmentView is a department with its agents and what they have spent in this calendar month.
type DepartmentView struct {
	*ent.Department
	AgentCount int
	Spend      money.USDC
}

// Create makes a department. budget is a calendar month's spend of all its agents; nil means none.
func (d *Departments) Create(ctx context.Context, p Principal, name string, budget *money.USDC) (*DepartmentView, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	if p.Role != Owner && p.Role != Admin {
		return nil, E(Forbidden, "Only owners and admins may create departments")
	}
	if name = strings.TrimSpace(name); name == "" || len(name) > 100 {
		return nil, E(InvalidRequest, "A name of 1 to 100 characters is required")
	}
	if budget != nil && (*budget < 0 || *budget > money.Max) {
		return nil, E(InvalidRequest, "The budget must lie between 0 and %s", money.Max)
	}
	var made *ent.Department
	err := d.inTx(ctx, func(ctx context.Context, tx *Tx) (err error) {
		made, err = tx.Department.Create().SetOrgID(p.OrgID).SetName(name).SetNillableBudgetLimit(budget).SetCreatedAt(tx.Now).Save(ctx)
		return err
	})
	if ent.IsConstraintError(err) {
		return nil, E(Conflict, "A department named %q exists already", name)
	}
	if err != nil {
		return nil, err
	}
	return &DepartmentView{Department: made}, nil
}

// List returns the organisation's departments by name.
func (d *Departments) List(ctx context.Context, p Principal) ([]*DepartmentView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, d.db.readEnt).departments().Order(department.ByName()).All(ctx)
	if err != nil {
		return nil, err
	}
	out, byCounter := make([]*DepartmentView, len(found)), map[string]*DepartmentView{}
	counters := make([]string, len(found))
	for i, f := range found {
		out[i] = &DepartmentView{Department: f}
		if out[i].AgentCount, err = of(p, d.db.readEnt).visibleAgents().Where(agent.DepartmentID(f.ID)).Count(ctx); err != nil {
			return nil, err
		}
		counters[i] = policy.DepartmentMonth(f.ID.String(), d.clock())
		byCounter[counters[i]] = out[i]
	}
	usages, err := d.db.readEnt.Usage.Query().Where(usage.IDIn(counters...)).All(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range usages {
		byCounter[u.ID].Spend = u.Spent
	}
	return out, nil
}
