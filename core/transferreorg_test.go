package core_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
)

// eachPayer runs a test of transfers at a depth: from a wallet and from a session.
func eachPayer(t *testing.T, f func(t *testing.T, s *sender, in core.FetchInput)) {
	for _, from := range []string{"wallet", "session"} {
		t.Run(from, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				s := newSender(w)
				w.Settle()
				in := core.FetchInput{}
				if from == "session" {
					in.SessionID = s.session
				}
				f(t, s, in)
			})
		})
	}
}

// lose takes the blocks above a number back, and gives the nonces that the relayer used in them to others, for good.
func (s *sender) lose(above uint64) {
	s.Replace(above, s.Deps.RelayerKey)
	s.Mine(12) // after which a nonce that was used by another is
}

// served fails unless a call was, by a transfer that is on the chain under the hash that it is told.
func (s *sender) served(r *core.FetchResult, err error) *ent.Transaction {
	s.T.Helper()
	if err != nil || r.Status != http.StatusOK || r.Payment == nil {
		s.T.Fatalf("%+v %v", r, err)
	}
	s.onChain(r.Payment)
	return r.Payment
}

func (s *sender) onChain(t *ent.Transaction) {
	s.T.Helper()
	if t.TxHash == nil {
		s.T.Fatalf("%s names no chain transaction", t)
	}
	if got, err := s.Net.Receipt(s.Ctx, common.HexToHash(*t.TxHash)); err != nil || !got.OK {
		s.T.Errorf("%s names the transaction %s: %v", t.ID, *t.TxHash, err)
	}
}

func (s *sender) read(id uuid.UUID) *ent.Transaction {
	s.T.Helper()
	t, err := s.Core.Transactions.Get(s.Ctx, s.p, id)
	must(s.World, err)
	return t
}

// TestReorgOfTransfers: what was sent ahead is taken back with its block, and comes again once.
func TestReorgOfTransfers(t *testing.T) {
	eachDepth(t, func(t *testing.T, w *coretest.World, blocks int) {
		s := newSender(w)
		w.Net.Fund(w.Platform, money.One) // else a transfer that is mined again before the deposit fails
		w.Mine(2 * depth)
		var paid []*ent.Transaction
		for _, from := range []string{"", s.session} {
			paid = append(paid, s.served(s.call(core.FetchInput{SessionID: from})))
		}
		w.Settle()
		for range 2 {
			w.Reorg(blocks)
			w.Settle()
			w.Balanced()
		}
		w.Mine(depth + 1)
		s.earned(2)
		for _, p := range paid {
			got := s.read(p.ID)
			if s.onChain(got); got.Status != transaction.StatusSuccess || got.Amount != cent || got.UpstreamStatus != http.StatusOK {
				t.Errorf("%s", got)
			}
		}
		if a := agentOf(w, s.p, s.agent.ID); a.Wallet.Pending != 0 || a.Wallet.Posted != 2*money.One-cent {
			t.Errorf("%+v", a.Wallet)
		}
		w.Close(s.p, uuid.MustParse(s.session))
		w.Settle()
		w.Reorg(blocks)
		w.Settle()
		w.Balanced()
		w.Mine(depth + 1)
		s.earned(2)
		s.closed(cent)
	})
}

// closed fails unless the session has closed, and all but what it has used is back in the wallet.
func (s *sender) closed(used money.USDC) {
	s.T.Helper()
	v, err := s.Core.Sessions.Get(s.Ctx, s.p, uuid.MustParse(s.session))
	if err != nil || v.Status != session.StatusClosed || v.Refunded != money.One-used || v.Used != used {
		s.T.Errorf("%+v %v", v, err)
	}
}

