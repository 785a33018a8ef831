package core

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/account"
	"bursar/ent/agent"
	"bursar/money"
)

// Agents are wallets with a policy.
type Agents struct {
	*store
	sessions *Sessions
	funding  *Funding
}

const maxAgentName = 100 // characters

// AgentView is an agent with its policy and its wallet's figures.
type AgentView struct {
	*ent.Agent
	Policy *ent.SpendingPolicy
	Wallet Balance
}

// AutoTopupConsentAt is when the source signed the terms of the automatic top-up that are in force; nil: it did not.
func (v *AgentView) AutoTopupConsentAt() *time.Time {
	if len(v.AutoTopupConsent) == 0 {
		return nil
	}
	at := time.Unix(v.AutoTopupConsentUnix, 0).UTC()
	return &at
}

// CreateAgentInput describes a new agent. SpendingCap nil means none.
type CreateAgentInput struct {
	Name         string
	SpendingCap  *money.USDC
	DepartmentID *uuid.UUID
}

type newAgent struct {
	OrgID, OwnerID uuid.UUID
	Name, Slug     string
	Default        bool
	Cap            *money.USDC
	DepartmentID   *uuid.UUID
}

// Create makes an agent with a key pair of its own. A name that the owner uses already is a conflict.
func (a *Agents) Create(ctx context.Context, p Principal, in CreateAgentInput) (*AgentView, error) {
	if err := p.needWrite(); err != nil {
		return nil, err
	}
	name, slug, err := agentName(in.Name)
	if err != nil {
		return nil, err
	}
	var made *ent.Agent
	err = a.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if err := checkDepartment(ctx, of(p, tx.Client), in.DepartmentID); err != nil {
			return err
		}
		made, err = createAgent(ctx, a.store, tx, newAgent{
			OrgID: p.OrgID, OwnerID: p.UserID, Name: name, Slug: slug, Cap: in.SpendingCap, DepartmentID: in.DepartmentID,
		})
		return err
	})
	if ent.IsConstraintError(err) {
		return nil, E(Conflict, "An agent named %q exists already", name)
	}
	if err != nil {
		return nil, err
	}
	return a.Get(ctx, p, made.ID)
}

func agentName(text string) (name, slug string, err error) {
	name = strings.TrimSpace(text)
	if name == "" || utf8.RuneCountInString(name) > maxAgentName || strings.ContainsFunc(name, isControl) {
		return "", "", E(InvalidRequest, "A name of 1 to %d characters is required", maxAgentName)
	}
	return name, slugOf(name), nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// slugOf is the name in lower case with dashes for blanks: "Research Bot" is "research-bot".
func slugOf(name string) string {
	return strings.Join(strings.Fields(strings.ToLower(name)), "-")
}

func checkDepartment(ctx context.Context, t tenant, id *uuid.UUID) error {
	if id == nil {
		return nil
	}
	if _, err := t.departments().Where(idIs(*id)).Only(ctx); err != nil {
		return missing(err, "Department")
	}
	return nil
}

func createAgent(ctx context.Context, s *store, tx *Tx, n newAgent) (*ent.Agent, error) {
	id := uuid.Must(uuid.NewV7())
	address, sealed, err := s.keys.generate(id)
	if err != nil {
		return nil, err
	}
	made, err := tx.Agent.Create().SetID(id).SetOrgID(n.OrgID).SetOwnerID(n.OwnerID).SetName(n.Name).SetSlug(n.Slug).
		SetAddress(address).SetSealedKey(sealed).SetIsDefault(n.Default).SetNillableDepartmentID(n.DepartmentID).SetCreatedAt(tx.Now).Save(ctx)
	if err != nil {
		return nil, err
	}
	if err := tx.SpendingPolicy.Create().SetAgentID(id).SetNillableSpendingCap(n.Cap).SetAllowedServices([]string{}).
		SetBlockedServices([]string{}).SetCreatedAt(tx.Now).Exec(ctx); err != nil {
		return nil, err
	}
	_, err = ledger.Open(ctx, tx.Client, tx.Now, ledger.Opening{
		Kind: ledger.Wallet, ChainID: s.chainID(), Owner: id, Org: n.OrgID, Agent: id, HoldsUntil: ledger.Always,
	})
	return made, err
}

// List returns the organisation's agents, oldest first, without the default wallets.
func (a *Agents) List(ctx context.Context, p Principal) ([]*AgentView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, a.db.readEnt).visibleAgents().WithPolicy().Order(agent.ByCreatedAt(), agent.ByID()).All(ctx)
	if err != nil {
		return nil, err
	}
	return a.views(ctx, found)
}

