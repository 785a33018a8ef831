package chain_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"pgregory.net/rapid"

	"bursar/evm"
	"bursar/money"
)

// typedDigest goes the long way, through go-ethereum's general EIP-712 encoder.
func typedDigest(t *rapid.T, d evm.Domain, a evm.Authorization) []byte {
	field := func(name, kind string) apitypes.Type { return apitypes.Type{Name: name, Type: kind} }
	hash, _, err := apitypes.TypedDataAndHash(apitypes.TypedData{
		Types: apitypes.Types{
			"EIP712Domain": {
				field("name", "string"), field("version", "string"), field("chainId", "uint256"), field("verifyingContract", "address"),
			},
			"TransferWithAuthorization": {
				field("from", "address"), field("to", "address"), field("value", "uint256"),
				field("validAfter", "uint256"), field("validBefore", "uint256"), field("nonce", "bytes32"),
			},
		},
		PrimaryType: "TransferWithAuthorization",
		Domain: apitypes.TypedDataDomain{
			Name: d.Name, Version: d.Version, ChainId: (*math.HexOrDecimal256)(d.ChainID), VerifyingContract: d.Token.Hex(),
		},
		Message: apitypes.TypedDataMessage{
			"from": a.From.Hex(), "to": a.To.Hex(), "value": a.Value.Big(),
			"validAfter": big.NewInt(a.ValidAfter), "validBefore": big.NewInt(a.ValidBefore), "nonce": a.Nonce[:],
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestDigestEqualsTypedData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytesOf := func(n int, label string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label) }
		d := evm.Domain{
			Name: rapid.StringN(1, 20, -1).Draw(t, "name"), Version: rapid.StringN(1, 4, -1).Draw(t, "version"),
			ChainID: new(big.Int).SetUint64(rapid.Uint64().Draw(t, "chain")),
			Token:   common.BytesToAddress(bytesOf(common.AddressLength, "token")),
		}
		a := evm.Authorization{
			From: common.BytesToAddress(bytesOf(common.AddressLength, "from")), To: common.BytesToAddress(bytesOf(common.AddressLength, "to")),
			Value:      money.USDC(rapid.Int64Range(0, int64(money.Max)).Draw(t, "value")),
			ValidAfter: rapid.Int64Min(0).Draw(t, "after"), ValidBefore: rapid.Int64Min(0).Draw(t, "before"),
			Nonce: common.BytesToHash(bytesOf(common.HashLength, "nonce")),
		}
		digest := a.Digest(d)
		if want := typedDigest(t, d, a); !bytes.Equal(digest[:], want) {
			t.Fatalf("digest %s, want %x", digest, want)
		}
		key, err := crypto.ToECDSA(crypto.Keccak256(bytesOf(4, "key")))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := evm.Sign(key, digest)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := evm.Recover(digest, sig); err != nil || who != crypto.PubkeyToAddress(key.PublicKey) {
			t.Fatalf("recovered %s, %v", who, err)
		}
	})
}

// A permit's digest is that of the typed data which a wallet is given to sign, by go-ethereum's general encoder.
func TestPermitEqualsTypedData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := func(label string) common.Address {
			return common.BytesToAddress(rapid.SliceOfN(rapid.Byte(), common.AddressLength, common.AddressLength).Draw(t, label))
		}
		d := evm.Domain{
			Name: rapid.StringMatching(`[A-Za-z ]{1,20}`).Draw(t, "name"), Version: rapid.StringMatching(`[0-9.]{1,4}`).Draw(t, "version"),
			ChainID: new(big.Int).SetUint64(rapid.Uint64().Draw(t, "chain")), Token: address("token"),
		}
		p := evm.Permit{
			Owner: address("owner"), Spender: address("spender"), Value: money.USDC(rapid.Int64Range(0, int64(money.Max)).Draw(t, "value")),
			Nonce: rapid.Uint64().Draw(t, "nonce"), Deadline: rapid.Int64Min(0).Draw(t, "deadline"),
		}
		text, err := p.TypedData(d)
		if err != nil {
			t.Fatal(err)
		}
		var data apitypes.TypedData
		if err := json.Unmarshal([]byte(text), &data); err != nil {
			t.Fatal(err)
		}
		want, _, err := apitypes.TypedDataAndHash(data)
		if err != nil {
			t.Fatal(err)
		}
		if digest := p.Digest(d); !bytes.Equal(digest[:], want) {
			t.Fatalf("digest %s, want %x of %s", digest, want, text)
		}
	})
}

func TestPersonalDigestEqualsWallets(t *testing.T) {
	for _, text := range []string{"", "a", "Bursar\n\nä €", strings.Repeat("x", 1000)} {
		if digest := evm.PersonalDigest(text); !bytes.Equal(digest[:], accounts.TextHash([]byte(text))) {
			t.Errorf("%q: %s", text, digest)
		}
	}
}
