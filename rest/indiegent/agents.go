package indiegent

import (
	"encoding/json"
	"net/http"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/rest"
)

func (a *api) agents(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		views, err := a.app.Agents.List(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return map[string]any{"agents": each(views, agentBody)}, nil
	})
}

// agentInput is the body of POST and PUT /agents.
type agentInput struct {
	Name         json.RawMessage `json:"name"`
	SpendingCap  json.RawMessage `json:"spending_cap"`
	Threshold    json.RawMessage `json:"auto_topup_threshold"`
	Amount       json.RawMessage `json:"auto_topup_amount"`
	Source       json.RawMessage `json:"auto_topup_source"`
	DepartmentID json.RawMessage `json:"department_id"`
}

func (in agentInput) update() (u core.UpdateAgentInput, err error) {
	name, err := rest.Text("name", in.Name)
	if err != nil {
		return u, err
	}
	if name.Set && name.Value == nil {
		return u, core.E(core.InvalidRequest, "name must be a string")
	}
	u.Name = name.Value
	if u.SpendingCap, err = rest.Atomic("spending_cap", in.SpendingCap); err != nil {
		return u, err
	}
	if u.AutoTopupThreshold, err = rest.Atomic("auto_topup_threshold", in.Threshold); err != nil {
		return u, err
	}
	if u.AutoTopupAmount, err = rest.Atomic("auto_topup_amount", in.Amount); err != nil {
		return u, err
	}
	if u.AutoTopupSource, err = rest.Text("auto_topup_source", in.Source); err != nil {
		return u, err
	}
	department, err := rest.Text("department_id", in.DepartmentID)
	if err != nil {
		return u, err
	}
	if u.DepartmentID.Set = department.Set; department.Value != nil {
		id, err := parseID(*department.Value, "Department")
		if err != nil {
			return u, err
		}
		u.DepartmentID.Value = &id
	}
	return u, nil
}

func (a *api) createAgent(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var in agentInput
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		u, err := in.update()
		if err != nil {
			return nil, err
		}
		create := core.CreateAgentInput{SpendingCap: u.SpendingCap.Value, DepartmentID: u.DepartmentID.Value}
		if u.Name != nil {
			create.Name = *u.Name
		}
		v, err := a.app.Agents.Create(r.Context(), caller(r), create)
		if err != nil {
			return nil, err
		}
		return map[string]string{"id": v.ID.String(), "name": v.Name, "wallet_address": v.Address}, nil
	})
}

// withAgent reads the path's id for what f does with it.
func (a *api) withAgent(w http.ResponseWriter, r *http.Request, f func(id uuid.UUID) (any, error)) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		id, err := pathID(r, "Agent")
		if err != nil {
			return nil, err
		}
		return f(id)
	})
}

func (a *api) agent(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		v, err := a.app.Agents.Get(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return wrapped(v), nil
	})
}

func (a *api) updateAgent(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		var in agentInput
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		u, err := in.update()
		if err != nil {
			return nil, err
		}
		v, err := a.app.Agents.Update(r.Context(), caller(r), id, u)
		if err != nil {
			return nil, err
		}
		return wrapped(v), nil
	})
}

func (a *api) deleteAgent(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		d, err := a.app.Agents.Deactivate(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return map[string]any{"deleted": true, "drained": d.Drained, "amount": d.Amount.String(), "tx_hash": d.TxHash}, nil
	})
}

func (a *api) policy(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		p, err := a.app.Policies.Get(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return policyBody(p), nil
	})
}

func (a *api) updatePolicy(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		in, err := policyInput(w, r)
		if err != nil {
			return nil, err
		}
		p, err := a.app.Policies.Update(r.Context(), caller(r), id, in)
		if err != nil {
			return nil, err
		}
		return policyBody(p), nil
	})
}

func policyInput(w http.ResponseWriter, r *http.Request) (in core.PolicyInput, err error) {
	var raw struct {
		Cap     json.RawMessage `json:"spending_cap"`
		Daily   json.RawMessage `json:"daily_limit"`
		Monthly json.RawMessage `json:"monthly_limit"`
		PerCall json.RawMessage `json:"per_call_max"`
		Allowed *[]string       `json:"allowed_services"`
		Blocked *[]string       `json:"blocked_services"`
		Session *bool           `json:"require_session"`
	}
	if err := body(w, r, &raw); err != nil {
		return in, err
	}
	in.AllowedServices, in.BlockedServices, in.RequireSession = raw.Allowed, raw.Blocked, raw.Session
	if in.SpendingCap, err = rest.Atomic("spending_cap", raw.Cap); err != nil {
		return in, err
	}
	if in.DailyLimit, err = rest.Atomic("daily_limit", raw.Daily); err != nil {
		return in, err
	}
	if in.MonthlyLimit, err = rest.Atomic("monthly_limit", raw.Monthly); err != nil {
		return in, err
	}
	in.PerCallMax, err = rest.Atomic("per_call_max", raw.PerCall)
	return in, err
}

func (a *api) agentKey(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		_, key, err := a.app.Agents.ExportKey(r.Context(), caller(r), id)
		return map[string]string{"private_key": key}, err
	})
}

func (a *api) agentEnv(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		v, key, err := a.app.Agents.ExportKey(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return map[string]string{"INDIEGENT_AGENT_KEY": key, "INDIEGENT_AGENT_ADDRESS": v.Address, "INDIEGENT_AGENT": v.Name}, nil
	})
}

func (a *api) fund(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		var in struct {
			TxHash string          `json:"tx_hash"`
			Amount json.RawMessage `json:"amount"`
		}
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		amount, err := rest.AtomicText("amount", in.Amount)
		if err != nil {
			return nil, err
		}
		f, err := a.app.Funding.Fund(r.Context(), caller(r), id, in.TxHash, amount)
		if err != nil {
			return nil, err
		}
		return map[string]any{"funded": f.Funded, "gas_sponsored": f.GasSponsored, "gas_tx_hash": f.GasTxHash}, nil
	})
}

func (a *api) drain(w http.ResponseWriter, r *http.Request) {
	a.withAgent(w, r, func(id uuid.UUID) (any, error) {
		var in struct {
			To string `json:"to_address"`
		}
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		d, err := a.app.Funding.Drain(r.Context(), caller(r), id, in.To)
		if err != nil {
			return nil, err
		}
		return map[string]any{"drained": d.Drained, "amount": d.Amount.String(), "tx_hash": d.TxHash}, nil
	})
}

func (a *api) balance(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		o, err := a.app.Balances.Overview(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return overviewBody(o), nil
	})
}

func (a *api) departments(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		list, err := a.app.Departments.List(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return map[string]any{"departments": each(list, departmentBody)}, nil
	})
}

func (a *api) createDepartment(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var in struct {
			Name   string          `json:"name"`
			Budget json.RawMessage `json:"budget_limit"`
		}
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		budget, err := rest.Atomic("budget_limit", in.Budget)
		if err != nil {
			return nil, err
		}
		d, err := a.app.Departments.Create(r.Context(), caller(r), in.Name, budget.Value)
		if err != nil {
			return nil, err
		}
		return map[string]any{"department": departmentBody(d)}, nil
	})
}