// Get returns one agent; default wallets can be read by id as well.
func (a *Agents) Get(ctx context.Context, p Principal, id uuid.UUID) (*AgentView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, a.db.readEnt).agent(id).WithPolicy().Only(ctx)
	if err != nil {
		return nil, missing(err, "Agent wallet")
	}
	views, err := a.views(ctx, []*ent.Agent{found})
	if err != nil {
		return nil, err
	}
	return views[0], nil
}

// Default returns the principal's default wallet, the one behind the Agnic surface.
func (a *Agents) Default(ctx context.Context, p Principal) (*AgentView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := of(p, a.db.readEnt).defaultAgent().WithPolicy().Only(ctx)
	if err != nil {
		return nil, missing(err, "Wallet")
	}
	views, err := a.views(ctx, []*ent.Agent{found})
	if err != nil {
		return nil, err
	}
	return views[0], nil
}

// views adds the wallets' figures, by one query for all.
func (s *store) views(ctx context.Context, agents []*ent.Agent) ([]*AgentView, error) {
	ids := make([]uuid.UUID, len(agents))
	for i, a := range agents {
		ids[i] = a.ID
	}
	accounts, err := s.db.readEnt.Account.Query().
		Where(account.KindEQ(account.KindWallet), account.ChainID(int64(s.chainID())), account.OwnerIDIn(ids...)).All(ctx)
	if err != nil {
		return nil, err
	}
	byOwner := make(map[uuid.UUID]Balance, len(accounts))
	for _, acc := range accounts {
		byOwner[acc.OwnerID] = balanceOf(ledger.StateOf(acc))
	}
	out := make([]*AgentView, len(agents))
	for i, a := range agents {
		out[i] = &AgentView{Agent: a, Policy: a.Edges.Policy, Wallet: byOwner[a.ID]}
	}
	return out, nil
}

// ExportKey opens an agent's private key, 0x-prefixed. It needs a login, and is remembered.
func (a *Agents) ExportKey(ctx context.Context, p Principal, id uuid.UUID) (agentOfKey *ent.Agent, key string, err error) {
	if err := p.needPerson(); err != nil {
		return nil, "", err
	}
	if p.Role != Owner && p.Role != Admin {
		return nil, "", E(Forbidden, "Only owners and admins may export keys")
	}
	err = a.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		found, err := of(p, tx.Client).agent(id).Only(ctx)
		if err != nil {
			return missing(err, "Agent wallet")
		}
		if key, err = a.keys.export(found); err != nil {
			return err
		}
		agentOfKey = found
		return tx.audit(ctx, p, "agent.key.export", id)
	})
	return agentOfKey, key, err
}

// find resolves what X-Agent-Wallet may hold: an id, an exact name, a slug, or nothing when the organisation
// has exactly one active agent.
func (a *Agents) find(ctx context.Context, p Principal, ref string) (*ent.Agent, error) {
	q := of(p, a.db.readEnt).visibleAgents().WithPolicy()
	if ref == "" {
		found, err := q.Where(agent.Active(true)).Limit(2).All(ctx)
		if err != nil {
			return nil, err
		}
		if len(found) != 1 {
			return nil, E(InvalidRequest, "X-Agent-Wallet is required: the account has %s active agents", map[bool]string{true: "no", false: "several"}[len(found) == 0])
		}
		return found[0], nil
	}
	if id, err := uuid.Parse(ref); err == nil {
		q = q.Where(agent.ID(id))
	} else {
		q = q.Where(agent.Or(agent.Name(ref), agent.Slug(slugOf(ref))))
	}
	found, err := q.Limit(2).All(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.Name == ref {
			return f, nil
		}
	}
	switch len(found) {
	case 0:
		return nil, E(NotFound, "Agent wallet not found")
	case 1:
		return found[0], nil
	}
	return nil, E(InvalidRequest, "Several agents are named %q: use the id", ref)
}

// Find resolves an agent by id, name or slug.
func (a *Agents) Find(ctx context.Context, p Principal, ref string) (*AgentView, error) {
	if err := p.need(ScopeBalance); err != nil {
		return nil, err
	}
	found, err := a.find(ctx, p, ref)
	if err != nil {
		return nil, err
	}
	views, err := a.views(ctx, []*ent.Agent{found})
	if err != nil {
		return nil, err
	}
	return views[0], nil
}
