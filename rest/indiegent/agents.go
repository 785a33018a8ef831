package indiegent

import (
	"encoding/json"
	"net/http"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/rest"
)

// ListAgents is GET /agents.
func (a *api) ListAgents(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		views, err := a.app.Agents.List(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return AgentList{Agents: each(views, agentBody)}, nil
	})
}

func agentUpdate(in AgentUpdate) (u core.UpdateAgentInput, err error) {
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
	if u.AutoTopupThreshold, err = rest.Atomic("auto_topup_threshold", in.AutoTopupThreshold); err != nil {
		return u, err
	}
	if u.AutoTopupAmount, err = rest.Atomic("auto_topup_amount", in.AutoTopupAmount); err != nil {
		return u, err
	}
	if u.AutoTopupSource, err = rest.Text("auto_topup_source", in.AutoTopupSource); err != nil {
		return u, err
	}
	u.DepartmentID, err = departmentID(in.DepartmentId)
	return u, err
}

func departmentID(raw json.RawMessage) (o core.Optional[uuid.UUID], err error) {
	text, err := rest.Text("department_id", raw)
	if o.Set = text.Set; err != nil || text.Value == nil {
		return o, err
	}
	id, err := parseID(*text.Value, "Department")
	o.Value = &id
	return o, err
}

// CreateAgent is POST /agents.
func (a *api) CreateAgent(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var in AgentCreate
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		spendingCap, err := rest.Atomic("spending_cap", in.SpendingCap)
		if err != nil {
			return nil, err
		}
		department, err := departmentID(in.DepartmentId)
		if err != nil {
			return nil, err
		}
		create := core.CreateAgentInput{Name: in.Name, SpendingCap: spendingCap.Value, DepartmentID: department.Value}
		v, err := a.app.Agents.Create(r.Context(), caller(r), create)
		if err != nil {
			return nil, err
		}
		return AgentCreated{Id: v.ID, Name: v.Name, WalletAddress: v.Address}, nil
	})
}

// withAgent reads the path's id for what f does with it.
func (a *api) withAgent(w http.ResponseWriter, r *http.Request, path AgentID, f func(id uuid.UUID) (any, error)) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		id, err := parseID(path, "Agent wallet")
		if err != nil {
			return nil, err
		}
		return f(id)
	})
}

// GetAgent is GET /agents/{id}.
func (a *api) GetAgent(w http.ResponseWriter, r *http.Request, path AgentID) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		v, err := a.app.Agents.Get(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return agentAnswer(v), nil
	})
}

// UpdateAgent is PUT /agents/{id}.
func (a *api) UpdateAgent(w http.ResponseWriter, r *http.Request, path AgentID) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		var in AgentUpdate
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		u, err := agentUpdate(in)
		if err != nil {
			return nil, err
		}
		v, err := a.app.Agents.Update(r.Context(), caller(r), id, u)
		if err != nil {
			return nil, err
		}
		return agentAnswer(v), nil
	})
}

// DeleteAgent is DELETE /agents/{id}.
func (a *api) DeleteAgent(w http.ResponseWriter, r *http.Request, path AgentID, params DeleteAgentParams) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		d, err := a.app.Agents.Deactivate(r.Context(), caller(r), id, params.IdempotencyKey)
		if err != nil {
			return nil, err
		}
		return AgentDeleted{Deleted: true, Drained: d.Drained, Amount: d.Amount.String(), TxHash: d.TxHash}, nil
	})
}

// GetPolicy is GET /agents/{id}/policy.
func (a *api) GetPolicy(w http.ResponseWriter, r *http.Request, path AgentID) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		p, err := a.app.Policies.Get(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		return policyBody(p), nil
	})
}

// UpdatePolicy is PUT /agents/{id}/policy.
func (a *api) UpdatePolicy(w http.ResponseWriter, r *http.Request, path AgentID) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
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
	var raw PolicyUpdate
	if err := body(w, r, &raw); err != nil {
		return in, err
	}
	in.AllowedServices, in.BlockedServices, in.RequireSession = raw.AllowedServices, raw.BlockedServices, raw.RequireSession
	if in.SpendingCap, err = rest.Atomic("spending_cap", raw.SpendingCap); err != nil {
		return in, err
	}
	if in.DailyLimit, err = rest.Atomic("daily_limit", raw.DailyLimit); err != nil {
		return in, err
	}
	if in.MonthlyLimit, err = rest.Atomic("monthly_limit", raw.MonthlyLimit); err != nil {
		return in, err
	}
	in.PerCallMax, err = rest.Atomic("per_call_max", raw.PerCallMax)
	return in, err
}

// ExportKey is POST /agents/{id}/key.
func (a *api) ExportKey(w http.ResponseWriter, r *http.Request, path AgentID) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		_, key, err := a.app.Agents.ExportKey(r.Context(), caller(r), id)
		return KeyExport{PrivateKey: key}, err
	})
}

// GetEnv is GET /agents/{id}/env.
func (a *api) GetEnv(w http.ResponseWriter, r *http.Request, path AgentID, params GetEnvParams) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		v, key, err := a.app.Agents.ExportKey(r.Context(), caller(r), id)
		if err != nil {
			return nil, err
		}
		env := Env{AgentKey: key, AgentAddress: v.Address, Agent: v.Name}
		if params.Include != nil && *params.Include == "api_key" { // making a key is a side effect, so only who asks gets one
			issued, err := a.app.APIKeys.Create(r.Context(), caller(r), "env "+v.ID.String())
			if err != nil {
				return nil, err
			}
			env.APIKey = issued.Secret
		}
		return env, nil
	})
}

// FundAgent is POST /agents/{id}/fund.
func (a *api) FundAgent(w http.ResponseWriter, r *http.Request, path AgentID, params FundAgentParams) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		var in FundRequest
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		amount, err := rest.AtomicText("amount", in.Amount)
		if err != nil {
			return nil, err
		}
		f, err := a.app.Funding.Fund(r.Context(), caller(r), id, in.TxHash, amount, params.IdempotencyKey)
		if err != nil {
			return nil, err
		}
		return Funded{Funded: f.Funded, GasSponsored: f.GasSponsored, GasTxHash: f.GasTxHash}, nil
	})
}

// DrainAgent is POST /agents/{id}/drain.
func (a *api) DrainAgent(w http.ResponseWriter, r *http.Request, path AgentID, params DrainAgentParams) {
	a.withAgent(w, r, path, func(id uuid.UUID) (any, error) {
		var in DrainRequest
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		d, err := a.app.Funding.Drain(r.Context(), caller(r), id, in.ToAddress, params.IdempotencyKey)
		if err != nil {
			return nil, err
		}
		return Drained{Drained: d.Drained, Amount: d.Amount.String(), TxHash: d.TxHash}, nil
	})
}

// GetBalance is GET /balance.
func (a *api) GetBalance(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		o, err := a.app.Balances.Overview(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return balanceBody(o), nil
	})
}

// ListDepartments is GET /departments.
func (a *api) ListDepartments(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		list, err := a.app.Departments.List(r.Context(), caller(r))
		if err != nil {
			return nil, err
		}
		return DepartmentList{Departments: each(list, departmentBody)}, nil
	})
}

// CreateDepartment is POST /departments.
func (a *api) CreateDepartment(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var in DepartmentRequest
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		budget, err := rest.Atomic("budget_limit", in.BudgetLimit)
		if err != nil {
			return nil, err
		}
		d, err := a.app.Departments.Create(r.Context(), caller(r), in.Name, budget.Value)
		if err != nil {
			return nil, err
		}
		return DepartmentAnswer{Department: departmentBody(d)}, nil
	})
}
