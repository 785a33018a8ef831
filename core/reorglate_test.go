package core_test

import (
	"context"
	"crypto/ecdsa"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/google/uuid"

	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
	"bursar/ent"
	"bursar/ent/session"
	"bursar/ent/transaction"
	"bursar/money"
	"bursar/pay"
	"bursar/pay/paytest"
)

// late is a payment that was given up, and that another branch of the chain shows after all.
type late struct {
	b       buyer
	node    *chaintest.Proxy
	before  uint64 // the last block of all branches
	proof   pay.Proof
	payTo   common.Address
	key     *ecdsa.PrivateKey // of who may use the proof
	settle  func(context.Context, pay.Proof) (common.Hash, error)
	session bool
	closed  bool // the session's money has gone back
	sent    bool // by the server itself, whose payments keep the hash of the last transaction
	id      uuid.UUID
}

// newLate has a proof given up: from a wallet, or from a session that stays open or is closed then. A session that was
// answered was charged first, and has its money back.
func newLate(t *testing.T, w *coretest.World, session, answered, closed bool) late {
	t.Helper()
	l := late{b: newBuyerAtDepth(w), session: session, closed: closed, payTo: address("0x5e11e2"), node: w.Net.Proxy()}
	l.key, l.settle = w.Facilitator()
	w.Net.Fund(w.Platform, money.One) // the operator's own, that a payment after the refund is made with
	w.Core = through(t, w, l.node)
	answer := status(500)
	if answered {
		answer = serve("")
	}
	s := paytest.New(t, paytest.Options{
		Network: w.Net.Network(), PayTo: l.payTo, Clock: w.Clock.Now, Price: cent, Window: 9 * time.Minute, Answer: answer,
	})
	w.Settle()
	w.Head()
	in := core.FetchInput{URL: s.Link(2, paytest.Serve, 0)}
	if session {
		in.SessionID = l.b.session.ID.String()
	}
	l.before = w.Height()
	r, err := w.Core.Payments.Fetch(w.Ctx, l.b.p, in)
	must(w, err)
	l.id, l.proof = r.Payment.ID, s.Seen()[0].Proof
	l.giveUp()
	l.is(t, "given up", 0)
	if closed {
		w.Close(l.b.p, l.b.session.ID)
		w.Settle()
	}
	return l
}

func newBuyerAtDepth(w *coretest.World) buyer {
	w.T.Helper()
	b := buyer{w: w}
	b.p, _ = w.User("dev@example.com")
	b.agent = w.Agent(b.p, "bot", 2*deposit)
	b.session = w.Session(b.p, b.agent, deposit)
	return b
}

// giveUp has the watcher read blocks that are past the proof's end: of a branch whose time runs faster than that on which
// the proof is used. The chain of the tests never goes back in time, so the node tells such a time.
func (l late) giveUp() {
	w := l.b.w
	end := strconv.Quote(hexutil.EncodeUint64(uint64(l.proof.Authorization.ValidBefore)))
	l.node.Set(chaintest.AddField("eth_getBlockByNumber", "timestamp", end))
	w.Mine(depth + 1)
	must(w, w.Core.Funding.ReadChain(w.Ctx))
	must(w, w.Core.Payments.ResolveHolds(w.Ctx))
	must(w, w.Core.Funding.ExpireOperations(w.Ctx))
	l.node.Set()
	w.Settle()
}

// use puts the proof into a block.
func (l late) use() {
	w := l.b.w
	_, err := l.settle(w.Ctx, l.proof)
	must(w, err)
	w.Settle()
}

