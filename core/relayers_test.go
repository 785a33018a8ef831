package core_test

import (
	"crypto/ecdsa"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/money"
)

// withRelayers puts a core of several relayers in the place of the world's, and returns the others' addresses.
func withRelayers(t *testing.T, w *coretest.World, more int) []common.Address {
	t.Helper()
	var at []common.Address
	for range more {
		key, err := crypto.GenerateKey()
		must(w, err)
		w.Deps.MoreRelayers = append(w.Deps.MoreRelayers, key)
		at = append(at, crypto.PubkeyToAddress(key.PublicKey))
		w.Net.Ether(at[len(at)-1], big.NewInt(1e18))
	}
	w.Core = process(t, w, nil)
	return at
}

// While another process sends with the first relayer, the second carries what it can. Grants of ether wait for the first.
func TestAnotherRelayerCarries(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		second := withRelayers(t, w, 1)[0]
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 3*money.One)
		db := raw(t, w)
		sends := func(who common.Address) (n int) {
			must(w, db.QueryRow(fmt.Sprintf("SELECT count(*) FROM chain_txes WHERE sender = '%s'", who.Hex())).Scan(&n))
			return n
		}
		w.Settle()
		before := sends(w.Relayer)
		exec(t, db, fmt.Sprintf("UPDATE senders SET lease_owner = '%s', lease_until_unix = %d WHERE address = '%s'", uuid.New(), w.Clock.Now().Add(time.Minute).Unix(), w.Relayer.Hex()))
		v, err := w.Core.Sessions.Open(w.Ctx, p, core.OpenSessionInput{AgentID: a.ID, Deposit: money.One})
		if err != nil || v.Status != session.StatusOpen || sends(second) != 1 || sends(w.Relayer) != before {
			t.Fatalf("%+v %v: the first sent %d, the second %d", v, err, sends(w.Relayer)-before, sends(second))
		}
		b, err := w.Core.Agents.Create(w.Ctx, p, core.CreateAgentInput{Name: "other"})
		must(w, err)
		w.Net.Fund(address(b.Address), money.One)
		w.Settle()
		if got := ether(w, b.Address); got.Sign() != 0 {
			t.Errorf("ether was granted by nobody: %s", got)
		}
		w.Pass(2 * time.Minute)
		w.Settle()
		if got := ether(w, b.Address); got.Cmp(w.Deps.GasGrantWei) != 0 {
			t.Errorf("granted %s", got)
		}
		w.Balanced()
	})
}

func ether(w *coretest.World, a string) *big.Int {
	w.T.Helper()
	wei, err := w.Net.Client.EtherOf(w.Ctx, address(a))
	must(w, err)
	return wei
}

// Several processes with several relayers send at once: everything arrives once.
func TestRelayersTogether(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		withRelayers(t, w, 2)
		p, _ := w.User("dev@example.com")
		a := w.Agent(p, "bot", 10*money.One)
		w.Head()
		processes := []*core.Core{w.Core, process(t, w, nil), process(t, w, nil)}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				in := core.OpenSessionInput{AgentID: a.ID, Deposit: money.One / 10}
				if _, err := processes[i%3].Sessions.Open(w.Ctx, p, in); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.Settle()
		w.Jobs()
		if got := w.Net.Balance(w.Platform); got != 3*money.One {
			t.Errorf("the platform has %s", got)
		}
		w.Balanced()
	})
}

func TestRelayersDiffer(t *testing.T) {
	w := coretest.New(t)
	w.Deps.MoreRelayers = []*ecdsa.PrivateKey{w.Deps.RelayerKey}
	if _, err := core.New(w.Ctx, w.Deps); err == nil {
		t.Error("one key twice")
	}
}
