package core

import (
	"cmp"
	"context"
	"errors"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
)

func newStore(ctx context.Context, d Deps) (*store, error) {
	if len(d.JWTSecret) < masterKeyBytes {
		return nil, errors.New("core: the login secret must have at least 32 bytes")
	}
	s := &store{
		db: d.DB, chain: d.Chain, clock: d.Clock, log: d.Log, protocols: d.Protocols, upstream: d.Upstream, guard: newGuard(d.Private),
		jwtSecret: d.JWTSecret, bus: NewBus(), gasGrant: d.GasGrantWei, maxPay: d.MaxPayment, payAhead: d.PayAhead, reserve2: d.Permit2Reserve, streams: d.Streams.orDefault(),
		step: d.Step, passwordCost: cmp.Or(d.PasswordCost, defaultPasswordCost), process: uuid.New(),
	}
	if s.step == nil {
		s.step = func(string) {}
	}
	var err error
	if s.keys, err = newKeyring(ctx, d.DB, d); err != nil {
		return nil, err
	}
	s.readers = newReaders(s)
	s.batch = ledger.NewBatch(ctx, s.now, d.DB.Begin)
	return s, s.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		s.platform, err = ledger.OpenPlatform(ctx, tx.Client, tx.Now, s.chainID())
		return err
	})
}

func (s *store) chainID() uint64 { return s.chain.Network().ChainID }

// parseAddress reads a 0x address in any letter case; zero and the token itself are refused by the callers
// that send to it.
func parseAddress(text string) (common.Address, error) {
	if !common.IsHexAddress(text) || len(text) != 2+2*common.AddressLength {
		return common.Address{}, E(InvalidRequest, "%q is not an address", text)
	}
	a := common.HexToAddress(text)
	if a == (common.Address{}) {
		return common.Address{}, E(InvalidRequest, "The zero address takes no money")
	}
	return a, nil
}