// is demands what the payment has cost: in the history, in every counter, on chain and in the books.
func (l late) is(t *testing.T, when string, cost money.USDC) {
	t.Helper()
	w := l.b.w
	got, err := w.Core.Transactions.Get(w.Ctx, l.b.p, l.id)
	must(w, err)
	if got.Amount != cost || (got.TxHash != nil) != (cost > 0) && !l.sent || (got.Status == transaction.StatusSuccess) != (cost > 0) && !l.session {
		t.Errorf("%s: %s %s %v %q", when, got.Status, got.Amount, got.TxHash, got.Reason)
	}
	usages := usagesOf(t, w)
	if len(usages) < 6 {
		t.Errorf("%s: %d counters", when, len(usages))
	}
	for _, u := range usages {
		if l.sent && u.Calls != map[bool]int64{true: 1}[cost > 0] {
			t.Errorf("%s: the counter %s counts %d calls", when, u.ID, u.Calls)
		}
		if u.Spent != cost {
			t.Errorf("%s: the counter %s is %s, want %s", when, u.ID, u.Spent, cost)
		}
	}
	if rows := proofsOf(t, w, "usages"); rows != 0 {
		t.Errorf("%s: the document's statement of counters finds %d", when, rows)
	}
	a := agentOf(w, l.b.p, l.b.agent.ID)
	v, err := w.Core.Sessions.Get(w.Ctx, l.b.p, l.b.session.ID)
	must(w, err)
	wallet, left := deposit, deposit
	switch {
	case l.closed && v.Status == session.StatusClosed:
		wallet, left = 2*deposit, 0
	case l.session:
		left -= cost
	default:
		wallet -= cost
	}
	if a.Wallet.Posted != wallet || a.Wallet.Pending != 0 || v.Remaining != left || w.Net.Balance(common.HexToAddress(a.Address)) != wallet {
		t.Errorf("%s: the wallet has %s and %s pending, the session %s", when, a.Wallet.Posted, a.Wallet.Pending, v.Remaining)
	}
	if on := w.Net.Balance(l.payTo); on != cost {
		t.Errorf("%s: the seller has %s", when, on)
	}
	audit, err := w.Core.Books.Audit(w.Ctx)
	must(w, err)
	if short := map[bool]money.USDC{true: -cost}[left == 0]; audit.Platform.Suspense != short || audit.Platform.Clearing != 0 {
		t.Errorf("%s: suspense %s, clearing %s", when, audit.Platform.Suspense, audit.Platform.Clearing)
	}
	w.Balanced()
}

// A payment that was given up is used after all, is un-mined and mined again, and is un-mined for good. Its limits
// follow, and whoever had its money pays: the wallet, the session, or suspense for a session that has none left.
func TestPaymentThatWasGivenUpIsUsed(t *testing.T) {
	for name, c := range map[string]struct{ session, answered, closed bool }{
		"from a wallet":                    {},
		"from a session":                   {session: true},
		"from a session that had answered": {session: true, answered: true},
		"from a session that has closed":   {session: true, closed: true},
		"answered, and closed":             {session: true, answered: true, closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
				l := newLate(t, w, c.session, c.answered, c.closed)
				l.use()
				l.is(t, "used after all", cent)
				back := l.before
				w.Replace(back) // its transaction comes again
				w.Mine(depth + 1)
				w.Settle()
				l.is(t, "mined again", cent)
				w.Replace(back, l.key)
				w.Mine(depth + 1)
				w.Settle()
				l.giveUp()
				l.is(t, "un-mined, and given up again", 0)
				l.use()
				l.is(t, "used once more", cent)
			})
		})
	}
}

// eachDatabaseAtDepth is eachDatabase with confirmations.
func eachDatabaseAtDepth(t *testing.T, f func(t *testing.T, w *coretest.World)) {
	t.Run("sqlite", func(t *testing.T) { f(t, coretest.New(t, coretest.Confirmations(depth))) })
	if testing.Short() {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		f(t, coretest.New(t, coretest.Confirmations(depth), coretest.OnPostgres(coretest.Postgres(t))))
	})
}

func usagesOf(t *testing.T, w *coretest.World) []*ent.Usage {
	t.Helper()
	tx, err := w.DB.Begin(w.Ctx)
	must(w, err)
	defer func() { _ = tx.SQL.Rollback() }()
	out, err := tx.Client.Usage.Query().All(w.Ctx)
	must(w, err)
	return out
}

// proofsOf counts what the proofs of docs/ledger.md find that speak of a table.
func proofsOf(t *testing.T, w *coretest.World, table string) (n int) {
	t.Helper()
	proofs, _ := statements(t)
	for _, s := range proofs {
		if strings.Contains(s, table) {
			n += rowsOf(t, w, s)
		}
	}
	return n
}
