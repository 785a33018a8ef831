package core

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"bursar/ent"
	"bursar/evm"
)

// keyring is the only place where private keys are open. Wallet keys are sealed by a tink keyset (AES-256-GCM)
// with the agent's id and address as associated data, so a sealed key cannot be moved to another row; the
// keyset is stored sealed under the operator's master key, and can so be rotated in the database.
type keyring struct {
	aead     tink.AEAD
	platform *ecdsa.PrivateKey
	relayers []relayer // at least one
}

const (
	masterKeyBytes = 32
	keysetRow      = 1
	keysetContext  = "bursar keyset"
)

func newKeyring(ctx context.Context, db *DB, d Deps) (*keyring, error) {
	if d.PlatformKey == nil || d.RelayerKey == nil {
		return nil, errors.New("core: platform and relayer keys are required")
	}
	if len(d.MasterKey) != masterKeyBytes {
		return nil, fmt.Errorf("core: the master key must have %d bytes", masterKeyBytes)
	}
	master, err := subtle.NewAESGCM(d.MasterKey)
	if err != nil {
		return nil, fmt.Errorf("core: master key: %w", err)
	}
	handle, err := loadKeyset(ctx, db, master)
	if err != nil {
		return nil, err
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("core: keyset: %w", err)
	}
	relayers, err := relayersOf(d.RelayerKey, d.MoreRelayers)
	if err != nil {
		return nil, err
	}
	return &keyring{aead: a, platform: d.PlatformKey, relayers: relayers}, nil
}

// loadKeyset reads the keyset, or makes it at the first start. Of several processes that start at once one
// insert wins and all read its row.
func loadKeyset(ctx context.Context, db *DB, master tink.AEAD) (*keyset.Handle, error) {
	row, err := db.writeEnt.Keyset.Get(ctx, keysetRow)
	if ent.IsNotFound(err) {
		if err := makeKeyset(ctx, db, master); err != nil {
			return nil, err
		}
		row, err = db.writeEnt.Keyset.Get(ctx, keysetRow)
	}
	if err != nil {
		return nil, fmt.Errorf("core: read keyset: %w", err)
	}
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(row.Sealed)), master, []byte(keysetContext))
	if err != nil {
		return nil, fmt.Errorf("core: the master key does not open this database's keyset: %w", err)
	}
	return h, nil
}

func makeKeyset(ctx context.Context, db *DB, master tink.AEAD) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("core: make keyset: %w", err)
	}
	var buf bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), master, []byte(keysetContext)); err != nil {
		return fmt.Errorf("core: seal keyset: %w", err)
	}
	err = db.writeEnt.Keyset.Create().SetID(keysetRow).SetSealed(buf.Bytes()).OnConflictColumns("id").DoNothing().Exec(ctx)
	if err != nil && !errors.Is(err, errNoRows) {
		return fmt.Errorf("core: store keyset: %w", err)
	}
	return nil
}

func keyContext(agentID uuid.UUID, address string) []byte {
	return []byte("agent key|" + agentID.String() + "|" + address)
}

// generate makes a wallet for an agent: its address, and its key sealed for that agent's row.
func (k *keyring) generate(agentID uuid.UUID) (address string, sealed []byte, err error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return "", nil, fmt.Errorf("core: generate key: %w", err)
	}
	address = crypto.PubkeyToAddress(key.PublicKey).Hex()
	sealed, err = k.aead.Encrypt(crypto.FromECDSA(key), keyContext(agentID, address))
	if err != nil {
		return "", nil, fmt.Errorf("core: seal key: %w", err)
	}
	return address, sealed, nil
}

func (k *keyring) open(a *ent.Agent) (*ecdsa.PrivateKey, error) {
	raw, err := k.aead.Decrypt(a.SealedKey, keyContext(a.ID, a.Address))
	if err != nil {
		return nil, fmt.Errorf("core: open key of agent %s: %w", a.ID, err)
	}
	key, err := crypto.ToECDSA(raw)
	if err != nil {
		return nil, fmt.Errorf("core: key of agent %s: %w", a.ID, err)
	}
	return key, nil
}

// export returns an agent's private key as 0x-prefixed hex.
func (k *keyring) export(a *ent.Agent) (string, error) {
	key, err := k.open(a)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("0x%x", crypto.FromECDSA(key)), nil
}

// sealAnswer seals what a row keeps of a request's answer, which may hold what is the caller's alone.
func (k *keyring) sealAnswer(row uuid.UUID, plain []byte) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plain, answerContext(row))
	if err != nil {
		return nil, fmt.Errorf("core: seal answer: %w", err)
	}
	return sealed, nil
}

func (k *keyring) openAnswer(row uuid.UUID, sealed []byte) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, answerContext(row))
	if err != nil {
		return nil, fmt.Errorf("core: open answer %s: %w", row, err)
	}
	return plain, nil
}

// sealCredential seals what a service of the catalogue is called with, for that service's row.
func (k *keyring) sealCredential(service uuid.UUID, secret string) ([]byte, error) {
	sealed, err := k.aead.Encrypt([]byte(secret), credentialContext(service))
	if err != nil {
		return nil, fmt.Errorf("core: seal credential: %w", err)
	}
	return sealed, nil
}

func (k *keyring) openCredential(service uuid.UUID, sealed []byte) (string, error) {
	secret, err := k.aead.Decrypt(sealed, credentialContext(service))
	if err != nil {
		return "", fmt.Errorf("core: open credential of service %s: %w", service, err)
	}
	return string(secret), nil
}

func credentialContext(service uuid.UUID) []byte {
	return []byte("service credential|" + service.String())
}

func answerContext(row uuid.UUID) []byte { return []byte("answer|" + row.String()) }

// signer is whose key signs an authorization: an agent's, or the platform's (nil).
func (k *keyring) signer(a *ent.Agent) (*ecdsa.PrivateKey, error) {
	if a == nil {
		return k.platform, nil
	}
	return k.open(a)
}

func (k *keyring) platformAddress() common.Address {
	return crypto.PubkeyToAddress(k.platform.PublicKey)
}

// relayerAddress is the first relayer's.
func (k *keyring) relayerAddress() common.Address { return k.relayers[0].at }

// sign signs an authorization under the network's true domain.
func (k *keyring) sign(a *ent.Agent, n evm.Network, auth evm.Authorization) ([]byte, error) {
	return k.signAs(a, auth.From, auth.Digest(n.Domain()))
}

// signAs signs a hash with the key of an address, which is an agent's or the platform's (nil).
func (k *keyring) signAs(a *ent.Agent, who common.Address, digest common.Hash) ([]byte, error) {
	key, err := k.signer(a)
	if err != nil {
		return nil, err
	}
	if crypto.PubkeyToAddress(key.PublicKey) != who {
		return nil, fmt.Errorf("core: key does not belong to %s", who)
	}
	return evm.Sign(key, digest)
}
