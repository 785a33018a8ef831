// Package newcomer prepares what somebody meets at the first start: a user with a funded agent and credentials,
// and the commands to try. It uses core as any door does.
package newcomer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ethereum/go-ethereum/common"

	"bursar/config"
	"bursar/core"
	"bursar/money"
)

// What the demo user gets.
const (
	email     = "demo@bursar.local"
	agentName = "Research Bot"
	funds     = 25 * money.One
)

// Faucet makes money on the development chain.
type Faucet interface {
	Mint(ctx context.Context, to common.Address, amount money.USDC) (common.Hash, error)
}

// Newcomer is the demo user's credentials, kept in a file of mode 0600 because the server keeps only hashes.
type Newcomer struct {
	Email      string `json:"email"`
	Password   string `json:"password"`
	APIKey     string `json:"api_key,omitempty"`
	AgnicToken string `json:"agnic_token,omitempty"`

	Agent         string `json:"-"` // slug
	AgentID       string `json:"-"`
	AgentAddress  string `json:"-"`
	WalletID      string `json:"-"` // the default wallet behind the Agnic surface
	WalletAddress string `json:"-"`
}

// Ensure makes the demo user and everything that belongs to it, or finds it as it was. Each step may have been
// done by an earlier start that was killed; the file is written before the step that needs it.
func Ensure(ctx context.Context, app *core.Core, faucet Faucet, file, secret string) (*Newcomer, error) {
	n, err := load(file, secret)
	if err != nil {
		return nil, err
	}
	p, err := n.signIn(ctx, app)
	if err != nil {
		return nil, fmt.Errorf("newcomer: sign in: %w", err)
	}
	if err := n.agent(ctx, app, p, faucet); err != nil {
		return nil, fmt.Errorf("newcomer: agent: %w", err)
	}
	if err := n.credentials(ctx, app, p, file); err != nil {
		return nil, fmt.Errorf("newcomer: credentials: %w", err)
	}
	return n, nil
}

func load(file, secret string) (*Newcomer, error) {
	n := &Newcomer{Email: email, Password: secret}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return n, n.save(file)
	}
	if err != nil {
		return nil, fmt.Errorf("newcomer: %w", err)
	}
	if err := json.Unmarshal(text, n); err != nil {
		return nil, fmt.Errorf("newcomer: %s is damaged: %w", file, err)
	}
	return n, nil
}

func (n *Newcomer) save(file string) error {
	text, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("newcomer: %w", err)
	}
	return config.WriteSecret(file, string(text))
}

func (n *Newcomer) signIn(ctx context.Context, app *core.Core) (core.Principal, error) {
	in := core.PasswordInput{Email: n.Email, Password: n.Password}
	login, err := app.Auth.Login(ctx, in)
	if err != nil && core.AsError(err).Code == core.Unauthorized {
		login, err = app.Auth.Register(ctx, in)
	}
	if err != nil {
		return core.Principal{}, err
	}
	p, _, err := app.Auth.Authenticate(ctx, core.Credentials{Bearer: login.Token})
	return p, err
}

func (n *Newcomer) agent(ctx context.Context, app *core.Core, p core.Principal, faucet Faucet) error {
	a, err := app.Agents.Find(ctx, p, agentName)
	if err != nil && core.AsError(err).Code == core.NotFound {
		a, err = app.Agents.Create(ctx, p, core.CreateAgentInput{Name: agentName})
	}
	if err != nil {
		return err
	}
	wallet, err := app.Agents.Default(ctx, p)
	if err != nil {
		return err
	}
	n.Agent, n.AgentID, n.AgentAddress = a.Slug, a.ID.String(), a.Address
	n.WalletID, n.WalletAddress = wallet.ID.String(), wallet.Address
	for _, w := range []*core.AgentView{a, wallet} {
		if w.Wallet.Version > 0 {
			continue // has had money before
		}
		if _, err := faucet.Mint(ctx, common.HexToAddress(w.Address), funds); err != nil {
			return err
		}
	}
	return app.Funding.ReadChain(ctx)
}

func (n *Newcomer) credentials(ctx context.Context, app *core.Core, p core.Principal, file string) error {
	if n.APIKey == "" {
		k, err := app.APIKeys.Create(ctx, p, "Demo key")
		if err != nil {
			return err
		}
		n.APIKey = k.Secret
		if err := n.save(file); err != nil {
			return err
		}
	}
	if n.AgnicToken == "" {
		k, err := app.APIKeys.CreateToken(ctx, p, core.TokenInput{Label: "Demo token"})
		if err != nil {
			return err
		}
		n.AgnicToken = k.Secret
		return n.save(file)
	}
	return nil
}
