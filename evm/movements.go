package evm

import (
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"bursar/money"
)

// Movements reads the USDC movements out of logs of Transfer and AuthorizationUsed, in chain order. An
// authorization's Transfer follows its AuthorizationUsed at once in the same transaction (EIP3009.sol marks
// the nonce and then transfers), which is how the two are paired. Logs with amounts above money.Max, which no
// account of ours can have, are left out.
func Movements(token common.Address, logs []types.Log) []Movement {
	logs = slices.Clone(logs)
	slices.SortFunc(logs, func(a, b types.Log) int {
		if a.BlockNumber != b.BlockNumber {
			return int(int64(a.BlockNumber) - int64(b.BlockNumber))
		}
		return int(a.Index) - int(b.Index)
	})
	var out []Movement
	for i, l := range logs {
		if l.Address != token || l.Removed || len(l.Topics) != 3 || l.Topics[0] != TopicTransfer || len(l.Data) != 32 {
			continue
		}
		amount, err := money.FromBig(new(big.Int).SetBytes(l.Data))
		if err != nil {
			continue
		}
		m := Movement{
			From: common.BytesToAddress(l.Topics[1][12:]), To: common.BytesToAddress(l.Topics[2][12:]), Amount: amount,
			TxHash: l.TxHash, LogIndex: l.Index, Block: l.BlockNumber, BlockHash: l.BlockHash,
		}
		if i > 0 {
			m.AuthNonce = usedNonce(token, logs[i-1], l, m.From)
		}
		out = append(out, m)
	}
	return out
}

// MovementsOf is Movements over the logs of one receipt.
func MovementsOf(token common.Address, logs []*types.Log) []Movement {
	flat := make([]types.Log, len(logs))
	for i, l := range logs {
		flat[i] = *l
	}
	return Movements(token, flat)
}

func usedNonce(token common.Address, before, transfer types.Log, from common.Address) *common.Hash {
	if before.Address != token || before.TxHash != transfer.TxHash || before.Index+1 != transfer.Index ||
		len(before.Topics) != 3 || before.Topics[0] != TopicAuthorizationUsed || common.BytesToAddress(before.Topics[1][12:]) != from {
		return nil
	}
	nonce := before.Topics[2]
	return &nonce
}
