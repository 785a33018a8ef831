package main

import (
	"crypto/ecdsa"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/money"
)

const (
	sourceFunds    = 100 * money.One    // of a wallet that tops one agent up, and what it allows: a second pull would succeed
	purseFunds     = 10_000 * money.One // of one that tops many up: more than the longest run pulls
	pullAmount     = money.One
	pullBelow      = money.One / 2 // what is free
	allowingPurses = 2             // wallets that have given their allowance by themselves, each for many agents
	consentsALife  = 6             // agents that callers add while the program runs once; they are due from its next start on
	dueAtStart     = 4             // agents to be topped up that a life begins with if it is to end in a top-up
)

// openSources makes the sources that allow the program's relayer what they have, and so need no permit.
func (k *killRun) openSources() {
	k.t.Helper()
	for range allowingPurses {
		key := newKey(k.t)
		k.note(key)
		draft := k.draft(k.agent, key, 0)
		if draft == nil {
			k.t.Fatal("the program draws no consent up")
		}
		spender := common.HexToAddress(text(draft, "spender"))
		approve := append(crypto.Keccak256([]byte("approve(address,uint256)"))[:4], evm.TransferData(spender, purseFunds)[4:]...)
		k.no(k.give(address(key).Hex(), purseFunds))
		k.no(k.send(k.bank, evm.Call{To: address(key), ValueWei: etherWei(1), Gas: 21_000}))
		k.no(k.send(key, evm.Call{To: k.chain.Network().USDC, Data: approve, Gas: 100_000}))
		k.allowing = append(k.allowing, key)
	}
}

// note remembers a source, before any money is sent to it.
func (k *killRun) note(key *ecdsa.PrivateKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sources = append(k.sources, address(key))
}

// topUp makes an agent without money whose owner's wallet tops it up, by an allowance or by a permit. The program looks
// at its start and every half minute for agents to be topped up.
func (k *killRun) topUp() {
	if k.consents.Load() >= consentsALife {
		time.Sleep(100 * time.Millisecond)
		return
	}
	if rand.IntN(2) == 0 {
		k.consent(k.allowing[rand.IntN(len(k.allowing))], 0)
		return
	}
	k.consentByPermit()
}

func (k *killRun) consentByPermit() {
	key := newKey(k.t)
	k.note(key)
	if k.give(address(key).Hex(), sourceFunds) == nil {
		k.consent(key, sourceFunds)
	}
}

// consent makes an agent and hands in what its source has signed, with a permit unless that is 0.
func (k *killRun) consent(key *ecdsa.PrivateKey, permit money.USDC) {
	_, made, _ := k.p.call("POST", "/agents", map[string]any{"name": fmt.Sprintf("Topped up %d", k.calls.Add(1))})
	id := text(made, "id")
	draft := k.draft(id, key, permit)
	if draft == nil {
		return
	}
	in := terms(id, key)
	in["issuedAt"] = text(draft, "issuedAt")
	in["signature"] = k.signed(key, evm.PersonalDigest(text(draft, "text")))
	if permit > 0 {
		deadline, err := time.Parse(time.RFC3339, text(draft, "permit", "deadline"))
		if err != nil {
			k.t.Errorf("draft %v: %v", draft, err)
			return
		}
		digest := evm.Permit{
			Owner: address(key), Spender: common.HexToAddress(text(draft, "spender")), Value: permit, Deadline: deadline.Unix(),
		}.Digest(k.chain.Network().Domain())
		in["permit"] = map[string]any{"value": permit.String(), "deadline": text(draft, "permit", "deadline"), "signature": k.signed(key, digest)}
	}
	const query = `mutation($in: AuthorizeTopUpInput!) { authorizeTopUp(input: $in) { autoTopupConsentAt } }`
	_, out, _ := k.p.call("POST", "/graphql", map[string]any{"query": query, "variables": map[string]any{"in": in}})
	if at(out, "data", "authorizeTopUp", "autoTopupConsentAt") != nil {
		k.consents.Add(1)
		k.told("consent " + id)
	}
}

func terms(agent string, key *ecdsa.PrivateKey) map[string]any {
	return map[string]any{"agentId": agent, "source": address(key).Hex(), "threshold": pullBelow.String(), "amount": pullAmount.String()}
}

// draft is what the source is to sign, or nil.
func (k *killRun) draft(agent string, key *ecdsa.PrivateKey, permit money.USDC) map[string]any {
	in := terms(agent, key)
	if permit > 0 {
		in["permitValue"] = permit.String()
	}
	const query = `query($in: TopUpTerms!) { topUpDraft(input: $in) { spender issuedAt text permit { deadline } } }`
	_, out, _ := k.p.call("POST", "/graphql", map[string]any{"query": query, "variables": map[string]any{"in": in}})
	draft, _ := at(out, "data", "topUpDraft").(map[string]any)
	return draft
}

func (k *killRun) signed(key *ecdsa.PrivateKey, digest common.Hash) string {
	sig, err := evm.Sign(key, digest)
	if err != nil {
		k.t.Error(err)
	}
	return fmt.Sprintf("0x%x", sig)
}

// makeDue runs the program once more before a life that is to end in a top-up: the agents that it makes are topped up
// from the next start on, some by a permit that is under way when the program dies.
func (k *killRun) makeDue() {
	k.t.Helper()
	k.launch(death{})
	if !k.p.listening() {
		k.t.Fatalf("the program ended:\n%s", k.p.out)
	}
	var callers sync.WaitGroup
	for n := range dueAtStart {
		callers.Go(func() {
			if n == 0 {
				k.consentByPermit()
				return
			}
			k.consent(k.allowing[n%len(k.allowing)], 0)
		})
	}
	callers.Wait()
	k.p.kill()
}
