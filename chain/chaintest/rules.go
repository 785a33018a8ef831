package chaintest

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

// On keeps a rule to some methods.
func On(rule Rule, methods ...string) Rule {
	return func(r Request, next func(Request) Answer) Answer {
		if slices.Contains(methods, r.Method) {
			return rule(r, next)
		}
		return next(r)
	}
}

// Times keeps a rule to its first uses.
func Times(n int, rule Rule) Rule {
	var used atomic.Int64
	return func(r Request, next func(Request) Answer) Answer {
		if used.Add(1) <= int64(n) {
			return rule(r, next)
		}
		return next(r)
	}
}

// Sometimes makes a rule hold for one of n HTTP requests, by a chance that the seed fixes: what a URL does behind
// which several nodes stand.
func Sometimes(seed uint64, n int, rule Rule) Rule {
	return func(r Request, next func(Request) Answer) Answer {
		if rand.New(rand.NewPCG(seed, r.Turn)).IntN(n) == 0 {
			return rule(r, next)
		}
		return next(r)
	}
}

// Alone refuses batches of requests.
func Alone() Rule {
	return func(r Request, next func(Request) Answer) Answer {
		if r.Batch {
			return Answer{Status: http.StatusBadRequest}
		}
		return next(r)
	}
}

// LoseAnswer lets the node have the request and the client no answer.
func LoseAnswer() Rule {
	return func(r Request, next func(Request) Answer) Answer {
		next(r)
		return Answer{Cut: true}
	}
}

// LoseRequest ends the connection before the node has heard of the request.
func LoseRequest() Rule {
	return func(Request, func(Request) Answer) Answer { return Answer{Cut: true} }
}

// Delay answers late, unless the client has left by then: the node has not heard of the request in that case.
func Delay(d time.Duration) Rule {
	return func(r Request, next func(Request) Answer) Answer {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return next(r)
		case <-r.Gone:
			return Answer{Cut: true}
		}
	}
}

// Twice hands a request over twice and answers with what came the second time.
func Twice() Rule {
	return func(r Request, next func(Request) Answer) Answer {
		next(r)
		return next(r)
	}
}

// Status answers by an HTTP status, such as 429 or 500.
func Status(code int) Rule {
	return func(Request, func(Request) Answer) Answer { return Answer{Status: code} }
}

// RetryAfter answers HTTP 429 with the header of that name.
func RetryAfter(seconds int) Rule {
	return func(Request, func(Request) Answer) Answer {
		return Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {strconv.Itoa(seconds)}}}
	}
}

// Refuse answers with an error of JSON-RPC.
func Refuse(code int, text string) Rule {
	return func(Request, func(Request) Answer) Answer { return Answer{Error: &Refusal{Code: code, Message: text}} }
}

// Null answers that there is no such thing.
func Null() Rule {
	return func(Request, func(Request) Answer) Answer { return Answer{Result: json.RawMessage("null")} }
}

// ChainID says that the node serves another chain.
func ChainID(id uint64) Rule {
	return On(func(Request, func(Request) Answer) Answer {
		return Answer{Result: json.RawMessage(strconv.Quote(hexutil.EncodeUint64(id)))}
	}, "eth_chainId")
}

// OmitLogs leaves logs out of eth_getLogs, while everything else is as it should be: what some nodes did that had a
// block before its index.
func OmitLogs(omit func(types.Log) bool) Rule {
	return editLogs(func(logs []types.Log) []types.Log { return slices.DeleteFunc(logs, omit) })
}

// InventLogs makes eth_getLogs show logs that the chain does not have.
func InventLogs(extra ...types.Log) Rule {
	return editLogs(func(logs []types.Log) []types.Log { return append(logs, extra...) })
}

func editLogs(edit func([]types.Log) []types.Log) Rule {
	return On(func(r Request, next func(Request) Answer) Answer {
		a := next(r)
		var logs []types.Log
		if json.Unmarshal(a.Result, &logs) != nil {
			return a
		}
		text, err := json.Marshal(edit(logs))
		if err != nil {
			r.proxy.t.Error(err)
		}
		a.Result = text
		return a
	}, "eth_getLogs")
}

// AddField puts a field into the objects that a method answers.
func AddField(method, name, value string) Rule {
	return On(func(r Request, next func(Request) Answer) Answer {
		a := next(r)
		var object map[string]json.RawMessage
		if json.Unmarshal(a.Result, &object) != nil || object == nil {
			return a
		}
		object[name] = json.RawMessage(value)
		text, err := json.Marshal(object)
		if err != nil {
			r.proxy.t.Error(err)
		}
		a.Result = text
		return a
	}, method)
}

// OtherHash gives the block at a height another hash wherever it appears, as a node on a branch of its own would.
func OtherHash(number uint64) Rule {
	return func(r Request, next func(Request) Answer) Answer {
		var block *struct{ Hash common.Hash }
		r.proxy.ask(&block, "eth_getBlockByNumber", hexutil.EncodeUint64(number), false)
		a := next(r)
		if block != nil {
			lie := crypto.Keccak256Hash(block.Hash[:])
			a.Result = bytes.ReplaceAll(a.Result, []byte(block.Hash.Hex()), []byte(lie.Hex()))
		}
		return a
	}
}
