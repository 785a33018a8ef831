package core_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/core"
	"bursar/ent"
	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// policy changes a limit of the agent or of the organisation. One that bounds a day is remembered.
func (m *modelRun) policy(a *ent.Agent) deed {
	limit := core.Optional[money.USDC]{Set: true}
	if !m.one(3) {
		limit = core.Set(money.USDC(m.IntN(40)) * cent)
	}
	in, id := core.PolicyInput{}, ""
	switch m.IntN(4) {
	case 0:
		return deed{fmt.Sprintf("limit the organisation's day: %v", limit.Value), func(ctx context.Context, c *core.Core) error {
			_, err := c.Orgs.UpdateLimits(ctx, m.p, core.OrgLimitsInput{DailyLimit: limit})
			return err
		}}
	case 1:
		in.PerCallMax = limit
	case 2:
		in.SpendingCap = core.Set(money.USDC(m.IntN(400)) * cent)
	default:
		in.DailyLimit, id = limit, a.ID.String()
	}
	return deed{fmt.Sprintf("limit agent %s %q: %v", a.Name, id, limit.Value), func(ctx context.Context, c *core.Core) error {
		_, err := c.Policies.Update(ctx, m.p, a.ID, in)
		return err
	}}
}

// topUp has the owner of a wallet consent to top-ups of an agent.
func (m *modelRun) topUp(a *ent.Agent) deed {
	terms := core.TopUpTerms{AgentID: a.ID, Threshold: money.USDC(m.IntN(1500)) * cent, Amount: money.USDC(10+m.IntN(400)) * cent}
	return deed{fmt.Sprintf("top %s up with %s below %s", a.Name, terms.Amount, terms.Threshold), func(ctx context.Context, c *core.Core) error {
		terms.Source = m.purse.at.Hex()
		d, err := c.TopUps.Draft(ctx, m.p, terms, nil)
		if err != nil {
			return err
		}
		_, err = c.TopUps.Consent(ctx, m.p, core.ConsentInput{TopUpTerms: terms, IssuedAt: d.IssuedAt, Signature: m.purse.sign(digestOf(d.Text))})
		return err
	}}
}

// behindOurBack is an owner who spends with an agent's exported key, held money or not.
func (m *modelRun) behindOurBack() {
	a := m.agent()
	m.note("the owner of %s spends behind our back", a.Name)
	_, text, err := m.w.Core.Agents.ExportKey(m.w.Ctx, m.p, a.ID)
	must(m.w, err)
	key, err := crypto.HexToECDSA(text[2:])
	must(m.w, err)
	auth := evm.Authorization{
		From: common.HexToAddress(a.Address), To: address("0xbac4"), Value: money.USDC(1+m.IntN(100)) * cent,
		ValidBefore: m.w.Clock.Now().Add(time.Hour).Unix(), Nonce: common.Hash(m.bytes()),
	}
	sig, err := evm.Sign(key, auth.Digest(m.w.Net.Network().Domain()))
	must(m.w, err)
	m.carry(pay.Proof{Authorization: auth, Signature: sig})
}

func (m *modelRun) bytes() (b [32]byte) {
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// allowance takes back what the source of the top-ups allows, or gives it again.
func (m *modelRun) allowance() {
	amount := money.USDC(m.IntN(2)) * 500 * money.One
	m.note("the source allows %s", amount)
	m.purse.approve(m.w.Relayer, amount)
}
