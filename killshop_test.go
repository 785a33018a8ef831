package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/core/coretest"
	"bursar/demo"
	"bursar/evm"
	"bursar/money"
)

// shopProofLife is how long a proof that nobody uses holds its money.
const shopProofLife = 15 * time.Second

// settling is the shop's settler. The one of a chain that died is given up.
type settling struct {
	*demo.Settler
	life context.Context // of the chain that it settles on
	end  context.CancelFunc
}

// perCall gives every call a path of its own, by which history knows it: /call/<n>/…
func (k *killRun) perCall(shop http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.SplitN(r.URL.Path, "/", 4)
		if len(parts) == 4 && parts[1] == "call" {
			r = r.Clone(r.Context())
			r.URL.Path = "/" + parts[3]
		}
		switch r.URL.Path {
		case "/club":
			k.club(w, r, shop)
		case "/agent-pay":
			k.counter(w, r)
		case "/permit2":
			k.byPermit2(w, r, k.permit2)
		case "/permit2-most":
			k.byPermit2(w, r, k.permit2Most)
		default:
			shop.ServeHTTP(w, r)
		}
	})
}

// club offers a login with each challenge, and mostly serves for one. Every login that comes is kept by then.
func (k *killRun) club(w http.ResponseWriter, r *http.Request, shop http.Handler) {
	if login := r.Header.Get("SIGN-IN-WITH-X"); login != "" {
		var said struct{ Nonce string }
		if err := unpack(login, &said); err != nil {
			k.t.Errorf("a login %q: %v", login, err)
		}
		if n, err := k.loginsKept(said.Nonce); err != nil || n != 1 {
			k.t.Errorf("the login %q has left, and %d traces tell of it: %v", said.Nonce, n, err)
		}
		k.mu.Lock()
		k.logins = append(k.logins, said.Nonce)
		k.mu.Unlock()
		if rand.IntN(4) > 0 {
			_, _ = io.WriteString(w, "member")
			return
		}
	}
	uri := "http://" + r.Host + r.URL.Path
	r.URL.Path = "/v2/weather"
	answer := httptest.NewRecorder()
	shop.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	if asks := answer.Header().Get("PAYMENT-REQUIRED"); asks != "" {
		var challenge map[string]any
		if err := unpack(asks, &challenge); err != nil {
			k.t.Errorf("a challenge %q: %v", asks, err)
		}
		challenge["extensions"] = map[string]any{"sign-in-with-x": map[string]any{
			"info": map[string]any{
				"domain": r.Host, "uri": uri, "version": "1", "nonce": fmt.Sprintf("kill%016x", rand.Uint64()), "issuedAt": time.Now().UTC().Format(time.RFC3339),
			},
			"supportedChains": []any{map[string]any{"chainId": k.chain.Network().CAIP2(), "type": "eip191"}},
		}}
		text, _ := json.Marshal(challenge) // plain data always marshals
		w.Header().Set("PAYMENT-REQUIRED", base64.StdEncoding.EncodeToString(text))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// unpack reads JSON out of base64.
func unpack(text string, into any) error {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// loginsKept counts the traces of a login.
func (k *killRun) loginsKept(nonce string) (n int, err error) {
	err = k.db.QueryRowContext(k.t.Context(), "SELECT COUNT(*) FROM traces WHERE outcome = 'login' AND CAST(detail AS TEXT) LIKE '%"+nonce+"%'").Scan(&n)
	return n, err
}

// counter sells by the hash of a transfer, which it takes once.
func (k *killRun) counter(w http.ResponseWriter, r *http.Request) {
	hash := common.HexToHash(r.Header.Get("X-Payment-Tx"))
	if receipt, err := k.chain.Receipt(r.Context(), hash); err == nil && receipt.OK && len(receipt.Logs) > 0 {
		if _, used := k.hashes.LoadOrStore(hash, true); !used {
			_, _ = io.WriteString(w, "served")
			return
		}
	}
	w.WriteHeader(http.StatusPaymentRequired)
	_, _ = fmt.Fprintf(w, `{"error":"payment_required","amount":"0.01","currency":"USD","recipient":%q}`, k.seller.Hex())
}

// byPermit2 is a seller as it comes, as settleProof is; for a maximum it settles any part of that.
func (k *killRun) byPermit2(w http.ResponseWriter, r *http.Request, s *coretest.Permit2Seller) {
	call, err := s.Take(r)
	if err != nil {
		s.Ask(w, r)
		return
	}
	amount := s.Price
	if s.UpTo {
		amount = 1 + money.USDC(rand.Int64N(int64(s.Price)))
	}
	switch rand.IntN(10) {
	case 0:
	case 1:
		_ = s.Settle(r.Context(), call, amount)
		err = errShop
	case 2, 3:
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(shopProofLife))))
			_ = s.Settle(k.t.Context(), call, amount) // too late, or the chain is gone: then it earns nothing
		}()
	default:
		err = s.Settle(r.Context(), call, amount)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, "served")
}

var errShop = errors.New("the shop says no after it has taken the money")

// settleProof is a seller as it comes: mostly honest; at times one that never collects, that takes the money and says
// no, or that collects late, when the caller has long been killed and started again.
func (k *killRun) settleProof(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	switch rand.IntN(10) {
	case 0:
		return common.Hash{1}, nil
	case 1:
		if hash, err := k.settleNow(ctx, a, sig); err != nil {
			return hash, err
		}
		return common.Hash{}, errShop
	case 2, 3:
		return k.settleLate(ctx, a, sig)
	}
	return k.settleNow(ctx, a, sig)
}

func (k *killRun) settleNow(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	s := k.settling.Load()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	return s.Settle(ctx, a, sig)
}

// settleLate waits and then tries for as long as the proof lives.
func (k *killRun) settleLate(ctx context.Context, a evm.Authorization, sig []byte) (common.Hash, error) {
	wait := time.Duration(rand.Int64N(int64(shopProofLife)))
	for {
		select {
		case <-ctx.Done():
			return common.Hash{}, ctx.Err()
		case <-k.t.Context().Done():
			return common.Hash{}, k.t.Context().Err()
		case <-time.After(wait):
		}
		hash, err := k.settleNow(ctx, a, sig)
		if err == nil || errors.Is(err, evm.ErrReverted) || time.Now().Unix() > a.ValidBefore {
			return hash, err
		}
		wait = time.Second / 2
	}
}

// newSettler gives the shop a settler that knows nothing of what an earlier chain process lost.
func (k *killRun) newSettler() {
	life, end := context.WithCancel(k.t.Context())
	if old := k.settling.Swap(&settling{demo.NewSettler(k.chain, k.facilitator), life, end}); old != nil {
		old.end()
	}
}
