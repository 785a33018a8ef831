package core

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/ent"
	"bursar/ent/sender"
)

// relayer is an address that pays gas. The first of them grants ether and pulls top-ups, for allowances name it; any can
// carry authorizations, so that several processes send at once and what is stuck at one holds up nobody else.
type relayer struct {
	key *ecdsa.PrivateKey
	at  common.Address
}

func relayersOf(first *ecdsa.PrivateKey, more []*ecdsa.PrivateKey) ([]relayer, error) {
	var all []relayer
	for _, key := range append([]*ecdsa.PrivateKey{first}, more...) {
		at := crypto.PubkeyToAddress(key.PublicKey)
		if slices.ContainsFunc(all, func(r relayer) bool { return r.at == at }) {
			return nil, errors.New("core: a relayer key is given twice")
		}
		all = append(all, relayer{key, at})
	}
	return all, nil
}

// relays reports whether an address is a relayer's.
func (k *keyring) relays(a common.Address) bool {
	return slices.ContainsFunc(k.relayers, func(r relayer) bool { return r.at == a })
}

// idlest orders the relayers by how many of their transactions wait for a block, fewest first.
func (o *Operations) idlest(ctx context.Context) ([]relayer, error) {
	if len(o.keys.relayers) == 1 {
		return o.keys.relayers, nil
	}
	waiting := map[common.Address]int64{}
	for _, r := range o.keys.relayers {
		mined, err := o.chain.NonceAt(ctx, r.at)
		if err != nil {
			return nil, err
		}
		row, err := o.db.readEnt.Sender.Query().Where(sender.ChainID(int64(o.chainID())), sender.Address(r.at.Hex())).Only(ctx)
		if ent.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		waiting[r.at] = row.NextNonce - int64(mined)
	}
	order := slices.Clone(o.keys.relayers)
	slices.SortStableFunc(order, func(a, b relayer) int { return cmp.Compare(waiting[a.at], waiting[b.at]) })
	return order, nil
}
