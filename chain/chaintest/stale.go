package chaintest

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// Stale answers as of some blocks ago: newer blocks, receipts and logs are not there yet, and the state is that of
// then. Transactions are taken.
func Stale(blocks uint64) Rule {
	return func(r Request, next func(Request) Answer) Answer {
		var head hexutil.Uint64
		r.proxy.ask(&head, "eth_blockNumber")
		limit := uint64(0)
		if uint64(head) > blocks {
			limit = uint64(head) - blocks
		}
		return asOf(limit, r, next)
	}
}

// Frozen answers as of a height, however far the chain goes.
func Frozen(at uint64) Rule {
	return func(r Request, next func(Request) Answer) Answer { return asOf(at, r, next) }
}

// tagAt is the place of a block's tag among a method's parameters.
var tagAt = map[string]int{
	"eth_getBlockByNumber": 0, "eth_call": 1, "eth_getBalance": 1, "eth_getCode": 1, "eth_getTransactionCount": 1, "eth_estimateGas": 1,
}

func asOf(limit uint64, r Request, next func(Request) Answer) Answer {
	null := Answer{Result: json.RawMessage("null")}
	switch r.Method {
	case "eth_blockNumber":
		return Answer{Result: json.RawMessage(strconv.Quote(hexutil.EncodeUint64(limit)))}
	case "eth_getLogs":
		return logsAsOf(limit, r, next)
	case "eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getBlockByHash":
		a := next(r)
		var of struct{ Number, BlockNumber *hexutil.Uint64 }
		if json.Unmarshal(a.Result, &of) == nil {
			for _, n := range []*hexutil.Uint64{of.Number, of.BlockNumber} {
				if n != nil && uint64(*n) > limit {
					return null
				}
			}
		}
		return a
	}
	place, ok := tagAt[r.Method]
	if !ok {
		return next(r)
	}
	tag := "latest"
	if place < len(r.Params) {
		_ = json.Unmarshal(r.Params[place], &tag) // a tag of another form is taken for the newest
	}
	if number, err := hexutil.DecodeUint64(tag); err == nil {
		switch {
		case number <= limit:
			return next(r)
		case r.Method == "eth_getBlockByNumber":
			return null
		}
		return Answer{Error: &Refusal{Code: -32000, Message: "header not found"}}
	}
	r.Params = slices.Clone(r.Params)
	for len(r.Params) <= place {
		r.Params = append(r.Params, nil)
	}
	r.Params[place] = json.RawMessage(strconv.Quote(hexutil.EncodeUint64(limit)))
	return next(r)
}

// logsAsOf cuts the range at the limit without a word, which is what makes such a node dangerous.
func logsAsOf(limit uint64, r Request, next func(Request) Answer) Answer {
	var query map[string]json.RawMessage
	if len(r.Params) != 1 || json.Unmarshal(r.Params[0], &query) != nil {
		return next(r)
	}
	bound := func(name string) uint64 {
		var tag string
		if json.Unmarshal(query[name], &tag) == nil {
			if number, err := hexutil.DecodeUint64(tag); err == nil {
				return number
			}
		}
		return limit
	}
	if bound("fromBlock") > limit {
		return Answer{Result: json.RawMessage("[]")}
	}
	query["toBlock"] = json.RawMessage(strconv.Quote(hexutil.EncodeUint64(min(limit, bound("toBlock")))))
	text, err := json.Marshal(query)
	if err != nil {
		r.proxy.t.Error(err)
	}
	r.Params = []json.RawMessage{text}
	return next(r)
}
