package evm

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// Chain ids that the registry knows.
const (
	BaseID        = 8453
	BaseSepoliaID = 84532
	// DevID is the embedded development chain. It differs from every public chain, so that nothing signed
	// here is valid elsewhere although token and name equal those of Base Sepolia.
	DevID = 845321337
)

// Network is what the program knows of a chain without asking it. Decimals and EIP-712 names come from here
// and never from a seller.
type Network struct {
	ChainID       uint64
	Name          string // short name, as x402 v1 and the published APIs spell it
	Testnet       bool
	USDC          common.Address
	DomainName    string // EIP-712 domain of USDC: "USD Coin" on Base, "USDC" on Base Sepolia
	DomainVersion string
	WETH          common.Address
	Multicall3    common.Address
	Confirmations uint64 // blocks on top before a log is final for the ledger
	ExplorerTx    string // prefix of a transaction page, may be empty
}

var (
	usdcSepolia = common.HexToAddress("0x036CbD53842c5426634e7929541eC2318f3dCF7e")
	weth        = common.HexToAddress("0x4200000000000000000000000000000000000006")
	multicall3  = common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11")
)

// Networks lists the registry. Addresses: developers.circle.com "USDC Contract Addresses", docs.base.org
// "Ecosystem Contracts".
func Networks() []Network {
	return []Network{
		{
			ChainID: BaseID, Name: "base", USDC: common.HexToAddress("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
			DomainName: "USD Coin", DomainVersion: "2", WETH: weth, Multicall3: multicall3, Confirmations: 5,
			ExplorerTx: "https://basescan.org/tx/",
		},
		{
			ChainID: BaseSepoliaID, Name: "base-sepolia", Testnet: true, USDC: usdcSepolia,
			DomainName: "USDC", DomainVersion: "2", WETH: weth, Multicall3: multicall3, Confirmations: 5,
			ExplorerTx: "https://sepolia.basescan.org/tx/",
		},
		{
			ChainID: DevID, Name: "bursar-dev", Testnet: true, USDC: usdcSepolia,
			DomainName: "USDC", DomainVersion: "2", WETH: weth, Multicall3: multicall3,
		},
	}
}

// NetworkByID finds a network by its chain id.
func NetworkByID(id uint64) (Network, bool) {
	for _, n := range Networks() {
		if n.ChainID == id {
			return n, true
		}
	}
	return Network{}, false
}

// ParseNetwork reads either spelling of a network: "base-sepolia" (x402 v1) or "eip155:84532" (CAIP-2).
// It reports false for a network that the registry lacks.
func ParseNetwork(s string) (Network, bool) {
	if id, ok := strings.CutPrefix(s, "eip155:"); ok {
		v, err := strconv.ParseUint(id, 10, 64)
		if err != nil || strconv.FormatUint(v, 10) != id {
			return Network{}, false
		}
		return NetworkByID(v)
	}
	for _, n := range Networks() {
		if n.Name == s {
			return n, true
		}
	}
	return Network{}, false
}

// CAIP2 is the network's chain-agnostic name, "eip155:8453".
func (n Network) CAIP2() string { return fmt.Sprintf("eip155:%d", n.ChainID) }

// Domain is the EIP-712 domain of the network's USDC.
func (n Network) Domain() Domain {
	return Domain{Name: n.DomainName, Version: n.DomainVersion, ChainID: new(big.Int).SetUint64(n.ChainID), Token: n.USDC}
}

// Uint256 is v as a 32-byte big-endian word, the form in which contracts hash numbers.
func Uint256(v uint64) []byte { return new(big.Int).SetUint64(v).FillBytes(make([]byte, 32)) }
