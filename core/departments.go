package core

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/department"
	"bursar/ent/predicate"
	"bursar/money"
)

// Departments group agents under one budget.
type Departments struct{ *store }

func idIs(id uuid.UUID) predicate.Department { return department.ID(id) }

// Create makes a department. budget is a calendar month's spend of all its agents; nil means none.
func (d *Departments) Create(ctx context.Context, p Principal, name string, budget *money.USDC) (*ent.Department, error) {
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
	return made, err
}

// List returns the organisation's departments by name.
func (d *Departments) List(ctx context.Context, p Principal) ([]*ent.Department, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	return of(p, d.db.readEnt).departments().Order(department.ByName()).All(ctx)
}
