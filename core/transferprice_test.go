package core_test

import (
	"testing"
	"time"

	"bursar/chain/chaintest"
	"bursar/core"
	"bursar/core/coretest"
)

// The transaction that was signed first never arrives, and a dearer one is mined: the service and the caller are told its hash.
func TestATransferAtAnotherPrice(t *testing.T) {
	eachDatabaseAtDepth(t, func(t *testing.T, w *coretest.World) {
		s := newSender(w)
		node := w.Net.Proxy(chaintest.On(chaintest.LoseRequest(), "eth_sendRawTransaction"))
		honest := w.Core
		s.Core = through(t, w, node)
		type told struct {
			r   *core.FetchResult
			err error
		}
		done := make(chan told, 1)
		s.Head()
		go func() {
			r, err := s.Core.Payments.Fetch(w.Ctx, s.p, core.FetchInput{Agent: "bot", URL: s.link})
			done <- told{r, err}
		}()
		var first string
		for first == "" {
			page, err := honest.Transactions.List(w.Ctx, s.p, core.TransactionFilter{PaymentsOnly: true})
			must(w, err)
			if len(page.Items) == 1 && page.Items[0].TxHash != nil {
				first = *page.Items[0].TxHash
			}
			time.Sleep(time.Millisecond)
		}
		w.Mine(5)
		must(w, honest.Operations.Rebroadcast(w.Ctx))
		node.Set()
		out := <-done
		if paid := s.served(out.r, out.err); *paid.TxHash == first {
			t.Error("it is not another transaction")
		}
		s.Core = honest
		s.earned(1)
	})
}
