package devnet

import (
	"crypto/ecdsa"
	"embed"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"

	"bursar/evm"
)

// The genesis block is part of every data folder: changing one byte of a contract or a number below makes old
// folders refuse to start. A change therefore comes with the next folder name, and a test holds the hash. A folder that
// has a chain under an earlier name is refused in words (see outdated).
const (
	folderPrefix = "devnet-v"
	folder       = folderPrefix + "2"
)

const (
	genesisTime = 1_704_067_200 // 2024-01-01, so that authorizations valid "since 0" or "since ten minutes ago" are
	gasLimit    = 60_000_000
	baseFeeWei  = 1_000_000
)

// Storage slots of DevUSDC, as compile.cjs prints them.
const slotMinters = 5

//go:embed contracts/*.runtime
var runtimes embed.FS

// faucetSeed makes the one key that the genesis favours: it mints USDC and owns a billion ether. It is public on
// purpose. The chain has no value, its id is used nowhere else and its RPC listens on loopback only.
const faucetSeed = "bursar development chain faucet"

// FaucetKey is the fixed, public development key that mints USDC and is rich in ether.
func FaucetKey() (*ecdsa.PrivateKey, error) {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte(faucetSeed)))
	if err != nil {
		return nil, fmt.Errorf("devnet: faucet key: %w", err)
	}
	return key, nil
}

// chainConfig ends at Prague. The "all changes" configurations of go-ethereum include unreleased forks whose gas
// costs differ by a factor of three from those of Base.
func chainConfig(id uint64) *params.ChainConfig {
	zero, now := new(big.Int), uint64(0)
	return &params.ChainConfig{
		ChainID: new(big.Int).SetUint64(id), HomesteadBlock: zero, EIP150Block: zero, EIP155Block: zero, EIP158Block: zero,
		ByzantiumBlock: zero, ConstantinopleBlock: zero, PetersburgBlock: zero, IstanbulBlock: zero, MuirGlacierBlock: zero,
		BerlinBlock: zero, LondonBlock: zero, ArrowGlacierBlock: zero, GrayGlacierBlock: zero,
		TerminalTotalDifficulty: zero, ShanghaiTime: &now, CancunTime: &now, PragueTime: &now,
		BlobScheduleConfig: &params.BlobScheduleConfig{Cancun: params.DefaultCancunBlobConfig, Prague: params.DefaultPragueBlobConfig},
	}
}

func genesis(network evm.Network) (*core.Genesis, error) {
	key, err := FaucetKey()
	if err != nil {
		return nil, err
	}
	faucet := crypto.PubkeyToAddress(key.PublicKey)
	// Listed one by one, since the list of go-ethereum grows from version to version.
	alloc := types.GenesisAlloc{
		params.BeaconRootsAddress:        {Nonce: 1, Code: params.BeaconRootsCode, Balance: new(big.Int)},
		params.HistoryStorageAddress:     {Nonce: 1, Code: params.HistoryStorageCode, Balance: new(big.Int)},
		params.WithdrawalQueueAddress:    {Nonce: 1, Code: params.WithdrawalQueueCode, Balance: new(big.Int)},
		params.ConsolidationQueueAddress: {Nonce: 1, Code: params.ConsolidationQueueCode, Balance: new(big.Int)},
		faucet:                           {Balance: new(big.Int).Mul(big.NewInt(1_000_000_000), big.NewInt(params.Ether))},
	}
	minter := map[common.Hash]common.Hash{mapSlot(faucet, slotMinters): common.BigToHash(big.NewInt(1))}
	for _, c := range []struct {
		file    string
		address common.Address
		storage map[common.Hash]common.Hash
	}{
		{"DevUSDC", network.USDC, minter},
		{"DevWETH", network.WETH, nil},
		{"DevMulticall3", network.Multicall3, nil},
		{"DevPermit2", evm.Permit2, nil},
		{"DevX402ExactPermit2Proxy", evm.ExactProxy, nil},
		{"DevX402UptoPermit2Proxy", evm.UptoProxy, nil},
	} {
		text, err := runtimes.ReadFile("contracts/" + c.file + ".runtime")
		if err != nil {
			return nil, fmt.Errorf("devnet: contract %s: %w", c.file, err)
		}
		code := common.FromHex(strings.TrimSpace(string(text)))
		alloc[c.address] = types.Account{Nonce: 1, Code: code, Storage: c.storage, Balance: new(big.Int)}
	}
	return &core.Genesis{
		Config: chainConfig(network.ChainID), Timestamp: genesisTime, GasLimit: gasLimit, BaseFee: big.NewInt(baseFeeWei),
		Difficulty: new(big.Int), Alloc: alloc,
	}, nil
}

// mapSlot is the storage key of mapping[key] for a mapping at the slot.
func mapSlot(key common.Address, slot int64) common.Hash {
	return crypto.Keccak256Hash(common.LeftPadBytes(key[:], 32), common.LeftPadBytes(big.NewInt(slot).Bytes(), 32))
}
