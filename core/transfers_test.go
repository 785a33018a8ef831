package core_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/money"
)

// till sells by the hash of a transfer, as Agent Pay and IndieGent's MPP do, and believes the chain alone. A hash counts once.
type till struct {
	w  *coretest.World
	to common.Address

	mu     sync.Mutex
	used   map[common.Hash]bool
	asked  int // requests without a hash
	shown  int
	blind  int  // it does not see the next so many hashes: a node that is behind
	broken bool // it takes the hash and serves nothing

	first func() int // answers the next hash, if that is not zero
}

func newTillOf(w *coretest.World) (*till, string) {
	key, err := crypto.GenerateKey()
	must(w, err)
	s := &till{w: w, to: crypto.PubkeyToAddress(key.PublicKey), used: map[common.Hash]bool{}}
	return s, w.Serve(s)
}

func (s *till) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash := r.Header.Get("X-Payment-Tx")
	_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Payment credential=%q", &hash)
	var first func() int
	s.set(func() {
		if hash != "" {
			first, s.first = s.first, nil
		}
	})
	if first != nil {
		if status := first(); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch why := s.check(r.Context(), hash); {
	case why != "":
		if r.URL.Path == "/mpp" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Payment type="exact", chain=%q, currency="USDC", amount="10000", address=%q, maxAge=300`, s.w.Net.Network().Name, s.to.Hex()))
		}
		w.WriteHeader(http.StatusPaymentRequired)
		if r.URL.Path != "/mpp" {
			_, _ = fmt.Fprintf(w, `{"error":"payment_required","amount":"0.01","currency":"USD","recipient":%q,"message":%q}`, s.to.Hex(), why)
		}
	case s.broken:
		panic(http.ErrAbortHandler)
	default:
		s.used[common.HexToHash(hash)] = true
		_, _ = w.Write([]byte("served"))
	}
}

// check says why a hash pays for nothing; empty: it does.
func (s *till) check(ctx context.Context, hash string) string {
	if hash == "" {
		s.asked++
		return "no hash"
	}
	s.shown++
	if s.blind > 0 {
		s.blind--
		return "no such transaction"
	}
	r, err := s.w.Net.Receipt(ctx, common.HexToHash(hash))
	switch {
	case errors.Is(err, evm.ErrNotFound) || (err == nil && !r.OK):
		return "no such transaction"
	case err != nil:
		return err.Error()
	case s.used[common.HexToHash(hash)]:
		return "the hash was used"
	}
	for _, m := range evm.MovementsOf(s.w.Net.Network().USDC, r.Logs) {
		if m.To == s.to && m.Amount == cent {
			return ""
		}
	}
	return "another transfer"
}

func (s *till) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// sender is an agent whose policy names the till, with a wallet and a session.
type sender struct {
	*coretest.World
	p       core.Principal
	agent   *core.AgentView
	session string
	till    *till
	link    string
}

func newSender(w *coretest.World) *sender {
	s := &sender{World: w}
	s.p, _ = w.User("dev@example.com")
	s.agent = w.Agent(s.p, "bot", 3*money.One)
	s.session = w.Session(s.p, s.agent, money.One).ID.String()
	s.till, s.link = newTillOf(w)
	s.allow("127.0.0.1")
	w.Head()
	return s
}

func (s *sender) allow(services ...string) {
	_, err := s.Core.Policies.Update(s.Ctx, s.p, s.agent.ID, core.PolicyInput{AllowedServices: &services})
	must(s.World, err)
}

func (s *sender) call(in core.FetchInput) (*core.FetchResult, error) {
	in.Agent = "bot"
	if in.URL == "" {
		in.URL = s.link
	}
	s.Head()
	return s.Core.Payments.Fetch(s.Ctx, s.p, in)
}

// earned fails unless the till has been sent so many cents, on the chain and in the books.
func (s *sender) earned(cents money.USDC) {
	s.T.Helper()
	s.Settle()
	s.Jobs()
	if got := s.Net.Balance(s.till.to); got != cents*cent {
		s.T.Errorf("the seller has %s, not %d cents", got, cents)
	}
	page, err := s.Core.Transactions.List(s.Ctx, s.p, core.TransactionFilter{PaymentsOnly: true})
	if err != nil || page.Spent != cents*cent {
		s.T.Errorf("the history says %s: %v", page.Spent, err)
	}
	s.Balanced()
}

func TestTransfersPaySellersWhoWantAHash(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		for _, path := range []string{"/agent-pay", "/mpp"} {
			for _, paidBy := range []string{"", s.session} {
				r, err := s.call(core.FetchInput{SessionID: paidBy, URL: s.link + path})
				if err != nil || r.Status != http.StatusOK || string(r.Body) != "served" || r.Cost != cent || r.Payment.TxHash == nil {
					t.Fatalf("%s, session %q: %+v %v", path, paidBy, r, err)
				}
			}
		}
		s.allow()
		if r, err := s.call(core.FetchInput{}); err != nil || r.Status != http.StatusPaymentRequired || r.Paid || r.Unpayable == "" {
			t.Errorf("without a policy that names the service: %+v %v", r, err)
		}
		s.earned(4)
		v, err := w.Core.Sessions.Close(w.Ctx, s.p, uuid.MustParse(s.session), nil)
		must(w, err)
		w.Settle()
		if v, err = w.Core.Sessions.Get(w.Ctx, s.p, v.ID); err != nil || v.Status != session.StatusClosed || v.Refunded != money.One-2*cent {
			t.Errorf("%+v %v", v, err)
		}
		s.Balanced()
	})
}

// Ten calls at once pay ten times: each hash is of one transfer alone.
func TestTransfersAtOnceHaveAHashEach(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				in := core.FetchInput{Agent: "bot", URL: s.link}
				if i%2 == 0 {
					in.SessionID = s.session
				}
				if r, err := w.Core.Payments.Fetch(w.Ctx, s.p, in); err != nil || r.Status != http.StatusOK {
					t.Errorf("%+v %v", r, err)
				}
			})
		}
		wg.Wait()
		s.earned(10)
	})
}

// A service that does not see the block yet is shown the same hash again; what it has taken and not served for is shown by
// the next call, which pays nothing.
func TestAHashIsShownAgain(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		s.till.set(func() { s.till.blind = 2 })
		if r, err := s.call(core.FetchInput{}); err != nil || r.Status != http.StatusOK || s.till.shown != 3 {
			t.Fatalf("%+v %v, shown %d times", r, err, s.till.shown)
		}
		s.earned(1)
		s.till.set(func() { s.till.broken = true })
		_, failed := s.call(core.FetchInput{})
		if code(failed) != core.ServiceFailed || core.AsError(failed).Payment == "" {
			t.Fatal(failed)
		}
		s.earned(2)
		s.till.set(func() { s.till.broken = false })
		r, err := s.call(core.FetchInput{})
		if err != nil || r.Status != http.StatusOK || r.Payment.ID.String() != core.AsError(failed).Payment || r.Payment.Status != transaction.StatusSuccess {
			t.Fatalf("%+v %v", r, err)
		}
		s.earned(2)
		if r, err := s.call(core.FetchInput{}); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%+v %v", r, err)
		}
		s.earned(3)
	})
}

// TestATransferSurvivesACrash: whatever the program dies of, the next call of the same goes on with the same transfer.
func TestATransferSurvivesACrash(t *testing.T) {
	for _, step := range []string{core.StepHeld, core.StepQueued, core.StepAuthorized, core.StepStored, core.StepSent, core.StepMined} {
		t.Run(step, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, w *coretest.World) {
				s := newSender(w)
				dies(t, w, step, func(c *core.Core) {
					_, _ = c.Payments.Fetch(w.Ctx, s.p, core.FetchInput{Agent: "bot", SessionID: s.session, URL: s.link})
				})
				lapse(w) // the dead process's lease
				w.Jobs()
				w.Settle()
				w.Pass(7 * time.Minute)
				w.Jobs()
				w.Settle()
				r, err := s.call(core.FetchInput{SessionID: s.session})
				if err != nil || r.Status != http.StatusOK {
					t.Fatalf("%+v %v", r, err)
				}
				s.earned(1)
			})
		})
	}
}
