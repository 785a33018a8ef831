package config

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
)

// Secrets are what the program must not lose and must not show.
type Secrets struct {
	MasterKey   []byte
	JWTSecret   []byte
	PlatformKey *ecdsa.PrivateKey
	RelayerKey  *ecdsa.PrivateKey
	// MoreRelayers are empty unless they are given: none is made.
	MoreRelayers []*ecdsa.PrivateKey
}

const secretLength = 32 // bytes

// Secrets returns the given secrets, and for those that are not given the ones in the data folder, made at the
// first start of a server with mode 0600. Where secrets are required a missing one is an error that says how to make it.
func (c Config) Secrets() (Secrets, error) {
	var s Secrets
	var platform, relayer []byte
	for _, v := range []struct {
		name, given string
		to          *[]byte
	}{
		{"master-key", c.MasterKey, &s.MasterKey},
		{"jwt-secret", c.JWTSecret, &s.JWTSecret},
		{"platform-key", c.PlatformKey, &platform},
		{"relayer-key", c.RelayerKey, &relayer},
	} {
		b, err := c.secret(v.name, v.given)
		if err != nil {
			return Secrets{}, err
		}
		*v.to = b
	}
	if len(s.MasterKey) != secretLength {
		return Secrets{}, fmt.Errorf("--master-key: must have %d bytes, as %d hex digits", secretLength, 2*secretLength)
	}
	if len(s.JWTSecret) < secretLength {
		return Secrets{}, fmt.Errorf("--jwt-secret: must have at least %d bytes in hex", secretLength)
	}
	var err error
	if s.PlatformKey, err = crypto.ToECDSA(platform); err != nil {
		return Secrets{}, errors.New("--platform-key: is not a private key")
	}
	if s.RelayerKey, err = crypto.ToECDSA(relayer); err != nil {
		return Secrets{}, errors.New("--relayer-key: is not a private key")
	}
	if s.PlatformKey.Equal(s.RelayerKey) {
		return Secrets{}, errors.New("--relayer-key: must differ from --platform-key")
	}
	s.MoreRelayers, err = c.moreRelayers(s)
	return s, err
}

func (c Config) moreRelayers(s Secrets) ([]*ecdsa.PrivateKey, error) {
	all := []*ecdsa.PrivateKey{s.PlatformKey, s.RelayerKey}
	for _, text := range c.MoreRelayers {
		key, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(text), "0x"))
		if err != nil {
			return nil, errors.New("--more-relayer-keys: one is not a private key")
		}
		if slices.ContainsFunc(all, func(k *ecdsa.PrivateKey) bool { return k.Equal(key) }) {
			return nil, errors.New("--more-relayer-keys: must differ from one another, --relayer-key and --platform-key")
		}
		all = append(all, key)
	}
	return all[2:], nil
}

func (c Config) secret(name, given string) ([]byte, error) {
	if given != "" {
		b, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(given), "0x"))
		if err != nil {
			return nil, fmt.Errorf("--%s: is not hex", name)
		}
		return b, nil
	}
	if c.NeedsSecrets() {
		return nil, fmt.Errorf("--%s (BURSAR_%s) is required with --database-url or --rpc-url; make one with: openssl rand -hex %d",
			name, strings.ToUpper(strings.ReplaceAll(name, "-", "_")), secretLength)
	}
	return kept(filepath.Join(c.Data, "secrets", name), c.Command != "audit")
}

// kept reads a generated secret, or makes it where one may be made. It is written under another name first, so that a
// crash leaves either no file or a whole one.
func kept(path string, makes bool) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(b) != secretLength {
			return nil, fmt.Errorf("config: %s is damaged", path)
		}
		return b, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("config: %w", err)
	}
	if !makes {
		return nil, fmt.Errorf("%s is missing: only a server makes it, at its first start", path)
	}
	b := make([]byte, secretLength)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("config: no randomness: %w", err)
	}
	if err := WriteSecret(path, hex.EncodeToString(b)); err != nil {
		return nil, err
	}
	return b, nil
}

// WriteSecret stores a secret so that only this user can read it, whole or not at all.
func WriteSecret(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("config: write secret: %w", errors.Join(err, os.Remove(f.Name())))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return nil
}
