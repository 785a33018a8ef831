package core

import (
	"context"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/money"
)

// Optional is a field of a partial update: absent, null or a value.
type Optional[T any] struct {
	Set   bool
	Value *T
}

// Set makes an Optional that holds v.
func Set[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: &v} }

// UpdateAgentInput is a partial update; null clears what may be empty.
type UpdateAgentInput struct {
	Name               *string
	SpendingCap        Optional[money.USDC]
	DepartmentID       Optional[uuid.UUID]
	AutoTopupThreshold Optional[money.USDC]
	AutoTopupAmount    Optional[money.USDC]
	AutoTopupSource    Optional[string]
}

// Update changes an agent's settings.
func (a *Agents) Update(ctx context.Context, p Principal, id uuid.UUID, in UpdateAgentInput) (*AgentView, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	err := a.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		t := of(p, tx.Client)
		was, err := t.agent(id).Only(ctx)
		if err != nil {
			return missing(err, "Agent wallet")
		}
		u := tx.Agent.UpdateOneID(id)
		if err := applyAgentInput(ctx, t, u, in); err != nil {
			return err
		}
		withdraw(u, was, in)
		if err := u.Exec(ctx); err != nil {
			return err
		}
		return setPolicy(ctx, tx, id, PolicyInput{SpendingCap: in.SpendingCap})
	})
	if ent.IsConstraintError(err) {
		return nil, E(Conflict, "An agent of that name exists already")
	}
	if err != nil {
		return nil, err
	}
	return a.Get(ctx, p, id)
}

func applyAgentInput(ctx context.Context, t tenant, u *ent.AgentUpdateOne, in UpdateAgentInput) error {
	if in.Name != nil {
		name, slug, err := agentName(*in.Name)
		if err != nil {
			return err
		}
		u.SetName(name).SetSlug(slug)
	}
	if in.DepartmentID.Set {
		if err := checkDepartment(ctx, t, in.DepartmentID.Value); err != nil {
			return err
		}
		set(in.DepartmentID, func(v uuid.UUID) { u.SetDepartmentID(v) }, func() { u.ClearDepartmentID() })
	}
	if in.AutoTopupSource.Set && in.AutoTopupSource.Value != nil {
		source, err := parseAddress(*in.AutoTopupSource.Value)
		if err != nil {
			return err
		}
		*in.AutoTopupSource.Value = source.Hex()
	}
	set(in.AutoTopupSource, func(v string) { u.SetAutoTopupSource(v) }, func() { u.ClearAutoTopupSource() })
	set(in.AutoTopupThreshold, func(v money.USDC) { u.SetAutoTopupThreshold(v) }, func() { u.ClearAutoTopupThreshold() })
	set(in.AutoTopupAmount, func(v money.USDC) { u.SetAutoTopupAmount(v) }, func() { u.ClearAutoTopupAmount() })
	return nil
}

// set applies one optional field.
func set[T any](o Optional[T], write func(T), clear func()) {
	switch {
	case !o.Set:
	case o.Value == nil:
		clear()
	default:
		write(*o.Value)
	}
}
