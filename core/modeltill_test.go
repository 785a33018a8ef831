package core_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
)

// tillAt is where the service that wants hashes is paid.
var tillAt = address("0x00000000000000000000000000000000005e1104")

// modelTill sells by the hash of a transfer: what the path of a call names, for the price in it. What it does with a hash
// that is good says the query, which is no part of what makes two calls the same. It serves for a hash once.
type modelTill struct {
	m    *modelRun
	link string

	mu    sync.Mutex
	used  map[common.Hash]bool
	shown map[string]map[common.Hash]bool // hashes, by call
	last  *aheadCall
}

func (m *modelRun) opensTill() {
	m.till = &modelTill{m: m, used: map[common.Hash]bool{}, shown: map[string]map[common.Hash]bool{}}
	m.till.link = m.w.Serve(m.till)
}

func (s *modelTill) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	price, _ := strconv.Atoi(strings.Split(r.URL.Path, "/")[1]) // of our own making
	text := r.Header.Get("X-Payment-Tx")
	if text == "" {
		rw.WriteHeader(http.StatusPaymentRequired)
		_, _ = fmt.Fprintf(rw, `{"error":"payment_required","amount":%q,"currency":"USD","recipient":%q}`, money.USDC(price).Decimal(), tillAt.Hex())
		return
	}
	status := s.judge(r, common.HexToHash(text), money.USDC(price))
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	rw.WriteHeader(status)
}

// judge is the status of the answer to a hash; zero: there is none.
func (s *modelTill) judge(r *http.Request, hash common.Hash, price money.USDC) int {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	call := q.Get("call")
	met := len(s.shown[call]) > 0
	if !met {
		s.shown[call] = map[common.Hash]bool{}
	}
	s.shown[call][hash] = true
	receipt, err := s.m.w.Net.Receipt(s.m.w.Ctx, hash)
	switch {
	case errors.Is(err, evm.ErrNotFound), q.Get("does") == "blind" && !met:
		return http.StatusPaymentRequired
	case err != nil:
		return 0
	case s.used[hash]:
		return http.StatusConflict
	case !pays(s.m.w.Net.Network().USDC, receipt, price):
		return http.StatusGone
	}
	status, err := strconv.Atoi(q.Get("does"))
	if err != nil {
		status = http.StatusOK
	}
	s.used[hash] = status != 0 && status < http.StatusInternalServerError
	return status
}

// pays says whether a transaction makes one payment to the till, and of so much.
func pays(token common.Address, r evm.Receipt, price money.USDC) bool {
	var n int
	for _, m := range evm.MovementsOf(token, r.Logs) {
		if m.To == tillAt && m.Amount == price {
			n++
		}
	}
	return n == 1
}
