package core_test

import (
	"crypto/ecdsa"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// purse is a wallet of a person, outside of the server.
type purse struct {
	*coretest.World
	key   *ecdsa.PrivateKey
	at    common.Address
	nonce uint64
}

func newPurse(w *coretest.World, funds money.USDC) *purse {
	w.T.Helper()
	key, err := crypto.GenerateKey()
	must(w, err)
	p := &purse{World: w, key: key, at: crypto.PubkeyToAddress(key.PublicKey)}
	w.Net.Ether(p.at, big.NewInt(1e18))
	if funds > 0 {
		w.Net.Fund(p.at, funds)
	}
	w.Net.Node.Commit() // the pool looks at the state a moment after the receipt is there
	return p
}

func must(w *coretest.World, err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// call mines a call of the token.
func (p *purse) call(data []byte) {
	p.T.Helper()
	fees, err := p.Net.Fees(p.Ctx)
	must(p.World, err)
	n := p.Net.Network()
	raw, hash, err := evm.SignTx(p.key, n.ChainID, p.nonce, fees, evm.Call{To: n.USDC, Data: data, Gas: 200_000})
	must(p.World, err)
	must(p.World, p.Net.Send(p.Ctx, raw))
	r := p.Net.Mined(hash)
	if !r.OK {
		p.T.Fatal("reverted")
	}
	p.nonce++
	for head := (evm.Block{}); head.Number < r.Block; { // a receipt can be there a moment before the head that it is in
		head, err = p.Net.Head(p.Ctx)
		must(p.World, err)
	}
}

func (p *purse) approve(spender common.Address, amount money.USDC) {
	p.T.Helper()
	data := crypto.Keccak256([]byte("approve(address,uint256)"))[:4]
	data = append(data, common.LeftPadBytes(spender[:], 32)...)
	p.call(append(data, amount.Big().FillBytes(make([]byte, 32))...))
}

func (p *purse) sign(digest common.Hash) string {
	p.T.Helper()
	sig, err := evm.Sign(p.key, digest)
	must(p.World, err)
	return fmt.Sprintf("0x%x", sig)
}

// signed draws terms up and signs them.
func (p *purse) signed(owner core.Principal, in core.TopUpTerms, permit *money.USDC) core.ConsentInput {
	p.T.Helper()
	in.Source = strings.ToLower(p.at.Hex())
	d, err := p.Core.TopUps.Draft(p.Ctx, owner, in, permit)
	must(p.World, err)
	out := core.ConsentInput{TopUpTerms: in, IssuedAt: d.IssuedAt, Signature: p.sign(evm.PersonalDigest(d.Text))}
	if permit != nil {
		nonce, err := p.Net.PermitNonce(p.Ctx, p.at)
		must(p.World, err)
		digest := evm.Permit{Owner: p.at, Spender: p.Relayer, Value: *permit, Nonce: nonce, Deadline: d.Permit.Deadline.Unix()}.Digest(p.Net.Network().Domain())
		out.Permit = &core.PermitInput{Value: *permit, Deadline: d.Permit.Deadline, Signature: p.sign(digest)}
	}
	return out
}

func consent(w *coretest.World, p core.Principal, in core.ConsentInput) error {
	_, err := w.Core.TopUps.Consent(w.Ctx, p, in)
	return err
}

func (p *purse) consent(owner core.Principal, in core.TopUpTerms) {
	p.T.Helper()
	must(p.World, consent(p.World, owner, p.signed(owner, in, nil)))
}

// topUps runs the job and everything after it, until nothing of an agent is under way.
func topUps(w *coretest.World, p core.Principal, id uuid.UUID) {
	w.T.Helper()
	must(w, w.Core.TopUps.RunDue(w.Ctx))
	ended(w, p, id)
}

// ended settles until no top-up of an agent is under way. What was sent may take a moment to be mined.
func ended(w *coretest.World, p core.Principal, id uuid.UUID) {
	w.T.Helper()
	for give := time.Now().Add(time.Minute); ; {
		w.Settle()
		open := slices.ContainsFunc(history(w, p, id, transaction.KindAutoTopup), func(t *ent.Transaction) bool { return t.Status == transaction.StatusPending })
		if !open {
			return
		}
		if time.Now().After(give) {
			w.T.Fatalf("still under way: %+v", history(w, p, id, transaction.KindAutoTopup))
		}
	}
}

// permitted settles until the token has taken a source's first permit.
func permitted(w *coretest.World, src *purse) {
	w.T.Helper()
	for nonce := uint64(0); nonce == 0; {
		w.Settle()
		var err error
		nonce, err = w.Net.PermitNonce(w.Ctx, src.at)
		must(w, err)
	}
	w.Settle() // its receipt is there as well
}

func agentOf(w *coretest.World, p core.Principal, id uuid.UUID) *core.AgentView {
	w.T.Helper()
	a, err := w.Core.Agents.Get(w.Ctx, p, id)
	must(w, err)
	return a
}

// history is an agent's records of some kinds, newest first.
func history(w *coretest.World, p core.Principal, id uuid.UUID, kinds ...transaction.Kind) []*ent.Transaction {
	w.T.Helper()
	page, err := w.Core.Transactions.List(w.Ctx, p, core.TransactionFilter{AgentID: &id, Limit: 100})
	must(w, err)
	return slices.DeleteFunc(page.Items, func(t *ent.Transaction) bool { return !slices.Contains(kinds, t.Kind) })
}