// A session has closed when the transfer that it had paid is lost for good, its refund with it: all that it had goes back.
func TestALostTransferOfAClosedSession(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		w.Settle()
		before := w.Height()
		id := s.served(s.call(core.FetchInput{SessionID: s.session})).ID
		w.Settle()
		w.Close(s.p, uuid.MustParse(s.session))
		w.Settle()
		s.closed(cent)
		w.Replace(before, w.Deps.RelayerKey)
		s.later(11 * time.Minute)
		w.Mine(depth + 1)
		for range 3 {
			w.Settle()
			w.Jobs()
		}
		s.earned(0)
		s.closed(0)
		if got := s.read(id); got.Status != transaction.StatusFailed {
			t.Errorf("%s", got)
		}
		if a := agentOf(w, s.p, s.agent.ID); a.Wallet.Pending != 0 || a.Wallet.Posted != 3*money.One {
			t.Errorf("%+v", a.Wallet)
		}
	})
}

// A block disappears between the look at the chain and the service's: the same call shows the hash that is on the chain then.
func TestATransferIsUnminedBeforeItIsShown(t *testing.T) {
	eachPayer(t, func(t *testing.T, s *sender, in core.FetchInput) {
		before, once := s.Height(), sync.Once{}
		s.Core = process(t, s.World, func(d *core.Deps) {
			d.Step = func(name string) {
				if name == core.StepMined {
					once.Do(func() { s.lose(before) })
				}
			}
		})
		s.served(s.call(in))
		if s.till.shown < 2 {
			t.Error("the till was shown one hash alone")
		}
		s.earned(1)
	})
}

// A block disappears after its hash was shown, and the service has not served: the next call shows the hash that the same
// transfer has now, and pays nothing.
func TestATransferIsUnminedAndOwed(t *testing.T) {
	eachPayer(t, func(t *testing.T, s *sender, in core.FetchInput) {
		before := s.Height()
		first := uuid.MustParse(s.owing(in, 0))
		old := *s.read(first).TxHash
		if in.SessionID != "" { // the watcher has seen it, and sees it go; or knows nothing of either
			s.Settle()
		}
		s.lose(before)
		if in.SessionID != "" {
			must(s.World, s.Core.Funding.ReadChain(s.Ctx))
		}
		paid := s.served(s.call(in))
		if paid.ID != first || *paid.TxHash == old {
			t.Errorf("shown is %s of %s, not another hash of %s", *paid.TxHash, paid.ID, first)
		}
		s.earned(1)
		if got := s.read(first); got.UpstreamStatus != http.StatusOK || *got.TxHash == old {
			t.Errorf("%s", got)
		}
	})
}

// A block disappears after the service has served: the transfer goes out again, and another call pays for itself.
func TestATransferIsUnminedAndServed(t *testing.T) {
	eachPayer(t, func(t *testing.T, s *sender, in core.FetchInput) {
		before := s.Height()
		first := s.served(s.call(in))
		s.Settle()
		s.lose(before)
		s.earned(1)
		got := s.read(first.ID)
		if s.onChain(got); got.Status != transaction.StatusSuccess || *got.TxHash == *first.TxHash || got.UpstreamStatus != http.StatusOK {
			t.Errorf("%s", got)
		}
		if next := s.served(s.call(in)); next.ID == first.ID {
			t.Error("a transfer that was served is shown again")
		}
		s.earned(2)
	})
}

// A block disappears and the authorization ends before another has it: nothing was charged, whatever the service has done,
// and the next call pays.
func TestATransferIsLostForGood(t *testing.T) {
	eachPayer(t, func(t *testing.T, s *sender, in core.FetchInput) {
		before, other := s.Height(), in
		var id uuid.UUID
		if in.SessionID == "" {
			id = s.served(s.call(in)).ID
		} else {
			id = uuid.MustParse(s.owing(in, 0))
		}
		s.Settle()
		s.Replace(before, s.Deps.RelayerKey)
		s.later(11 * time.Minute)
		s.Mine(depth + 1)
		other.URL = s.link + "/other"
		s.served(s.call(other)) // before the books know
		for range 3 {
			s.Settle()
			must(s.World, s.Core.Funding.ExpireOperations(s.Ctx))
		}
		if got := s.read(id); got.Status != transaction.StatusFailed || got.Amount != 0 || got.Reason == "" {
			t.Errorf("%s", got)
		}
		s.earned(1)
		if next := s.served(s.call(in)); next.ID == id {
			t.Error("what is dead was shown")
		}
		s.earned(2)
	})
}
