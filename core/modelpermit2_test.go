package core_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/money"
)

// modelPermit2 sells through Permit2, for a price or for a maximum. It does with a proof what the query says. One that settles
// by the batch has all that it has kept in one transaction.
type modelPermit2 struct {
	*coretest.Permit2Seller
	m    *modelRun
	kept []coretest.Settlement // under the run's lock
}

func (m *modelRun) opensPermit2() {
	for _, upTo := range []bool{false, true} {
		for _, batch := range []bool{false, true} {
			s := m.w.Permit2Seller(cent)
			s.UpTo, s.Batch = upTo, batch
			s.URL = m.w.Serve(&modelPermit2{Permit2Seller: s, m: m})
			m.permit2 = append(m.permit2, s)
		}
	}
}

// settleAll settles a proof, or in one transaction with it all that is kept.
func (s *modelPermit2) settleAll(one coretest.Settlement) {
	ctx, cancel := context.WithTimeout(s.m.w.Ctx, 5*time.Second)
	defer cancel()
	all := []coretest.Settlement{one}
	if s.Batch {
		s.m.mu.Lock()
		all, s.kept = s.kept, nil
		s.m.mu.Unlock()
	}
	var err error
	switch {
	case !s.Batch:
		err = s.Settle(ctx, one.Call, one.Amount)
	case len(all) > 0: // else they went with another
		err = s.SettleTogether(ctx, nil, all...)
	}
	if err != nil {
		s.m.note("  a settlement through Permit2: %v", err)
	}
}

func (s *modelPermit2) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	call, err := s.Take(r)
	if err != nil {
		s.Ask(rw, r)
		return
	}
	q := r.URL.Query()
	amount, _ := strconv.Atoi(q.Get("amount")) // of our own making
	one := coretest.Settlement{Call: call, Amount: money.USDC(amount)}
	settle := func() { s.settleAll(one) }
	s.m.mu.Lock()
	s.m.proofs[s.Nonce(call)]++
	if s.Batch && q.Get("settles") != "never" {
		s.kept = append(s.kept, one)
	}
	if q.Get("settles") == "later" {
		s.m.later = append(s.m.later, settle)
	}
	s.m.mu.Unlock()
	if q.Get("settles") == "now" {
		settle()
	}
	status, _ := strconv.Atoi(q.Get("answer"))
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	rw.WriteHeader(status)
}

// payByPermit2 calls one of them.
func (m *modelRun) payByPermit2(payer uuid.UUID, from string) deed {
	s := m.permit2[m.IntN(len(m.permit2))]
	amount := s.Price
	if s.UpTo {
		amount = money.USDC(m.IntN(int(s.Price) + 1))
	}
	settles := []string{"now", "now", "now", "later", "never"}[m.IntN(5)]
	if amount == 0 {
		settles = "never"
	}
	answer := []int{200, 200, 200, 200, 412, 402, 500, 0}[m.IntN(8)]
	url := fmt.Sprintf("%s?settles=%s&amount=%d&answer=%d", s.URL, settles, amount, answer)
	name := fmt.Sprintf("pay through Permit2 from %q, up to %t, the seller settles %s %s and answers %d", from, s.UpTo, amount, settles, answer)
	return deed{name, func(ctx context.Context, c *core.Core) error {
		r, err := c.Payments.Fetch(ctx, m.p, core.FetchInput{Agent: payer.String(), SessionID: from, URL: url, Timeout: time.Second})
		if err == nil && r.Payment != nil {
			m.note("  payment %s is %s", r.Payment.ID, r.Payment.Status)
		}
		return err
	}}
}

// throughPermit2: each was charged when Permit2 has used its nonce, and the price of scheme exact then; what the sellers
// have is what was charged.
func (m *modelRun) throughPermit2(p pages) {
	m.t.Helper()
	paid := map[string]money.USDC{}
	for _, t := range p.history {
		if !t.Permit2 {
			continue
		}
		paid[t.ToAddress] += t.Amount
		used, err := m.w.Net.Permit2Used(m.w.Ctx, common.HexToAddress(t.FromAddress), common.HexToHash(*t.AuthNonce), m.w.Height())
		must(m.w, err)
		if used != (t.Amount > 0) || (t.Amount != 0 && !mayBe(t)) {
			m.fail("payment %s is %s at %s, its nonce was used: %t", t.ID, t.Status, t.Amount, used)
		}
	}
	for _, s := range m.permit2 {
		if has := m.w.Net.Balance(s.PayTo); has != paid[s.PayTo.Hex()] {
			m.fail("the seller %s has %s, paid are %s", s.PayTo, has, paid[s.PayTo.Hex()])
		}
	}
}

func mayBe(t *ent.Transaction) bool {
	return t.Amount == t.Quoted || (t.Scheme == "upto" && t.Amount < t.Quoted)
}
