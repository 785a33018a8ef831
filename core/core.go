// Package core is the domain: every rule, every transaction, every event. Doors (REST, GraphQL, jobs) call it
// and hold no rule of their own.
package core

import (
	"context"
	"crypto/ecdsa"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Clock tells the time. time.Now is named in server.go only, so that tests own it.
type Clock func() time.Time

// Deps is everything that core takes from outside.
type Deps struct {
	DB        *DB
	Chain     Chain
	Clock     Clock
	Log       *slog.Logger
	Protocols []pay.Protocol   // in order of preference
	Upstream  *http.Client     // reaches paid services; see NewUpstream
	Private   []netip.AddrPort // that Upstream dials although they are private, so that businesses may be there

	MasterKey      []byte              // 32 bytes; seals the keyset that seals the wallets' keys
	JWTSecret      []byte              // at least 32 bytes; signs logins
	PlatformKey    *ecdsa.PrivateKey   // holds the deposits of all sessions and pays for session calls
	RelayerKey     *ecdsa.PrivateKey   // carries authorizations, grants gas and pulls top-ups; holds ether only
	MoreRelayers   []*ecdsa.PrivateKey // carry authorizations beside it
	GasGrantWei    *big.Int            // ether given to a wallet at its first funding; nil or zero: none
	PayAhead       bool                // a service that has asked the same for a while is paid with the first request
	Permit2Reserve money.USDC          // by which a wallet's allowance for Permit2 is above what it has promised; zero: nothing is paid by Permit2
	PayoutLeast    money.USDC          // of what a business is owed, that is sent at once; zero: anything
	PayoutWait     time.Duration       // after which less than that is sent
	MaxPayment     money.USDC          // no single call may cost more, whatever its policy says
	Streams        StreamLimits        // of answers that are handed on as they come
	CallsAtOnce    int                 // of one credential, with the streams of their answers; zero: there is no bound

	PasswordCost *argon2id.Params // of hashing a password; nil: what RFC 9106 recommends

	// Step hears the name of each place between two commits at which a crash leaves work to be finished (see Steps).
	// nil: nobody listens. Tests kill the program there.
	Step func(name string)
}

// Core is the domain's services, in reading order.
type Core struct {
	Auth         *Auth         // credentials → Principal
	APIKeys      *APIKeys      // programs' credentials
	Agents       *Agents       // wallets with a policy
	Policies     *Policies     // what an agent may spend
	Departments  *Departments  // groups of agents with a budget
	Orgs         *Orgs         // tenants with limits
	Payments     *Payments     // Fetch: the main job
	Services     *Services     // the catalogue of what bills by use
	Gateway      *Gateway      // businesses that are paid through the catalogue
	Approvals    *Approvals    // a person's yes
	Sessions     *Sessions     // prepaid balances
	Operations   *Operations   // on-chain sends
	Funding      *Funding      // money in and out, and the watcher
	TopUps       *TopUps       // money from an owner's own wallet, by itself
	Transactions *Transactions // history
	Traces       *Traces       // why calls were allowed or refused
	Balances     *Balances     // figures, live
	Books        *Books        // the audit
	Idempotency  *Idempotency  // callers' own names for requests
}

// New builds the services and starts the ledger's batch, which ends with ctx.
func New(ctx context.Context, d Deps) (*Core, error) {
	s, err := newStore(ctx, d)
	if err != nil {
		return nil, err
	}
	c := &Core{}
	c.Auth = &Auth{s}
	c.APIKeys = &APIKeys{s}
	c.Balances = &Balances{s}
	c.Departments = &Departments{s}
	c.Operations = &Operations{store: s, carrying: newTogether()}
	c.Funding = &Funding{store: s, operations: c.Operations, reading: newTogether()}
	c.Orgs = &Orgs{s}
	c.Sessions = &Sessions{store: s, operations: c.Operations, funding: c.Funding}
	c.Agents = &Agents{store: s, sessions: c.Sessions, funding: c.Funding}
	c.TopUps = &TopUps{store: s, operations: c.Operations, agents: c.Agents}
	c.Policies = &Policies{s, make(chan struct{}, maxReplays)}
	c.Approvals = &Approvals{store: s}
	c.Payments = &Payments{store: s, calls: Quota{Max: d.CallsAtOnce}, sessions: c.Sessions, operations: c.Operations, approvals: c.Approvals}
	c.Services = &Services{s}
	c.Gateway = &Gateway{store: s, services: c.Services, operations: c.Operations, least: d.PayoutLeast, wait: d.PayoutWait}
	c.Transactions = &Transactions{s}
	c.Traces = &Traces{s}
	c.Books = newBooks(s)
	c.Idempotency = &Idempotency{s}
	return c, nil
}

// store is what the services share.
type store struct {
	db           *DB
	chain        Chain
	clock        Clock
	log          *slog.Logger
	protocols    []pay.Protocol
	upstream     *http.Client
	guard        *guard // as Upstream has one
	keys         *keyring
	jwtSecret    []byte
	batch        *ledger.Batch
	bus          *Bus
	platform     ledger.Platform
	gasGrant     *big.Int
	maxPay       money.USDC
	streams      StreamLimits
	payAhead     bool
	passwordCost *argon2id.Params
	reserve2     money.USDC // Deps.Permit2Reserve
	step         func(name string)
	readers      *readers
	touched      sync.Map                        // when this process noted the use of a key last, by its id
	process      uuid.UUID                       // of this run of the program, for leases
	defaults     recent[[2]uuid.UUID, uuid.UUID] // default wallets, by organisation and user; they never change
	paidFor      recent[caller, uuid.UUID]       // the agent that a caller has paid for
	outcomes     outcomes
	catalogue    catalogue
}

// Ready reports whether the database and the chain answer.
func (c *Core) Ready(ctx context.Context) error {
	if err := c.Auth.db.Ping(ctx); err != nil {
		return err
	}
	_, err := c.Auth.chain.Head(ctx)
	return err
}

// Network names the chain that this server works on.
func (c *Core) Network() evm.Network { return c.Auth.chain.Network() }
