package paytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Buyer pays services as core does, without limits and books: the whole life of a payment in one call.
type Buyer struct {
	Protocols []pay.Protocol
	Wallet    pay.Wallet
	Key       *ecdsa.PrivateKey
	Clock     func() time.Time
	// Transfer sends USDC and returns when the chain has it, for wallets that may.
	Transfer func(ctx context.Context, to common.Address, amount money.USDC) (common.Hash, error)
}

// Bought is what a payment left behind.
type Bought struct {
	Quote    pay.Quote
	Offer    pay.Offer // the one taken
	Proof    pay.Proof
	Response *pay.Response
}

// Receipt reads the seller's receipt.
func (b Bought) Receipt(resp *pay.Response) (pay.Receipt, error) {
	return b.Quote.Protocol.Receipt(b.Offer, resp)
}

// Buy asks, pays the first offer and asks again. req carries the proof afterwards.
func (b Buyer) Buy(ctx context.Context, req *pay.Request) (got Bought, err error) {
	first, err := Send(ctx, req)
	if err != nil {
		return got, err
	}
	if got.Quote, err = pay.Offers(b.Protocols, b.Wallet, req, first); err != nil {
		return got, err
	}
	got.Offer = got.Quote.Offers[0]
	var nonce [32]byte
	_, _ = rand.Read(nonce[:])
	in, err := got.Quote.Protocol.Instruct(got.Offer, b.Wallet.Address, b.Clock(), nonce)
	if err != nil {
		return got, err
	}
	if got.Proof, err = b.follow(ctx, in); err != nil {
		return got, err
	}
	if err = got.Quote.Protocol.Attach(req, got.Offer, got.Proof); err != nil {
		return got, err
	}
	got.Response, err = Send(ctx, req)
	return got, err
}

// follow does what the instruction says.
func (b Buyer) follow(ctx context.Context, in pay.Instruction) (p pay.Proof, err error) {
	if in.Kind == pay.Transfer {
		if b.Transfer == nil {
			return p, errors.New("paytest: the buyer makes no transfers")
		}
		p.TxHash, err = b.Transfer(ctx, in.To, in.Amount)
		return p, err
	}
	return Sign(b.Key, in)
}

// Sign signs all that an instruction wants signed. A transfer has an invented hash.
func Sign(key *ecdsa.PrivateKey, in pay.Instruction) (p pay.Proof, err error) {
	switch in.Kind {
	case pay.None:
	case pay.SignAuthorization:
		p.Authorization = in.Authorization
		p.Signature, err = evm.Sign(key, in.Authorization.Digest(in.Domain))
	case pay.SignPermit2:
		p.Permit2 = in.Permit2
		p.Signature, err = evm.Sign(key, in.Permit2.Digest(in.Domain.ChainID.Uint64()))
	case pay.SignPermit:
		p.Permit = in.Permit
		p.Signature, err = evm.Sign(key, in.Permit.Digest(in.Domain))
	case pay.Transfer:
		p.TxHash = crypto.Keccak256Hash([]byte("tx"))
	}
	return p, err
}

// Send makes one request and follows no redirect.
func Send(ctx context.Context, r *pay.Request) (*pay.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return &pay.Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, err
}
